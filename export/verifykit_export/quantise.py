"""Make an int8 model of a verifykit model file, with its own digest and card, for OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from verifykit._files import atomic_write
from verifykit._prelu import with_prelu
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, ImageError, shortened, shown
from verifykit.extraction import SampleOptions
from verifykit.modelfile import ModelFile
from verifykit.models import load, render_card
from verifykit.spec import ModelSpec
from verifykit.types import Image
from verifykit_export.errors import ExportError
from verifykit_export.model_card import INT8_NOTE, card_path
from verifykit_export.modelfile import golden_embedding, weights_digest, write_model
from verifykit_export.parity import embed_with_onnx, open_session
from verifykit_export.precision import to_int8_convolutions
from verifykit_export.samples import LEAST_IMAGES
from verifykit_export.standard_form import is_quantised
from verifykit_training.dataset import Record, read_records
from verifykit_training.errors import DataError
from verifykit_training.evaluation import Verification, verification_rates
from verifykit_training.stages import Stages, stage

_GOLDEN_TOLERANCE = 0.99
PROVIDER_NOTE = (
    'open it with OpenVINO (providers="auto" does, where it is installed): on ONNX Runtime\'s CPU provider '
    "it is slower than the float32 model"
)


@dataclass(frozen=True)
class QuantiseRequest:
    """Options of a quantisation.

    Attributes:
        model: A registered name or a model file, in float32.
        target: The model file to write; its card is written next to it as ``.md``.
        data: Real images: a folder for each subject, or a CSV.
        name: The model's name; None takes the old one with ``-int8``.
        images: Number of crops that the ranges of activations are measured on.
        max_fnmr_rise: How much the FNMR may rise, at the lowest of FMR 0.1 to 1e-4 that the data support.
    """

    model: str
    target: Path
    data: Path
    name: str | None = None
    images: int = 300
    max_fnmr_rise: float = 0.002


@dataclass(frozen=True)
class Quantised:
    """Paths, specification and measurements of an int8 model.

    Attributes:
        path: The model file.
        card: The card next to it.
        spec: Its specification.
        ranged: Number of crops that the ranges were measured on.
        median_cosine: Between float32 and int8 embeddings of the other subjects' crops.
        least_cosine: Of the same.
        float32: Error rates of the float32 model on the other subjects.
        int8: Error rates of the int8 model on them.
    """

    path: Path
    card: Path
    spec: ModelSpec
    ranged: int
    median_cosine: float
    least_cosine: float
    float32: Verification
    int8: Verification


def quantise(request: QuantiseRequest, *, stages: Stages | None = None) -> Quantised:
    """Quantise a model and write it, unless it is wrong more often than allowed.

    Ranges are measured on every second subject, error rates on the others. The file has no operating
    points, since those of the float32 model were measured on other scores.
    """
    file = load(request.model)
    model = onnx.load_model_from_string(with_prelu(file.data))
    del model.metadata_props[:]
    if is_quantised(model):
        raise ExportError(f"{shown(request.model)} computes in int8 already: give a float32 model")
    name = request.name or f"{file.spec.name}-int8"
    card = card_path(request.target, name)
    ranges, rated = _parted(read_records(request.data))
    encoder = Encoder.open(file, providers="cpu")
    chosen = ranges[:: max(1, len(ranges) // request.images)][: request.images]
    known = _crops(encoder, chosen, stage(stages, "cropping for the ranges", len(chosen)))
    others = _crops(encoder, rated, stage(stages, "cropping for the rates", len(rated)))
    if len(known) < LEAST_IMAGES:
        raise DataError(
            f"{shortened(request.data)}: {len(known)} images of every second subject give a crop, at least "
            f"{LEAST_IMAGES} are required to measure ranges: give more images"
        )
    int8 = to_int8_convolutions(model, file.spec.input, [crop for _, crop in known])
    crops = [crop for _, crop in others]
    rows = []
    for each, precision in ((model, "float32"), (int8, "int8")):
        progress = stage(stages, f"embedding in {precision}", len(crops))
        rows.append(embed_with_onnx(open_session(each), file.spec.input, crops, progress=progress))
    records = [record for record, _ in others]
    before, after = (verification_rates(each, records, len(rated) - len(records)) for each in rows)
    _require_small_rise(request, before, after)
    spec = _spec(file, int8, name, f"{len(known)} crops of {shortened(request.data)}")
    detector = None if file.detector is None else onnx.load_model_from_string(file.detector)
    write_model(request.target, int8, spec, detector)
    cosines = (rows[0] * rows[1]).sum(axis=1)
    done = Quantised(
        request.target,
        card,
        spec,
        len(known),
        float(np.median(cosines)),
        float(cosines.min()),
        before,
        after,
    )
    atomic_write(card, render_card(spec) + "\n" + "\n".join(_section(file.spec, done)) + "\n")
    return done


def measured_lines(done: Quantised) -> list[str]:
    """Return what was measured, a sentence each, for the card and the terminal."""
    rates = done.int8
    lines = [
        (
            f"ranges of activations from {done.ranged} crops; measured on {rates.images} images of "
            f"{rates.subjects} other subjects: {rates.mated} mated, {rates.non_mated} non-mated pairs"
        ),
        f"cosine to the float32 embedding: median {done.median_cosine:.4f}, least {done.least_cosine:.4f}",
        f"EER {rates.eer:.3%}, in float32 {done.float32.eer:.3%}",
    ]
    for (fmr, fnmr, _), (_, float32, _) in zip(rates.fnmr, done.float32.fnmr, strict=True):
        lines.append(f"FNMR at FMR {fmr:g}: {fnmr:.3%}, in float32 {float32:.3%}")
    return [*lines, INT8_NOTE, PROVIDER_NOTE]


def _section(old: ModelSpec, done: Quantised) -> list[str]:
    made = f"made of the model {shown(old.name)}, digest {old.digest}"
    return ["## Quantisation", "", *(f"- {line}" for line in (made, *measured_lines(done)))]


def _parted(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the images of every second subject, and those of the others."""
    subjects = sorted({record.subject for record in records})
    ranges = set(subjects[::2])
    genuine = [record for record in records if record.subject in ranges and not record.is_forgery]
    return genuine, [record for record in records if record.subject not in ranges]


def _crops(
    encoder: Encoder, records: Sequence[Record], progress: Callable[[int], None] | None
) -> list[tuple[Record, Image]]:
    """Return the crop of each image that gives one."""
    found = []
    for number, record in enumerate(records, 1):
        with suppress(AcquisitionError, ImageError):
            samples = encoder.extractor.samples(record.path, SampleOptions("largest", "warn"))
            found.append((record, samples[0].crop))
        if progress:
            progress(number)
    return found


def _require_small_rise(
    request: QuantiseRequest, float32: Verification, int8: Verification
) -> None:
    if not int8.fnmr:
        raise DataError(
            f"{shortened(request.data)} has {int8.non_mated} non-mated pairs of every second subject, too "
            "few to measure a rate: give more subjects"
        )
    fmr, after, _ = min(int8.fnmr)
    before = {each[0]: each[1] for each in float32.fnmr}[fmr]
    if not after - before <= request.max_fnmr_rise:
        raise ExportError(
            f"int8 raises the FNMR at FMR {fmr:g} from {before:.3%} to {after:.3%}, by "
            f"{after - before:.3%}; allowed is {request.max_fnmr_rise:.3%} (--max-fnmr-rise); no file was "
            "written"
        )


def _spec(file: ModelFile, int8: onnx.ModelProto, name: str, ranges: str) -> ModelSpec:
    old = file.spec
    return replace(
        old,
        name=name,
        weights_sha256=weights_digest(int8),
        golden_embedding=golden_embedding(int8, old.input, may_ignore_color=True),
        golden_tolerance=_GOLDEN_TOLERANCE,
        provenance=replace(
            old.provenance,
            source=f"model {old.name} {old.digest} in int8, ranges from {ranges}; its source: "
            f"{old.provenance.source}",
            calibration_data="none",
        ),
        operating_points=(),
        default_fmr=None,
        evidence=(),
        cohort=None,
    )
