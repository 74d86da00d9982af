"""Compose the networks of training runs, and export them from torch to ONNX."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import nn

from verifykit.errors import ModelContractError, shortened, shown
from verifykit.spec import InputSpec
from verifykit_export.errors import ExportError
from verifykit_export.network import Network
from verifykit_export.passes import drop_dead, drop_identities, fold_batch_norm, fold_constants
from verifykit_training.config import Config
from verifykit_training.encoders import VIEWS, JoinedEncoders, MirroredViews
from verifykit_training.evaluation import load_encoder
from verifykit_training.learner import input_of
from verifykit_training.run_folder import EncoderRecord, RunFolder, TeacherRecord

# The lowest that torch's exporter writes; ONNX Runtime knows it since 1.14.
TORCH_OPSET = 18

_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


def to_onnx(
    encoder: nn.Module, spec: InputSpec, embedding_size: int, *, opset: int = TORCH_OPSET
) -> onnx.ModelProto:
    """Export an encoder with everything in it, the rows' normalisation to unit length too, in float32."""
    example = torch.zeros(2, spec.channels, spec.height_px, spec.width_px)
    batch = torch.export.Dim("batch")
    with _quiet():
        try:
            program = torch.onnx.export(
                encoder,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["input"],
                output_names=["embedding"],
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
        except Exception as error:  # torch has no common one
            raise ExportError(f"torch's ONNX exporter failed: {error}") from error
    assert program is not None  # noqa: S101 - returned with dynamo=True
    model = program.model_proto
    require_contract(model, spec, embedding_size, opset)
    network = Network.from_model(model, opset)
    for node in network.nodes:
        # The exporter notes the source lines, with the paths of this machine.
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*network.inputs, *network.outputs):
        del value.metadata_props[:]
    fold_constants(network)
    drop_identities(network)
    fold_batch_norm(network)
    drop_dead(network)
    clean = network.to_model("encoder")
    require_contract(clean, spec, embedding_size, opset)
    return clean


def require_contract(
    model: onnx.ModelProto, spec: InputSpec, embedding_size: int, opset: int
) -> None:
    """Raise ExportError unless an exported model has the required opset, input and output."""
    found = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if found != [opset]:
        raise ExportError(
            f"opset {opset} was requested, torch's exporter wrote {', '.join(map(str, found))}: ask for "
            "one that it writes"
        )
    required = {
        "input": [spec.channels, spec.height_px, spec.width_px],
        "embedding": [embedding_size],
    }
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].HasField("dim_value") or not dims[0].dim_param:
            raise ExportError(
                f"{shown(value.name)}: the number of images is not free in the exported file"
            )
        sizes = [dim.dim_value for dim in dims[1:]]
        if sizes != required.get(value.name):
            raise ExportError(
                f"{shown(value.name)}: required (N, {required.get(value.name)}), the exported file has "
                f"{sizes}"
            )
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in model.graph.initializer):
        raise ExportError("the exporter put weights into a second file")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: what it logs is checked in the file it writes."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@dataclass(frozen=True)
class Composition:
    """A network to be exported, and where it comes from.

    Attributes:
        run: The first run: its training subjects are those of all.
        config: Its configuration.
        record: What becomes the specification; ``embedding_size`` is that of the whole.
        encoder: The whole network, in eval mode.
        source: Runs and epochs, human-readable.
        source_sha256: Of the weights; of several, of their digests one after the other.
        teachers: Those that the runs learnt from.
    """

    run: RunFolder
    config: Config
    record: EncoderRecord
    encoder: nn.Module
    source: str
    source_sha256: str
    teachers: tuple[TeacherRecord, ...] = ()


def compose(path: Path, others: Sequence[Path] = (), *, mirrored: bool = False) -> Composition:
    """Load a run's network, combined with those of other runs."""
    runs = [RunFolder(each) for each in (path, *others)]
    records = [run.read_record() for run in runs]
    loaded = [load_encoder(run) for run in runs]
    for run, record, (_, config) in zip(runs, records, loaded, strict=True):
        _require_consistent(run, config, record)
        _require_company(runs[0], records[0], run, record)
        if mirrored:
            _require_mirrors(config, record)
    whole: nn.Module = (
        loaded[0][0] if len(loaded) == 1 else JoinedEncoders([each for each, _ in loaded])
    )
    size = sum(record.embedding_size for record in records)
    if mirrored:
        whole, size = MirroredViews(whole), VIEWS * size
    digests = [hashlib.sha256(run.weights.read_bytes()).hexdigest() for run in runs]
    several = hashlib.sha256("".join(digests).encode()).hexdigest()
    source = " and ".join(
        f"training run {record.name}, {record.encoder}, weights of epoch {record.epoch}"
        for record in records
    )
    return Composition(
        runs[0],
        loaded[0][1],
        replace(records[0], embedding_size=size),
        whole.eval(),
        source + (", mirror images too" if mirrored else ""),
        digests[0] if len(digests) == 1 else several,
        tuple(dict.fromkeys(each.teacher for each in records if each.teacher is not None)),
    )


def _require_consistent(run: RunFolder, config: Config, record: EncoderRecord) -> None:
    stated = (record.encoder, record.embedding_size, record.input, record.modality)
    section = config.encoder
    configured = (section.name, section.embedding_size, input_of(config), config.modality)
    if stated != configured:
        raise ModelContractError(
            f"{shortened(run.path)}: spec.json and config.toml are not of one run: {stated} and {configured}"
        )


def _require_company(
    first: RunFolder, of_first: EncoderRecord, run: RunFolder, record: EncoderRecord
) -> None:
    for name in ("modality", "input", "crop", "detector_model"):
        if getattr(record, name) != getattr(of_first, name):
            raise ExportError(
                f"{shortened(run.path)} cannot be combined with {shortened(first.path)}: its {name} is "
                f"{getattr(record, name)}, not {getattr(of_first, name)}"
            )
    known, more = (set(each.read_subjects().get("train", ())) for each in (first, run))
    if unknown := sorted(more - known):
        raise ExportError(
            f"{shortened(run.path)} was trained on {len(unknown)} subject(s) that {shortened(first.path)} "
            f"was not, for example {shown(unknown[0])}: the rates would be measured on them; name the run "
            "with more subjects first"
        )


def _require_mirrors(config: Config, record: EncoderRecord) -> None:
    hand = config.augmentation.hand
    if hand is None or not hand.mirror:
        raise ExportError(
            f"run {shown(record.name)} was not trained on mirrored subjects (augmentation.hand.mirror): its "
            "embeddings of mirror images mean nothing; export without mirrored"
        )
