"""Import an ONNX encoder of another project as a model file, proved equal to the original."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from verifykit._files import atomic_write
from verifykit.calibration import Calibration
from verifykit.errors import InputError, ModelContractError, shortened
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import load_image
from verifykit.modalities import golden_image
from verifykit.modalities.plain import crop_plain
from verifykit.models import load, render_card
from verifykit.spec import InputSpec, Modality, ModelSpec, PlainCrop, Provenance
from verifykit.types import Image
from verifykit_export.foreign_file import ForeignFile
from verifykit_export.import_calibration import CalibrationRequest, calibrated
from verifykit_export.import_source import open_source
from verifykit_export.model_card import INT8_NOTE, card_path
from verifykit_export.modelfile import (
    SWAPPED_COSINE,
    golden_embedding,
    swapped_cosine,
    weights_digest,
    write_model,
)
from verifykit_export.opsets import NEWEST, advice, opset_of
from verifykit_export.original import Contract, Layout, Original, read_contract
from verifykit_export.parity import Parity
from verifykit_export.presets import Preset, recognition_output, require_form, scales_itself
from verifykit_export.rewrite import Rewritten, rewrite
from verifykit_export.standard_form import require_plain_operators
from verifykit_training.config import CropConfig
from verifykit_training.crop_cache import build_extractor
from verifykit_training.dataset import read_records
from verifykit_training.errors import DataError
from verifykit_training.stages import Stages, stage

_REAL_IMAGES = 64
# Least cosine to the golden embedding at load; int8 depends on the processor.
_TOLERANCE, _QUANTISED_TOLERANCE = 0.999, 0.99


@dataclass(frozen=True)
class ImportRequest:
    """A foreign encoder, and everything that its file does not say.

    Attributes:
        source_file: An ONNX file that maps images to one row each, a ZIP archive that has one, or, with a
            preset that reads it, a checkpoint of torch.
        target: The model file; its card is written next to it as ``.md``.
        modality: What it compares.
        color: ``"rgb"``, ``"bgr"`` or ``"grey"``.
        scale: Factor on pixels 0..255.
        mean: One value a channel, after scaling.
        std: One value a channel, as ``mean``.
        crop: ``"five_point"`` or ``"plain"``.
        licence: SPDX identifier of the weights.
        source: Where the file is from.
        height_px: Must agree with the file; needed only where the file leaves it free.
        width_px: As ``height_px``.
        detector: The verifykit model that lends a five_point crop its detector.
        name: The model's name; None takes the target's.
        training_data: What it was trained on, and the terms.
        citation: The paper or project to credit.
        data: Real images to prove equality on, a folder or a CSV; None uses golden images.
        layout: The order of the file's input axes, ``"nchw"`` or ``"nhwc"``.
        output: The output that is the embedding; None where the file has one.
        preset: Whose file it is, by which its form is checked; None takes nothing for granted.
        member: Name of the ONNX file in an archive; None takes the only one, or the preset's.
        calibration: How operating points are measured on ``data``; None measures none.
    """

    source_file: Path
    target: Path
    modality: Modality
    color: Literal["rgb", "bgr", "grey"]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Literal["five_point", "plain"]
    licence: str
    source: str
    height_px: int | None = None
    width_px: int | None = None
    detector: str = "face"
    name: str | None = None
    training_data: str = "not stated"
    citation: str = "none"
    data: Path | None = None
    layout: Layout = "nchw"
    output: str | None = None
    preset: Preset | None = None
    member: str | None = None
    calibration: CalibrationRequest | None = None


@dataclass(frozen=True)
class Imported:
    """Paths, specification and parity of an imported model.

    Attributes:
        path: The model file.
        card: The card next to it.
        spec: Its specification.
        parity: How far it is from the foreign file.
        real_images: Of the images in ``parity``, how many were real; the others are drawn.
        notes: What a user of the model has to know about its file.
        calibration: What was measured on the data; None where nothing was.
    """

    path: Path
    card: Path
    spec: ModelSpec
    parity: Parity
    real_images: int
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None


def import_foreign(request: ImportRequest, *, stages: Stages | None = None) -> Imported:
    """Clean, rewrite, prove and write an ONNX encoder.

    Without a calibration the file comes without operating points: every call needs ``threshold=`` until it
    is calibrated.

    Args:
        request: The foreign file, and what it does not say.
        stages: Called with the name of a stage, how much of it is done, and of how much.

    Returns:
        Path and specification of the model file, and how far it is from the foreign one.

    Raises:
        ExportError: The file cannot be read, or the rewritten network is not the original one.
        ModelContractError: It is no encoder that can be imported, or the request contradicts it.
        DataError: Not one of the given images gave a crop.
    """
    name = request.name or request.target.stem
    card = card_path(request.target, name)
    foreign = open_source(request.source_file, request.preset, request.member)
    try:
        require_plain_operators(foreign.model.graph)
        request, contract = _fitted(request, foreign.model)
        spec = _input(request, contract)
        original = Original(foreign.model, contract)
    except ModelContractError as error:
        raise ModelContractError(f"{shortened(foreign.path)}: {error}") from error
    section = CropConfig(
        kind=request.crop,
        height_px=spec.height_px,
        width_px=spec.width_px,
        detector=request.detector,
    )
    extractor = build_extractor(section)
    real = _real_crops(request, extractor, stages)
    crops = [*real, *_drawn_crops(spec)]
    try:
        expected = original.embed(spec, crops)
        rewritten = rewrite(foreign.model, contract, spec, crops, expected, name)
    except ModelContractError as error:
        raise ModelContractError(f"{shortened(foreign.path)}: {error}") from error
    encoder, parity = rewritten.encoder, rewritten.parity
    golden = golden_embedding(encoder, spec, may_ignore_color=True)
    swapped = swapped_cosine(encoder, spec)
    model = ModelSpec(
        name=name,
        modality=request.modality,
        input=spec,
        crop=extractor.spec,
        embedding_size=len(golden),
        weights_sha256=weights_digest(encoder),
        golden_embedding=golden,
        licence=request.licence,
        provenance=Provenance(
            source=_source(request, foreign),
            source_sha256=foreign.sha256,
            training_data=request.training_data,
            calibration_data="none",
            citation=request.citation,
        ),
        golden_tolerance=_QUANTISED_TOLERANCE if rewritten.quantised else _TOLERANCE,
        fusion=request.preset.fusion if request.preset else "max",
    )
    detector = load(request.detector).detector if request.crop == "five_point" else None
    network = onnx.load_model_from_string(detector) if detector else None
    measured = None
    if request.calibration is None:
        write_model(request.target, encoder, model, network)
    else:
        measured = calibrated(request.target, encoder, model, network, request.calibration)
        model = measured.apply(model)
    notes = tuple(_notes(request, rewritten, original, swapped))
    text = render_card(model) + _render_import(request, rewritten, len(real), notes)
    atomic_write(card, text)
    return Imported(request.target, card, model, parity, len(real), notes, measured)


def _source(request: ImportRequest, foreign: ForeignFile) -> str:
    """Return where the file is from; what a preset says is of a publisher, not of a file."""
    if request.preset is None or request.source != request.preset.source:
        return request.source
    return f"{request.source}, {foreign.path.name}"


def _fitted(request: ImportRequest, model: onnx.ModelProto) -> tuple[ImportRequest, Contract]:
    """Return the request and what the file takes, checked against the preset if there is one."""
    preset = request.preset
    if preset is None:
        return request, read_contract(model, request.layout, request.output)
    output = recognition_output(model, preset, request.output)
    contract = read_contract(model, request.layout, output)
    require_form(model, contract, preset)
    side = preset.size_px
    if (request.height_px or side, request.width_px or side) != (side, side):
        raise InputError(
            f"--height and --width: encoders of {preset.title} take {side} x {side} px"
        )
    request = replace(request, height_px=side, width_px=side)
    if preset.scaled_by_mxnet and scales_itself(model, contract):
        request = replace(request, mean=(0.0,) * 3, std=(1.0,) * 3)
    return request, contract


def _input(request: ImportRequest, contract: Contract) -> InputSpec:
    height_px = _size("height", contract.height, request.height_px)
    width_px = _size("width", contract.width, request.width_px)
    spec = InputSpec(height_px, width_px, request.color, request.scale, request.mean, request.std)
    if contract.channels not in (0, spec.channels):
        hint = (
            "it is of another colour"
            if request.layout == "nhwc" or contract.width != spec.channels
            else "its axes are (N, H, W, C): give --layout nhwc"
        )
        raise ModelContractError(
            f"--color {request.color} has {spec.channels} channel(s), the file takes "
            f"{contract.channels} on its channel axis: {hint}"
        )
    raw = (1.0, {0.0}, {1.0})
    if contract.takes_pixels and (spec.scale, {*spec.mean}, {*spec.std}) != raw:
        raise ModelContractError(
            "the file takes integers and scales them itself: give --scale 1, and --mean and --std of 0 "
            "and 1 for each channel"
        )
    return spec


def _size(what: str, in_file: int, requested: int | None) -> int:
    if in_file and requested not in (None, in_file):
        raise ModelContractError(f"--{what} {requested} was given, the file takes {in_file} px")
    size = in_file or requested
    if not size:
        raise ModelContractError(f"the file leaves its {what} free: give --{what} in pixels")
    return size


def _real_crops(
    request: ImportRequest, extractor: SampleExtractor, stages: Stages | None
) -> list[Image]:
    """Return crops of some images, none without data; raise DataError if no image gives one."""
    aligned = False
    if request.calibration is not None:
        paths = [image.path for image in request.calibration.data.images]
        aligned = request.calibration.data.is_aligned
    elif request.data is not None:
        paths = [record.path for record in read_records(request.data)]
    else:
        return []
    crops, reasons = [], []
    size = extractor.spec.height_px, extractor.spec.width_px
    chosen = paths[:: max(1, len(paths) // _REAL_IMAGES)][:_REAL_IMAGES]
    progress = stage(stages, "cropping", len(chosen))
    for number, path in enumerate(chosen, 1):
        if progress:
            progress(number)
        try:
            if aligned:
                crop = crop_plain(load_image(path), PlainCrop(*size, "stretch"))
            else:
                crop = extractor.samples(path, SampleOptions("largest", "warn"))[0].crop
        except InputError as error:
            reasons.append(f"{shortened(path)}: {error}")
            continue
        crops.append(crop)
    if not crops:
        raise DataError(f"not one image gave a crop; {reasons[0]}")
    return crops


def _drawn_crops(spec: InputSpec) -> list[Image]:
    """The golden image, turned, mirrored and dimmed: eight that differ."""
    golden = golden_image(spec.height_px, spec.width_px)
    views = [golden, golden[::-1], golden[:, ::-1], golden[::-1, ::-1]]
    dimmed = [view // 2 for view in views]
    return [np.ascontiguousarray(view) for view in (*views, *dimmed)]


def _notes(
    request: ImportRequest, rewritten: Rewritten, original: Original, swapped: float | None
) -> Iterator[str]:
    """Yield what a user of the model has to know about its file."""
    if request.preset is not None:
        if request.mean != request.preset.mean:
            yield (
                "the file scales its pixels itself, as those of MXNet do: it is given 0 to 255, with mean 0 "
                "and deviation 1"
            )
        yield f"licence of the weights, as stated by their publisher: {request.preset.licence_hint}"
    if rewritten.half:
        yield "the file's float16 weights are stored as float32"
    if original.is_rounded:
        yield (
            "the file's float64 weights are rounded to float32, in which it was compared: onnxruntime does "
            "not run it in float64"
        )
    if rewritten.quantised:
        yield f"the network computes in int8: {INT8_NOTE}"
    if rewritten.one_by_one:
        yield (
            "the network cannot embed several images at once: they are embedded one after the other"
        )
    if swapped is not None and swapped >= SWAPPED_COSINE:
        yield (
            f"the network hardly tells red from blue (cosine {swapped:.4f}): the check at load would not "
            "find a swapped channel order"
        )
    opset = opset_of(rewritten.encoder)
    if opset > NEWEST:
        yield f"opset {opset}{advice(opset)}"


def _render_import(
    request: ImportRequest, rewritten: Rewritten, real: int, notes: Sequence[str]
) -> str:
    parity = rewritten.parity
    lines = [
        "## How it was imported",
        "",
        (
            f"- the rewritten network against the foreign file: 1 - cosine at most {parity.gap:.1e} on "
            f"{real} real and {parity.images - real} drawn crops"
        ),
        f"- one image against seven at once: {parity.batch_gap:.1e}",
        f"- file: {request.target.stat().st_size} bytes, opset {opset_of(rewritten.encoder)}",
        *([f"- preset: {request.preset.title}"] if request.preset else []),
        *(f"- {note}" for note in notes),
        (
            "- error rates: not measured here"
            if request.calibration is None
            else "- error rates: those of the operating points, on the calibration data"
        ),
    ]
    return "\n" + "\n".join(lines) + "\n"
