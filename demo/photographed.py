"""Turn a clean scan of a signature into a phone photo, or the image of a signature pad."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

SIDES = ("left", "top", "right", "bottom")
RULE = (150, 175, 215)  # RGB color of the ruled lines
TABLE = (52, 40, 34)  # RGB color of the table under the paper
_BAND = 0.12  # visible width of the table at an edge, as a share of the image's shorter side


def photographed(
    image: NDArray[np.uint8],
    *,
    seed: int = 0,
    ink: tuple[int, int, int] | None = None,
    tint: tuple[int, int, int] = (255, 255, 255),
    ruled_px: int = 0,
    paper_edge: Collection[str] = (),
    rotation_deg: float = 0.0,
    gradient: float = 0.0,
    shadow: float = 0.0,
    blur_px: float = 0.0,
    noise: float = 0.0,
    jpeg_quality: int | None = None,
) -> NDArray[np.uint8]:
    """Simulate a photo of a signature. Every flaw is off by default; they are applied in this order.

    Args:
        image: (H, W, 3) uint8 RGB, [0, 255], dark ink on white.
        seed: Selects the direction of the light, the position of the shadow, and the noise; at least 0.
        ink: RGB color of the ink, [0, 255]; None keeps the ink.
        tint: RGB color of the paper, [0, 255].
        ruled_px: Distance between two ruled lines, in pixels; 0 for none.
        paper_edge: Sides at which the paper ends on a dark table: "left", "top", "right", "bottom".
        rotation_deg: Anticlockwise rotation of the paper, in degrees; the image grows with it.
        gradient: Share of the light that is lost from the brightest corner to the darkest, [0, 1].
        shadow: Share of the light that is lost in a soft-edged shadow, [0, 1].
        blur_px: Standard deviation of the blur, in pixels.
        noise: Standard deviation of the sensor noise, in grey levels.
        jpeg_quality: Quality of the JPEG compression, 1 to 100; None for no compression.

    Returns:
        (H', W', 3) uint8 RGB, [0, 255]; the size changes with ``paper_edge`` and ``rotation_deg``
        only.

    Raises:
        ValueError: ``paper_edge`` contains an unknown side, or the seed is negative.
    """
    if unknown := set(paper_edge) - set(SIDES):
        raise ValueError(f"unknown paper_edge {sorted(unknown)}: choose from {', '.join(SIDES)}")
    rng = np.random.default_rng([seed])
    place = rng.uniform(0.0, 1.0, 3)  # always drawn, so that flaws are independent of each other
    paper = _paper(image, ink, tint)
    photo = _lay_on_table(paper, tint, ruled_px, paper_edge, rotation_deg)
    photo *= _light(photo.shape[:2], place, gradient, shadow)[:, :, None]
    if blur_px:
        blurred = cv2.GaussianBlur(photo, (0, 0), blur_px, borderType=cv2.BORDER_REPLICATE)
        photo = np.asarray(blurred, np.float32)
    if noise:
        photo += noise * rng.standard_normal(photo.shape)
    pixels = np.rint(photo).clip(0, 255).astype(np.uint8)
    if jpeg_quality is None:
        return pixels
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[:, :, ::-1])


def transparent(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the paper transparent, as a signature pad or a canvas exports a signature.

    Args:
        image: (H, W, 3) uint8 RGB, [0, 255], dark ink of one color on white.

    Returns:
        (H, W, 4) uint8 RGBA, [0, 255], alpha not premultiplied. Pixels without ink are (0, 0, 0, 0),
        which is black if the alpha channel is dropped.
    """
    ink = image.reshape(-1, 3)[image.sum(axis=2, dtype=np.int64).argmin()]
    light = image.mean(axis=2)
    alpha = np.rint(255.0 * (255.0 - light) / max(255.0 - ink.mean(), 1.0)).astype(np.uint8)
    color = np.where(alpha[:, :, None] > 0, ink, 0).astype(np.uint8)
    return np.concatenate([color, alpha[:, :, None]], axis=2)


def _paper(
    image: NDArray[np.uint8], ink: tuple[int, int, int] | None, tint: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Change the colors of paper and ink."""
    if ink is None:
        return np.asarray(image / 255.0 * np.array(tint), np.float64)
    light = image.mean(axis=2, keepdims=True)
    cover = (255.0 - light) / max(255.0 - light.min(), 1.0)
    return np.asarray(cover * ink + (1.0 - cover) * tint, np.float64)


def _lay_on_table(
    paper: NDArray[np.float64],
    tint: tuple[int, int, int],
    ruled_px: int,
    edges: Collection[str],
    rotation_deg: float,
) -> NDArray[np.float32]:
    """Rotate the paper on the table; it extends beyond the image on sides without an edge."""
    height, width = paper.shape[:2]
    beyond = max(height, width)
    sheet = np.empty((height + 2 * beyond, width + 2 * beyond, 3), np.float32)
    sheet[:] = tint
    sheet[beyond:-beyond, beyond:-beyond] = paper
    if ruled_px:
        first = beyond % ruled_px + ruled_px // 2
        for row in range(first, len(sheet), ruled_px):
            sheet[row : row + 2] *= np.array(RULE) / 255.0
    left, top, right, bottom = (beyond if side in edges else 0 for side in SIDES)
    table = np.ones(sheet.shape[:2], dtype=bool)
    table[top : len(sheet) - bottom, left : sheet.shape[1] - right] = False
    sheet[table] = TABLE
    cos, sin = (float(f(np.radians(abs(rotation_deg)))) for f in (np.cos, np.sin))
    around = np.rint([width * cos + height * sin, width * sin + height * cos])
    band = round(_BAND * min(height, width))
    before = np.array([band * (side in edges) for side in SIDES[:2]])
    after = np.array([band * (side in edges) for side in SIDES[2:]])
    centre = (np.array(sheet.shape[1::-1]) - 1) / 2
    matrix = np.asarray(cv2.getRotationMatrix2D(centre.tolist(), rotation_deg, 1.0), np.float64)
    matrix[:, 2] += before + (around - 1) / 2 - centre
    size = (around + before + after).astype(int).tolist()
    return np.asarray(cv2.warpAffine(sheet, matrix, size, flags=cv2.INTER_LINEAR), np.float32)


def _light(
    shape: tuple[int, int], place: NDArray[np.float64], gradient: float, shadow: float
) -> NDArray[np.float64]:
    """Return the share of the light that reaches every pixel."""
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, length) for length in shape), indexing="ij")
    turn = 2.0 * np.pi * place[0]
    across = np.cos(turn) * x + np.sin(turn) * y
    across = (across - across.min()) / np.ptp(across)
    turn = 2.0 * np.pi * place[1]
    edge = np.cos(turn) * x + np.sin(turn) * y + 0.8 * (place[2] - 0.5)
    lit = (1.0 - gradient * across) * (1.0 - shadow / (1.0 + np.exp(-edge / 0.12)))
    return np.asarray(lit, np.float64)
