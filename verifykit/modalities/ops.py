"""Geometry and values, shared by every modality; pure functions on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import ImageError
from verifykit.spec import InputSpec
from verifykit.types import Image

# ITU-R BT.601 luma, the weights that OpenCV and Pillow use for RGB to grey.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def require_image(image: NDArray[Any]) -> Image:
    """Return the image; raise :class:`ImageError` unless it is (H, W, 3) uint8 with pixels."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(
            f"a (H, W, 3) uint8 RGB array is required, got {image.dtype} of shape {image.shape}; "
            "load_image returns one for any image"
        )
    return image


def to_tensor(crops: Sequence[Image], spec: InputSpec) -> NDArray[np.float32]:
    """Return the network's input for crops: channel order, scale, mean and deviation.

    Args:
        crops: N crops, each (H, W, 3) uint8 RGB, of the size that ``spec`` states.
        spec: Values as the model states them.

    Returns:
        (N, C, H, W) float32, C-contiguous: ``(pixel * scale - mean) / std``.

    Raises:
        ImageError: A crop has another size, shape or dtype.
    """
    shape = (len(crops), spec.channels, spec.height_px, spec.width_px)
    tensor = np.empty(shape, dtype=np.float32)
    for row, crop in zip(tensor, crops, strict=True):
        require_image(crop)
        if crop.shape[:2] != (spec.height_px, spec.width_px):
            raise ImageError(
                f"the model takes crops of {spec.height_px}x{spec.width_px} px (height x width), "
                f"got {crop.shape[0]}x{crop.shape[1]}"
            )
        if spec.color == "grey":
            row[0] = crop @ _LUMA
        else:
            split_channels(crop, row if spec.color == "rgb" else row[::-1])
    if spec.scale != 1.0:
        tensor *= np.float32(spec.scale)
    if any(spec.mean):
        tensor -= np.array(spec.mean, dtype=np.float32)[:, None, None]
    if any(value != 1.0 for value in spec.std):
        tensor /= np.array(spec.std, dtype=np.float32)[:, None, None]
    return tensor


def split_channels(image: Image, out: NDArray[np.float32]) -> None:
    """Copy (H, W, 3) uint8 into ``out``, (3, H, W) float32, which may be a reversed view.

    A copy of a transposed view would take numpy three times as long.
    """
    import cv2

    for plane, channel in zip(out, cv2.split(image), strict=True):
        plane[:] = channel


def similarity_transform(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Return the least-squares rotation, uniform scale and translation from (P, 2) points to others.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    IEEE TPAMI 13(4), 1991, equations 40 to 43. In the plane their singular value decomposition has a closed
    form: with points as complex numbers the map is ``a z + b``, and least squares give ``a``, which never
    mirrors. The result is (2, 3) float64: ``target ≈ M[:, :2] @ source + M[:, 2]``.

    Raises:
        ValueError: The source points all coincide or are not finite.
    """
    points, others = _complex(source), _complex(target)
    mean, other_mean = sum(points) / len(points), sum(others) / len(others)
    centred = [point - mean for point in points]
    spread = sum(point.real**2 + point.imag**2 for point in centred)
    if not (math.isfinite(spread) and spread > 0.0):
        raise ValueError(
            f"no similarity transform: source points {np.asarray(source).tolist()} coincide or are not finite"
        )
    pairs = zip(centred, others, strict=True)
    a = sum(point.conjugate() * (other - other_mean) for point, other in pairs) / spread
    b = other_mean - a * mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _complex(points: ArrayLike) -> list[complex]:
    """Return (P, 2) points as x + iy: on a few of them Python is faster than numpy."""
    return [complex(x, y) for x, y in np.asarray(points, np.float64).tolist()]


def warp(image: Image, matrix: NDArray[np.float64], height_px: int, width_px: int) -> Image:
    """Return an image warped by a (2, 3) similarity with bilinear sampling, black beyond the image.

    Bilinear sampling uses four pixels, so a reduction by more than two would alias: the image is first
    reduced by area.
    """
    import cv2

    factor = int(1.0 / max(math.hypot(matrix[0, 0], matrix[1, 0]), 1e-9))
    if factor >= 2:
        image, matrix = _reduced(image, matrix, height_px, width_px, factor)
    warped = cv2.warpAffine(image, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)


def inverse_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of the rotation and scale, (2, 2), of a (2, 3) similarity."""
    cosine, sine = matrix[0, 0], matrix[1, 0]
    squared = cosine * cosine + sine * sine
    return np.array([[cosine / squared, sine / squared], [-sine / squared, cosine / squared]])


def _reduced(
    image: Image, matrix: NDArray[np.float64], height_px: int, width_px: int, factor: int
) -> tuple[Image, NDArray[np.float64]]:
    """Return the part that the crop shows, reduced by an integer factor, and its matrix."""
    import cv2

    inverse = inverse_rotation(matrix)
    corners = np.array([[0, 0], [width_px, 0], [0, height_px], [width_px, height_px]], np.float64)
    visible = (corners - matrix[:, 2]) @ inverse.T
    low = np.maximum(np.floor(visible.min(axis=0)).astype(int) - factor, 0)
    high = np.minimum(np.ceil(visible.max(axis=0)).astype(int) + factor, image.shape[1::-1])
    size = (high - low) // factor
    if (size < 1).any():
        return image, matrix
    part = image[low[1] : low[1] + size[1] * factor, low[0] : low[0] + size[0] * factor]
    small = cv2.resize(part, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
    # A reduced pixel's centre is the middle of its block.
    offset = matrix[:, :2] @ (low + (factor - 1) / 2.0) + matrix[:, 2]
    return np.asarray(small, np.uint8), np.column_stack([matrix[:, :2] * factor, offset])


def golden_image(height_px: int, width_px: int) -> Image:
    """Return the synthetic image on which a model's golden embedding is defined.

    Integer arithmetic alone makes it the same on every machine; every channel differs, so that a
    swapped channel order changes the embedding.

    Args:
        height_px: Rows.
        width_px: Columns.

    Returns:
        (height_px, width_px, 3) uint8 RGB: an upright oval on a gradient, with darker spots.
    """
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.int64)
    y, x = y * 256 // height_px, x * 256 // width_px
    oval = ((x - 128) ** 2 * 25 + (y - 132) ** 2 * 14) < 25 * 14 * 700
    spots = np.zeros_like(oval)
    for cx, cy, rx, ry in (
        (88, 112, 18, 8),
        (168, 112, 18, 8),
        (128, 160, 9, 14),
        (128, 200, 30, 7),
    ):
        spots |= ((x - cx) * ry) ** 2 + ((y - cy) * rx) ** 2 < (rx * ry) ** 2
    channels = [
        np.where(spots, 70, np.where(oval, 214 - y // 8, 40 + x // 4)),
        np.where(spots, 38, np.where(oval, 160 - x // 8, 60 + y // 4)),
        np.where(spots, 30, np.where(oval, 120 - y // 6, 150 - x // 5)),
    ]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)
