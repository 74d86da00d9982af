"""Export a training run as one model file, proved equal to its network."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import numpy_helper

from verifykit._files import atomic_write
from verifykit.evaluation.calibrate import Measured as MeasuredPoints
from verifykit.evaluation.calibrate import default_rate, measured_points
from verifykit.evaluation.reference_scores import DRAWS
from verifykit.models import load, render_card
from verifykit.session import Session
from verifykit.spec import Fusion, InputSpec, ModelSpec, Provenance
from verifykit.types import Embeddings
from verifykit_export.errors import ExportError
from verifykit_export.model_card import (
    Cost,
    Measured,
    card_path,
    render_measured,
    teacher_text,
    whose,
)
from verifykit_export.modelfile import golden_embedding, swapped_cosine, weights_digest, write_model
from verifykit_export.parity import (
    BATCH,
    Parity,
    bounded_fnmr,
    cosine_gap,
    embed_with_onnx,
    embed_with_torch,
    open_session,
    require_equal,
)
from verifykit_export.precision import Precision, to_float16, to_int8
from verifykit_export.samples import Samples, read_samples
from verifykit_export.torch_export import TORCH_OPSET, Composition, compose, to_onnx
from verifykit_training.encoders import EmbeddingNetwork
from verifykit_training.encoders.weights_in_model import training_entry
from verifykit_training.evaluation import Verification, verification_rates
from verifykit_training.run_folder import EncoderRecord
from verifykit_training.stages import Stages, stage

_GOLDEN_TOLERANCE = {"fp32": 0.999, "fp16": 0.999, "int8": 0.99}
_TIMED_RUNS = 15


@dataclass(frozen=True)
class ExportRequest:
    """Options of an export.

    Attributes:
        run: The run's folder.
        target: The model file; its card is written next to it as ``.md``.
        data: Real images: the run's data or others, a folder or a CSV.
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        name: The model's name; None takes the run's.
        citation: The paper or project to credit.
        opset: The ONNX operator set.
        max_eer_rise: How much the EER of fp16 or int8 may lie above that of float32, in [0, 1].
        fusion: How the scores of several references become one.
        beside: Further runs whose networks embed the same image: see ``torch_export.compose``.
        mirrored: Whether the networks embed mirror images too.
        images: Stop adding subjects for the rates at this number of images.
        known_subjects: Measure on further images of the training subjects; then without operating points.
        cache: Folder of the crops; None is verifykit's own.
    """

    run: Path
    target: Path
    data: Path
    precision: Precision = "fp32"
    name: str | None = None
    citation: str = "none"
    opset: int = TORCH_OPSET
    max_eer_rise: float = 0.005
    fusion: Fusion = "mean"
    beside: tuple[Path, ...] = ()
    mirrored: bool = False
    images: int = 500
    known_subjects: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class Exported:
    """Paths, specification and measurements of an exported model.

    Attributes:
        path: The model file.
        card: The card next to it.
        spec: Its specification.
        measured: Gate, rates, size and speed.
        notes: Which images were left out of the rates, and why, a sentence each.
    """

    path: Path
    card: Path
    spec: ModelSpec
    measured: Measured
    notes: tuple[str, ...] = ()


def export_run(request: ExportRequest, *, stages: Stages | None = None) -> Exported:
    """Export, prove, measure, calibrate and write a model file.

    Args:
        request: Which run, where to, and how.
        stages: Called with the name of a stage, how much of it is done, and of how much.

    Returns:
        The model file's path, specification and measurements.

    Raises:
        ExportError: The file does not reproduce the network, or a smaller precision costs too much.
        DataError: The data hold too few images of subjects that the run was not trained on.
        TrainingError: The folder is not that of a finished run.
    """
    whole = compose(request.run, request.beside, mirrored=request.mirrored)
    encoder, record = whole.encoder, whole.record
    card = card_path(request.target, request.name or record.name)
    samples = read_samples(
        whole.run,
        whole.config,
        record,
        request.data,
        limit=request.images,
        cache=request.cache,
        known_subjects=request.known_subjects,
        stages=stages,
    )
    float32 = to_onnx(encoder, record.input, record.embedding_size, opset=request.opset)
    session = open_session(float32)
    rows, parity = _prove(whole, session, samples, stages)
    rates = _rates(rows, samples)
    model, reference = float32, None
    if request.precision != "fp32":
        reference = rates
        model = _reduced(request.precision, float32, record.input, samples)
        reduced = open_session(model)
        before, rows = rows, embed_with_onnx(reduced, record.input, samples.crops)
        rates = _rates(rows, samples)
        parity = replace(parity, reduced_gap=cosine_gap(before, rows))
        _require_small_rise(request, reference.eer, rates.eer)
        costs = _costs(
            {"fp32": (float32, session), request.precision: (model, reduced)}, samples, record
        )
    else:
        costs = _costs({"fp32": (float32, session)}, samples, record)
    points = _points(request, rows, samples)
    spec = _spec(request, whole, model, rates, points)
    detector = None
    if record.detector_model is not None:
        data = load(record.detector_model).detector
        detector = onnx.load_model_from_string(data) if data is not None else None
    write_model(request.target, model, spec, detector, training=_training(whole, float32))
    measured = Measured(
        precision=request.precision,
        opset=request.opset,
        parity=parity,
        rates=rates,
        float32_eer=rates.eer if reference is None else reference.eer,
        points=points.points,
        costs=costs,
        swapped_cosine=swapped_cosine(model, record.input),
        file_bytes=request.target.stat().st_size,
        known_subjects=request.known_subjects,
    )
    text = render_card(spec) + render_measured(record, measured, whole.teachers)
    atomic_write(card, text)
    return Exported(request.target, card, spec, measured, samples.notes)


def _training(whole: Composition, float32: onnx.ModelProto) -> str | None:
    """Return what a run that begins with the file needs besides; None for several networks in one."""
    if not isinstance(whole.encoder, EmbeddingNetwork):
        return None
    constants = {item.name: numpy_helper.to_array(item) for item in float32.graph.initializer}
    return training_entry(whole.record.encoder, whole.encoder.state_dict(), constants)


def _prove(
    whole: Composition, session: Session, samples: Samples, stages: Stages | None
) -> tuple[Embeddings, Parity]:
    """Compare the float32 file to the network; return the file's rows of the samples, and the parity."""
    spec, crops = whole.record.input, samples.every
    progress = stage(stages, "embedding by the file", len(crops))
    found = embed_with_onnx(session, spec, crops, progress=progress)
    progress = stage(stages, "embedding by the network", len(crops))
    parity = require_equal(
        embed_with_torch(whole.encoder, spec, crops, progress=progress),
        found,
        embed_with_onnx(session, spec, crops[:BATCH], batch=1),
    )
    rows = found[: len(samples.crops)]
    fnmr, interval = bounded_fnmr(rows, samples.subjects, samples.forgeries, parity.score_gap)
    return rows, replace(parity, fnmr=fnmr, fnmr_interval=interval)


def _points(request: ExportRequest, rows: Embeddings, samples: Samples) -> MeasuredPoints:
    if request.known_subjects:  # thresholds from people that it knows would not hold for others
        return MeasuredPoints((), ())
    return measured_points(
        rows,
        samples.subjects,
        samples.forgeries,
        request.fusion,
        # A set of a combined manifest calls its subjects set/name.
        populations=[subject.rpartition("/")[0] for subject in samples.subjects],
    )


def _rates(rows: Embeddings, samples: Samples) -> Verification:
    return verification_rates(rows, samples.records, samples.refused)


def _reduced(
    precision: Precision, model: onnx.ModelProto, spec: InputSpec, samples: Samples
) -> onnx.ModelProto:
    if precision == "fp16":
        return to_float16(model)
    return to_int8(model, spec, samples.trained or samples.crops)


def _require_small_rise(request: ExportRequest, before: float, after: float) -> None:
    if not after - before <= request.max_eer_rise:
        raise ExportError(
            f"{request.precision} raises the EER from {before:.3%} to {after:.3%}, by "
            f"{after - before:.3%}; allowed is {request.max_eer_rise:.3%} (--max-eer-rise); no file was "
            "written"
        )


def _costs(
    models: dict[str, tuple[onnx.ModelProto, Session]], samples: Samples, record: EncoderRecord
) -> tuple[Cost, ...]:
    """Return size and time of each network, timed in turns, so that other load slows all alike."""
    crops = samples.crops[:1]
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(_TIMED_RUNS):
        for name, (_, session) in models.items():
            start = time.perf_counter()
            embed_with_onnx(session, record.input, crops)
            times[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return tuple(
        Cost(name, model.ByteSize(), medians[name], medians[name] / medians["fp32"])
        for name, (model, _) in models.items()
    )


def _spec(
    request: ExportRequest,
    whole: Composition,
    model: onnx.ModelProto,
    rates: Verification,
    measured: MeasuredPoints,
) -> ModelSpec:
    record = whole.record
    points = measured.points
    default_fmr, default_attack = default_rate(points)
    several = any(point.reference_count > 1 for point in points)
    return ModelSpec(
        name=request.name or record.name,
        modality=record.modality,
        input=record.input,
        crop=record.crop,
        embedding_size=record.embedding_size,
        weights_sha256=weights_digest(model),
        golden_embedding=golden_embedding(model, record.input, may_ignore_color=True),
        licence=record.licence,
        provenance=Provenance(
            source=whole.source,
            source_sha256=whole.source_sha256,
            training_data=(
                f"{record.training_data}; {record.trained_images} images of "
                f"{record.trained_subjects} subjects"
                + "".join(f"; distilled from {teacher_text(each)}" for each in whole.teachers)
            ),
            calibration_data=(
                f"{rates.images} images of {rates.subjects} subjects {whose(request.known_subjects)}, "
                f"every pair: {rates.mated} mated, {rates.non_mated} non-mated, {rates.skilled} with skilled "
                "forgeries"
                + (f"; several references drawn {DRAWS} times a subject" if several else "")
            ),
            citation=request.citation,
        ),
        operating_points=points,
        default_fmr=default_fmr,
        default_attack=default_attack,
        fusion=request.fusion,
        golden_tolerance=_GOLDEN_TOLERANCE[request.precision],
        evidence=measured.evidence,
    )
