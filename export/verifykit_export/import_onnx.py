"""Import an ONNX encoder of another project as a model file, proved equal to the original."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from verifykit._files import atomic_write
from verifykit.errors import InputError, ModelContractError, ModelIntegrityError, shortened, shown
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.modalities import golden_image
from verifykit.models import load, render_card
from verifykit.spec import InputSpec, Modality, ModelSpec, Provenance
from verifykit.types import Image
from verifykit_export.errors import ExportError
from verifykit_export.foreign import import_encoder
from verifykit_export.modelfile import golden_embedding, weights_digest, write_model
from verifykit_export.network import OPSET
from verifykit_export.parity import BATCH, Parity, embed_with_onnx, open_session, require_equal
from verifykit_training.config import CropConfig
from verifykit_training.crop_cache import build_extractor
from verifykit_training.dataset import read_records
from verifykit_training.errors import DataError

_REAL_IMAGES = 64


@dataclass(frozen=True)
class ImportRequest:
    """A foreign encoder, and everything that its file does not say.

    Attributes:
        source_file: An ONNX file, (N, C, H, W) float32 to (N, D) float32.
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


@dataclass(frozen=True)
class Imported:
    """Paths, specification and parity of an imported model.

    Attributes:
        path: The model file.
        card: The card next to it.
        spec: Its specification.
        parity: How far it is from the foreign file.
        real_images: Of the images in ``parity``, how many were real; the others are drawn.
    """

    path: Path
    card: Path
    spec: ModelSpec
    parity: Parity
    real_images: int


def import_foreign(request: ImportRequest) -> Imported:
    """Clean, rewrite, prove and write an ONNX encoder.

    The file comes without operating points: every call needs ``threshold=`` until it is calibrated.
    """
    if not request.target.parent.is_dir():
        raise ExportError(
            f"there is no folder {shown(str(request.target.parent))} to write to: make it"
        )
    name = request.name or request.target.stem
    foreign = _read(request.source_file)
    encoder = _rewritten(foreign, request.source_file, name)
    spec = _input(request, encoder)
    _require_free_rows(encoder)
    section = CropConfig(
        kind=request.crop,
        height_px=spec.height_px,
        width_px=spec.width_px,
        detector=request.detector,
    )
    extractor = build_extractor(section)
    real = _real_crops(request.data, extractor) if request.data is not None else []
    crops = [*real, *_drawn_crops(spec)]
    parity = _proved(foreign, encoder, spec, crops)
    golden = golden_embedding(encoder, spec)
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
            source=request.source,
            source_sha256=hashlib.sha256(request.source_file.read_bytes()).hexdigest(),
            training_data=request.training_data,
            calibration_data="none",
            citation=request.citation,
        ),
    )
    detector = load(request.detector).detector if request.crop == "five_point" else None
    write_model(
        request.target, encoder, model, onnx.load_model_from_string(detector) if detector else None
    )
    card = request.target.with_suffix(".md")
    text = render_card(model) + _render_import(request, parity, len(real))
    atomic_write(card, text)
    return Imported(request.target, card, model, parity, len(real))


def _read(path: Path) -> onnx.ModelProto:
    try:
        # Weights in other files are read too; everything is inside from here on.
        return onnx.load(path)
    except Exception as error:  # protobuf, onnx and the system each raise their own
        raise ExportError(f"{shortened(path)} is no ONNX file that can be read: {error}") from error


def _rewritten(foreign: onnx.ModelProto, path: Path, name: str) -> onnx.ModelProto:
    try:
        return import_encoder(foreign, name)
    except onnx.checker.ValidationError:
        versions = [item.version for item in foreign.opset_import if item.domain in ("", "ai.onnx")]
    except ValueError as error:
        raise ModelContractError(f"{shortened(path)}: {error}") from error
    try:
        return import_encoder(onnx.version_converter.convert_version(foreign, OPSET), name)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelContractError(
            f"{shortened(path)}: written in opset {versions}, cannot be brought to {OPSET}: {error}"
        ) from error


def _input(request: ImportRequest, encoder: onnx.ModelProto) -> InputSpec:
    _, channels, height, width = (
        dim.dim_value for dim in encoder.graph.input[0].type.tensor_type.shape.dim
    )
    height_px = _size("height", height, request.height_px)
    width_px = _size("width", width, request.width_px)
    spec = InputSpec(height_px, width_px, request.color, request.scale, request.mean, request.std)
    if channels not in (0, spec.channels):
        raise ModelContractError(
            f"--color {request.color} has {spec.channels} channel(s), the file takes {channels} on its "
            "second axis: it wants another colour, or its layout is not (N, C, H, W)"
        )
    return spec


def _size(what: str, in_file: int, requested: int | None) -> int:
    if in_file and requested not in (None, in_file):
        raise ModelContractError(f"--{what} {requested} was given, the file takes {in_file} px")
    size = in_file or requested
    if not size:
        raise ModelContractError(f"the file leaves its {what} free: give --{what} in pixels")
    return size


def _require_free_rows(encoder: onnx.ModelProto) -> None:
    dims = encoder.graph.output[0].type.tensor_type.shape.dim
    if dims[0].dim_value:
        raise ModelContractError(
            f"the file answers with {dims[0].dim_value} row(s) whatever the number of images: its batch "
            "cannot be freed"
        )


def _real_crops(data: Path, extractor: SampleExtractor) -> list[Image]:
    crops, reasons = [], []
    records = read_records(data)
    for record in records[:: max(1, len(records) // _REAL_IMAGES)][:_REAL_IMAGES]:
        try:
            samples = extractor.samples(record.path, SampleOptions("largest", "warn"))
        except InputError as error:
            reasons.append(f"{shortened(record.path)}: {error}")
            continue
        crops.append(samples[0].crop)
    if not crops:
        raise DataError(f"not one image gave a crop; {reasons[0]}")
    return crops


def _drawn_crops(spec: InputSpec) -> list[Image]:
    """The golden image, turned, mirrored and dimmed: eight that differ."""
    golden = golden_image(spec.height_px, spec.width_px)
    views = [golden, golden[::-1], golden[:, ::-1], golden[::-1, ::-1]]
    dimmed = [view // 2 for view in views]
    return [np.ascontiguousarray(view) for view in (*views, *dimmed)]


def _proved(
    foreign: onnx.ModelProto, encoder: onnx.ModelProto, spec: InputSpec, crops: Sequence[Image]
) -> Parity:
    # Other inputs are weights, or left over from compression: the rewriting needs none of them.
    images = [item for item in foreign.graph.input if item.name == encoder.graph.input[0].name]
    del foreign.graph.input[:]
    foreign.graph.input.extend(images)
    try:
        before = open_session(foreign)
    except ModelIntegrityError as error:
        raise ExportError(
            f"onnxruntime cannot run the foreign file, so nothing can be proved equal to it: {error}"
        ) from error
    # One at a time: the foreign file may be of fixed batch.
    expected = embed_with_onnx(before, spec, crops, batch=1)
    after = open_session(encoder)
    return require_equal(
        expected,
        embed_with_onnx(after, spec, crops),
        embed_with_onnx(after, spec, crops[:BATCH], batch=1),
    )


def _render_import(request: ImportRequest, parity: Parity, real: int) -> str:
    lines = [
        "## How it was imported",
        "",
        (
            f"- the rewritten network against the foreign file: 1 - cosine at most {parity.gap:.1e} on "
            f"{real} real and {parity.images - real} drawn crops"
        ),
        f"- one image against seven at once: {parity.batch_gap:.1e}",
        f"- file: {request.target.stat().st_size} bytes, opset {OPSET}",
        "- error rates: not measured here",
    ]
    return "\n" + "\n".join(lines) + "\n"
