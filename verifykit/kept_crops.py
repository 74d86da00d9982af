"""What is kept of an image beside its template, so that another model can make a template of it."""

from __future__ import annotations

import numpy as np

from verifykit.types import Detection, Image

__all__ = ["FACE_SIDE_PX", "WHOLE_SIDE_PX", "kept_crop"]

FACE_SIDE_PX = 1024
"""Longest side of what is kept around a face."""

WHOLE_SIDE_PX = 2048
"""Longest side of a whole image: twice that of the copy in which a signature's ink is looked for."""


def kept_crop(image: Image, detection: Detection | None) -> bytes:
    """The part of an image that another model may want, losslessly.

    Args:
        image: (H, W, 3) uint8 RGB.
        detection: The face: its box is grown by its own size on each side and clipped to the image, so
            that another detector finds it and another crop fits. None keeps the whole image.

    Returns:
        A PNG without any metadata; reduced where its longer side would exceed ``FACE_SIDE_PX`` or
        ``WHOLE_SIDE_PX``.
    """
    import cv2

    part, most_px = image, WHOLE_SIDE_PX
    if detection is not None:
        part, most_px = _around(image, detection), FACE_SIDE_PX
    height, width = part.shape[:2]
    scale = most_px / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    _, encoded = cv2.imencode(".png", cv2.cvtColor(part, cv2.COLOR_RGB2BGR))
    return bytes(encoded)


def _around(image: Image, detection: Detection) -> Image:
    left, top, width, height = detection.box_px
    rows = slice(max(0, int(top - height)), max(1, int(np.ceil(top + 2 * height))))
    columns = slice(max(0, int(left - width)), max(1, int(np.ceil(left + 2 * width))))
    return image[rows, columns]
