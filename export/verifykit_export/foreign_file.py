"""Read an ONNX file of another project, with the files in which its weights may be stored."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import inliner
from onnx.external_data_helper import load_external_data_for_model

from verifykit.errors import shortened, shortened_path
from verifykit_export.errors import ExportError
from verifykit_export.network import subgraphs

# protobuf's, and so that of every ONNX file that holds its own weights.
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True)
class ForeignFile:
    """A file as it was found.

    Attributes:
        path: The ONNX file.
        model: Its network, all weights inside and local functions inlined.
        sha256: Of its bytes; with weights in other files, of the digests of all files.
    """

    path: Path
    model: onnx.ModelProto
    sha256: str


def read_foreign(path: Path) -> ForeignFile:
    """Read a file and its weights; raise ExportError if that is not possible."""
    model = _loaded(path, path)
    others = sorted(
        {_location(tensor) for tensor in _tensors(model) if tensor.external_data} - {""}
    )
    _require_size(path, others)
    try:
        load_external_data_for_model(model, str(path.parent))
        sha256 = _digest(path, others)
    except Exception as error:  # as above
        raise ExportError(
            f"{shortened(path)}: its weights are in {shortened(', '.join(others))}, which cannot be read: "
            f"{str(shortened_path(error)).rstrip('. ')}; keep these files next to it"
        ) from error
    return ForeignFile(path, _inlined(model), sha256)


def parsed(data: bytes, name: str | Path) -> onnx.ModelProto:
    """Return the network in the bytes of an ONNX file; raise ExportError if they are none."""
    return _inlined(_loaded(io.BytesIO(data), name))


def _loaded(source: Path | io.BytesIO, name: str | Path) -> onnx.ModelProto:
    try:
        model = onnx.load(source, load_external_data=False)
    except Exception as error:  # protobuf, onnx and the system each raise their own
        raise ExportError(
            f"{shortened(name)} is no ONNX file that can be read: {shortened_path(error)}"
        ) from error
    if not model.graph.node:
        raise ExportError(
            f"{shortened(name)} is no ONNX file that can be read: it holds no network"
        )
    return model


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return inliner.inline_local_functions(model) if model.functions else model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for node in graph.node:
            graphs += subgraphs(node)
            yield from (item.t for item in node.attribute if item.HasField("t"))


def _location(tensor: onnx.TensorProto) -> str:
    return next((item.value for item in tensor.external_data if item.key == "location"), "")


def _require_size(path: Path, others: list[str]) -> None:
    sizes = [path.stat().st_size]
    sizes += [(path.parent / other).stat().st_size for other in others if _is_there(path, other)]
    if sum(sizes) > _MOST_BYTES:
        raise ExportError(
            f"{shortened(path)} and its weights are {sum(sizes) / 2**30:.1f} GiB; a model file holds its "
            "weights and cannot be larger than 2 GiB: import a smaller encoder"
        )


def _is_there(path: Path, other: str) -> bool:
    return (path.parent / other).is_file()


def _digest(path: Path, others: list[str]) -> str:
    digests = [file_digest(path), *(file_digest(path.parent / other) for other in others)]
    return digests[0] if not others else hashlib.sha256("".join(digests).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
