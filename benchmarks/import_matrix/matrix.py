"""Write encoders by every exporter in every opset, and import each file."""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
import torch

from benchmarks.import_matrix.networks import NETWORKS, SIZE_PX, keras_like, make_network
from verifykit.errors import VerifyKitError
from verifykit_export.import_onnx import ImportRequest, import_foreign
from verifykit_export.opsets import opset_of

Exporter: TypeAlias = Literal["dynamo=False", "dynamo=True", "tf2onnx's form"]

OPSETS = range(11, 25)
KERAS = "Keras-like, (N, H, W, C)"
# What each writes at all; a network may need a newer one.
_WRITTEN: dict[Exporter, range] = {
    "dynamo=False": range(11, 24),
    "dynamo=True": range(18, 25),
    "tf2onnx's form": OPSETS,
}


@dataclass(frozen=True)
class Case:
    """One file: a network, who writes it, its batch (0 is free) and its opset."""

    network: str
    exporter: Exporter
    batch: int
    opset: int


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        case: The file.
        gap: Greatest 1 - cosine to the original; None if it was not imported.
        one_by_one: Whether several images are embedded one after the other.
        refusal: The sentence of a refusal.
        failure: Another exception: a fault of verifykit.
    """

    case: Case
    gap: float | None = None
    one_by_one: bool = False
    refusal: str = ""
    failure: str = ""


def all_cases(networks: Sequence[str], opsets: Sequence[int]) -> Iterator[Case]:
    """Yield every combination, those of one network, exporter and batch in a row."""
    for network in networks:
        exporters: tuple[Exporter, ...] = ("dynamo=False", "dynamo=True")
        for exporter in ("tf2onnx's form",) if network == KERAS else exporters:
            for batch in (1, 0):
                for opset in opsets:
                    if opset in _WRITTEN[exporter]:
                        yield Case(network, exporter, batch, opset)


def all_networks() -> list[str]:
    """Return the names of all networks."""
    return [*NETWORKS, KERAS]


class Exporters:
    """Writes the files; a network is made and traced once."""

    def __init__(self) -> None:
        self._traced: tuple[tuple[str, int], torch.export.ExportedProgram] | None = None

    def write(self, case: Case, path: Path) -> bool:
        """Write a file; return False if its exporter does not write this opset."""
        if case.exporter == "tf2onnx's form":
            onnx.save(keras_like(case.opset, batch=case.batch or "unk__1"), path)
            return True
        with _quiet():
            write = self._write_new if case.exporter == "dynamo=True" else self._write_old
            try:
                write(case, path)
            except (ValueError, torch.onnx.errors.OnnxExporterError):
                return False
        return opset_of(onnx.load(path, load_external_data=False)) == case.opset

    def _write_old(self, case: Case, path: Path) -> None:
        torch.onnx.export(
            make_network(case.network),
            (_image(),),
            path,
            dynamo=False,
            opset_version=case.opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=None if case.batch else {"input": {0: "N"}, "output": {0: "N"}},
        )

    def _write_new(self, case: Case, path: Path) -> None:
        key = (case.network, case.batch)
        if self._traced is None or self._traced[0] != key:
            # Two, for torch takes an axis of one image as fixed.
            images = _image(1 if case.batch else 2)
            shapes = None if case.batch else ({0: torch.export.Dim("N")},)
            network = make_network(case.network)
            self._traced = (
                key,
                torch.export.export(network, (images,), dynamic_shapes=shapes),
            )
        torch.onnx.export(
            self._traced[1], (), path, dynamo=True, opset_version=case.opset, verbose=False
        )


def _image(count: int = 1) -> torch.Tensor:
    return torch.zeros(count, 3, SIZE_PX, SIZE_PX)


def import_case(case: Case, source: Path, folder: Path) -> Outcome:
    """Import a file; anything but success and a refusal is a failure."""
    request = ImportRequest(
        source_file=source,
        target=folder / "imported.onnx",
        modality="face",
        color="rgb",
        scale=1.0,
        mean=(127.5,) * 3,
        std=(127.5,) * 3,
        crop="plain",
        licence="CC0-1.0",
        source="random weights",
        layout="nhwc" if case.network == KERAS else "nchw",
    )
    try:
        done = import_foreign(request)
    except VerifyKitError as error:
        return Outcome(case, refusal=" ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001 - counted as what must not happen
        return Outcome(case, failure=f"{type(error).__name__}: {error}")
    one_by_one = any("one after the other" in note for note in done.notes)
    return Outcome(case, gap=done.parity.gap, one_by_one=one_by_one)


def try_network(network: str, opsets: Sequence[int] = OPSETS) -> list[Outcome]:
    """Return the outcome of each file of a network that its exporters write."""
    torch.set_num_threads(1)
    exporters, outcomes = Exporters(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "theirs.onnx"
        for case in all_cases([network], opsets):
            for old in folder.iterdir():
                old.unlink()
            if exporters.write(case, source):
                outcomes.append(import_case(case, source, folder))
    return outcomes


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, which warn of every network and print those that they cannot write."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
