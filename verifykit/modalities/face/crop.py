"""Align a face by its five landmarks."""

from __future__ import annotations

from collections.abc import Sequence

from verifykit.modalities.ops import require_image, similarity_transform, warp
from verifykit.spec import FivePointCrop
from verifykit.types import Image

# Deng et al., "ArcFace", CVPR 2019: the template of their released code, as cv2.FaceRecognizerSF has it.
ARCFACE_112_PX = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def crop_five_point(
    image: Image, spec: FivePointCrop, landmarks_px: Sequence[tuple[float, float]]
) -> Image:
    """Return a face aligned to the spec's template by a similarity transform of its five landmarks.

    Raises:
        ImageError: The image has another shape or dtype.
        ValueError: The landmarks coincide.
    """
    matrix = similarity_transform(landmarks_px, spec.landmarks_px)
    return warp(require_image(image), matrix, spec.height_px, spec.width_px)
