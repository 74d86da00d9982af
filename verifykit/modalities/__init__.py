"""The only definition of preprocessing, in two stages: ``crop`` (geometry) and ``to_tensor`` (values).

Training and calibration call the same two functions, and augment between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifykit.modalities.face.crop import crop_five_point
from verifykit.modalities.ops import golden_image, to_tensor
from verifykit.modalities.plain import crop_plain
from verifykit.modalities.signature.crop import crop_signature
from verifykit.modalities.signature.ink import find_ink
from verifykit.spec import CropSpec, FivePointCrop, SignatureCrop
from verifykit.types import Image

__all__ = ["crop", "golden_image", "to_tensor"]


def crop(
    image: Image,
    spec: CropSpec,
    *,
    landmarks_px: Sequence[tuple[float, float]] | None = None,
) -> Image:
    """The part of an image that the network sees, at its size.

    Args:
        image: (H, W, 3) uint8 RGB.
        spec: Geometry as the model states it.
        landmarks_px: Five (x, y) in the image's pixels; required by ``five_point``, unused otherwise.

    Returns:
        (spec.height_px, spec.width_px, 3) uint8 RGB.

    Raises:
        ImageError: The image has another shape or dtype.
        ValueError: ``five_point`` without landmarks, or with landmarks that span nothing.
    """
    if isinstance(spec, FivePointCrop):
        if landmarks_px is None:
            raise ValueError("a five_point crop needs landmarks_px: run the detector first")
        return crop_five_point(image, spec, landmarks_px)
    if isinstance(spec, SignatureCrop):
        return crop_signature(find_ink(image, spec), spec)
    return crop_plain(image, spec)
