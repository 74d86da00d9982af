"""Preprocessing, defined only here: ``crop`` (geometry), then ``to_tensor`` (values).

Training, calibration and the runtime call the same two functions; training augments between them. A
modality is a folder here and one record in the registry.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifykit.modalities.base import (
    Capture,
    Detector,
    Finding,
    FoundSample,
    Modality,
    SampleCheck,
    checks_of,
    get,
    of_crop,
    reason_hints,
    register,
    register_check,
    registered,
    unregister,
)
from verifykit.modalities.face import FaceModality
from verifykit.modalities.ops import golden_image, to_tensor
from verifykit.modalities.plain import PlainModality
from verifykit.modalities.signature import SignatureModality
from verifykit.spec import CropSpec
from verifykit.types import Image

__all__ = [
    "Capture",
    "Detector",
    "Finding",
    "FoundSample",
    "Modality",
    "SampleCheck",
    "checks_of",
    "crop",
    "get",
    "golden_image",
    "of_crop",
    "reason_hints",
    "register",
    "register_check",
    "registered",
    "to_tensor",
    "unregister",
]

for _modality in (FaceModality(), SignatureModality(), PlainModality()):
    register(_modality)


def crop(
    image: Image,
    spec: CropSpec,
    *,
    landmarks_px: Sequence[tuple[float, float]] | None = None,
) -> Image:
    """Return the part of an image that the network sees, at its size.

    Args:
        image: (H, W, 3) uint8 RGB.
        spec: Geometry as the model states it.
        landmarks_px: Five (x, y) in the image's pixels; required by ``five_point``, unused otherwise.

    Returns:
        (spec.height_px, spec.width_px, 3) uint8 RGB.

    Raises:
        ImageError: The image has another shape or dtype.
        AcquisitionError: A signature crop, and the image has no ink.
        ValueError: ``five_point`` without landmarks, or with landmarks that coincide.
    """
    return of_crop(spec).crop(image, spec, Finding(landmarks_px=tuple(landmarks_px or ())))
