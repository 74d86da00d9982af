"""Images without a detector: the whole image at the network's size."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from verifykit.modalities.base import Capture, Finding, Modality
from verifykit.modalities.ops import require_image
from verifykit.spec import CropSpec, PlainCrop
from verifykit.types import Image


class PlainModality(Modality):
    """Samples that fill their image."""

    name = "plain"
    label = "Images"
    noun = "image"
    plural = "images"
    crop_spec = PlainCrop
    capture: ClassVar[Capture] = "camera"
    takes_crops: ClassVar[bool] = True

    def crop(self, image: Image, spec: CropSpec, finding: Finding) -> Image:
        """Return the whole image, resized."""
        assert isinstance(spec, PlainCrop)  # noqa: S101 - by the registry
        return crop_plain(image, spec)


def crop_plain(image: Image, spec: PlainCrop) -> Image:
    """Return the whole image, or its centre that covers the size, resized to the crop."""
    import cv2

    image = require_image(image)
    height, width = image.shape[:2]
    if spec.fit == "cover":
        scale = max(spec.height_px / height, spec.width_px / width)
        # The part of the image that becomes exactly the crop.
        part_height = min(height, max(1, round(spec.height_px / scale)))
        part_width = min(width, max(1, round(spec.width_px / scale)))
        top, left = (height - part_height) // 2, (width - part_width) // 2
        image = image[top : top + part_height, left : left + part_width]
        height, width = part_height, part_width
    if (height, width) == (spec.height_px, spec.width_px):
        return np.ascontiguousarray(image)
    reduced = height * width > spec.height_px * spec.width_px
    mode = cv2.INTER_AREA if reduced else cv2.INTER_LINEAR
    resized = cv2.resize(image, (spec.width_px, spec.height_px), interpolation=mode)
    return np.asarray(resized, dtype=np.uint8)
