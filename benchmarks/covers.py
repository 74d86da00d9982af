"""Draw what covers a face, or only seems to, on an image: sunglasses, masks, scarves, hands; glasses, hats.

A cover is drawn in the pixels of the aligned crop, enlarged, and warped onto the image, so that it fits every
face. Colours, shapes, patterns, shading and sharpness are random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.ops import similarity_transform
from verifykit.types import Detection, Image

_ZOOM, _MARGIN_PX = 2, 30
_SIDE = (112 + 2 * _MARGIN_PX) * _ZOOM
_DARK = ((15, 15, 15), (30, 20, 15), (20, 30, 45), (25, 40, 25), (55, 45, 40), (10, 10, 30))
_CLOTH = (
    (140, 190, 215),
    (235, 235, 235),
    (20, 20, 22),
    (110, 110, 115),
    (160, 40, 45),
    (40, 60, 120),
    (60, 110, 70),
    (200, 170, 130),
    (230, 150, 170),
)

Rng = np.random.Generator
Points = NDArray[np.float64]


class Canvas:
    """A cover: colours and opacity in the enlarged pixels of the crop."""

    def __init__(self) -> None:
        """Begin without anything drawn."""
        self.colors = np.zeros((_SIDE, _SIDE, 3), np.float32)
        self.opacity = np.zeros((_SIDE, _SIDE), np.float32)

    def fill(self, points: Points, color: object, opacity: float = 1.0) -> None:
        """Fill a polygon, (P, 2) in pixels of the crop, with one colour or (side, side, 3) of them."""
        inside = np.zeros((_SIDE, _SIDE), np.uint8)
        cv2.fillPoly(inside, [((points + _MARGIN_PX) * _ZOOM).round().astype(np.int32)], 1)
        self.put(inside > 0, color, opacity)

    def line(self, points: Points, color: object, width_px: float, *, closed: bool = False) -> None:
        """Draw a line through points."""
        inside = np.zeros((_SIDE, _SIDE), np.uint8)
        pixels = ((points + _MARGIN_PX) * _ZOOM).round().astype(np.int32)
        cv2.polylines(inside, [pixels], closed, 1, max(1, round(width_px * _ZOOM)))
        self.put(inside > 0, color, 1.0)

    def put(self, inside: NDArray[np.bool_], color: object, opacity: float) -> None:
        """Draw where a mask is true."""
        colors = np.broadcast_to(np.asarray(color, np.float32), self.colors.shape)
        self.colors[inside] = colors[inside]
        self.opacity[inside] = opacity

    def over(self, image: Image, face: Detection, rng: Rng) -> Image:
        """Return an image with the cover on a face."""
        matrix = similarity_transform(ARCFACE_112_PX, face.landmarks_px)
        matrix = matrix @ np.array(
            [[1 / _ZOOM, 0, -_MARGIN_PX], [0, 1 / _ZOOM, -_MARGIN_PX], [0, 0, 1]]
        )
        size = image.shape[1::-1]
        softness = rng.uniform(0.3, 2.0) * _ZOOM / 2
        opacity = cv2.GaussianBlur(self.opacity, (0, 0), softness)
        share = cv2.warpAffine(opacity, matrix, size, flags=cv2.INTER_AREA)[..., None]
        colors = cv2.warpAffine(self.colors, matrix, size, flags=cv2.INTER_AREA)
        noise = rng.normal(0, rng.uniform(0, 4), image.shape[:2])[..., None]
        drawn = image * (1 - share) + (colors + noise) * share
        return np.asarray(drawn.clip(0, 255).round(), np.uint8)


def _ellipse(x: float, y: float, rx: float, ry: float, power: float = 2.0) -> Points:
    """Return a superellipse; it is nearly a rectangle for a high power."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = np.cos(t), np.sin(t)
    e = 2 / power
    return np.stack(
        [x + rx * np.sign(cos) * np.abs(cos) ** e, y + ry * np.sign(sin) * np.abs(sin) ** e], 1
    )


def _shaded(color: object, rng: Rng, strength: float = 0.3) -> NDArray[np.float32]:
    """Return a colour with light from one side."""
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0, strength)
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    light = 1 + size * (np.cos(angle) * x + np.sin(angle) * y) * 2
    return np.asarray(np.asarray(color, np.float32) * light[..., None], np.float32)


def _cloth(rng: Rng) -> NDArray[np.float32]:
    """Return cloth of one colour or with a pattern, and with folds."""
    color = np.array(_CLOTH[rng.integers(len(_CLOTH))], np.float32) + rng.normal(0, 12, 3)
    cloth = _shaded(color, rng)
    y, x = np.mgrid[:_SIDE, :_SIDE] / _ZOOM
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    kind = rng.random()
    if kind < 0.2:
        stripes = np.sin(along * rng.uniform(0.3, 1.5)) > 0
        cloth = np.where(stripes[..., None], cloth, _shaded(rng.uniform(0, 255, 3), rng))
    elif kind < 0.35:
        knit = 1 + rng.uniform(0.05, 0.2) * np.sin(x * 2) * np.sin(y * 2)
        cloth = cloth * knit[..., None]
    if rng.random() < 0.6:
        folds = 1 - rng.uniform(0.05, 0.25) * (np.sin(y * rng.uniform(0.3, 0.9)) > 0.85)
        cloth = cloth * folds[..., None]
    soft = cv2.resize(rng.normal(0, 1, (12, 12)), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cloth * (1 + 0.06 * soft[..., None]), np.float32)


def sunglasses(image: Image, face: Detection, rng: Rng) -> Image:
    """Draw dark or mirrored glasses."""
    canvas = Canvas()
    rx, ry, power = rng.uniform(12.5, 18), rng.uniform(9, 14), rng.uniform(1.8, 5)
    y, gap = 52 + rng.uniform(-2, 4), rng.uniform(-1.5, 1.5)
    color = np.array(_DARK[rng.integers(len(_DARK))], np.float32) + rng.uniform(0, 15)
    lens: NDArray[np.floating] = _shaded(color, rng)
    if rng.random() < 0.25:  # lighter towards the bottom, or mirrored
        rows = np.linspace(-1, 1, _SIDE)[:, None, None]
        lens = lens + rng.uniform(30, 160, 3) * np.clip((rows + 0.35) * 3, 0, 1)
    opacity = rng.uniform(0.82, 1.0)
    frame = rng.uniform(0, 1) * rng.uniform(0, 200, 3)
    for x in (37.5 - gap, 74.5 + gap):
        outline = _ellipse(x, y, rx, ry, power)
        canvas.fill(outline, lens.clip(0, 255), opacity)
        canvas.line(outline, frame, rng.uniform(0.5, 2.5), closed=True)
    top = y - ry * rng.uniform(0.2, 0.7)
    canvas.line(np.array([(50.0, top), (62.0, top)]), frame, rng.uniform(1, 4))
    canvas.line(np.array([(37 - rx, top), (6.0, top)]), frame, rng.uniform(1, 4))
    canvas.line(np.array([(75 + rx, top), (106.0, top)]), frame, rng.uniform(1, 4))
    if rng.random() < 0.3:  # a reflection
        x = rng.choice([37.5, 74.5]) + rng.uniform(-6, 6)
        spot = _ellipse(x, y - ry / 3, rng.uniform(1, 5), rng.uniform(1, 3))
        canvas.fill(spot, (230, 235, 240), rng.uniform(0.3, 0.9))
    return canvas.over(image, face, rng)


_MASK = np.array(
    [
        (16, 64),
        (40, 66),
        (56, 60),
        (72, 66),
        (96, 64),
        (92, 96),
        (76, 112),
        (56, 117),
        (36, 112),
        (20, 96),
    ],
    np.float64,
)


def mask(image: Image, face: Detection, rng: Rng) -> Image:
    """Draw a mask over nose and mouth."""
    canvas, cloth = Canvas(), _cloth(rng)
    points = _MASK + rng.normal(0, 1.5, _MASK.shape)
    points[:, 1] += rng.uniform(-3, 5)
    points[:, 0] = 56 + (points[:, 0] - 56) * rng.uniform(0.85, 1.1)
    canvas.fill(points, cloth)
    for side, corner in ((-1, 0), (1, 4)):
        ear = np.array([points[corner], (56 + 58 * side, 58.0)])
        canvas.line(ear, (225, 225, 225), rng.uniform(0.6, 1.6))
    return canvas.over(image, face, rng)


def scarf(image: Image, face: Detection, rng: Rng) -> Image:
    """Draw cloth over the lower face that goes on beyond it."""
    canvas = Canvas()
    top, tilt = rng.uniform(66, 82), rng.uniform(-5, 5)
    x = np.linspace(-30, 142, 20)
    edge = top + tilt * (x - 56) / 56 + rng.normal(0, 0.8, 20) - 4 * np.exp(-(((x - 56) / 14) ** 2))
    points = np.concatenate([np.stack([x, edge], 1), [(142.0, 150.0), (-30.0, 150.0)]])
    canvas.fill(points, _cloth(rng))
    return canvas.over(image, face, rng)


def hand(image: Image, face: Detection, rng: Rng) -> Image:
    """Draw fingers in the colour of the face over its mouth and nose, or an eye."""
    matrix = similarity_transform(ARCFACE_112_PX, face.landmarks_px)
    x, y = (matrix[:, :2] @ (rng.choice([34.0, 78.0]), 72.0) + matrix[:, 2]).round().astype(int)
    patch = image[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].reshape(-1, 3)
    skin = patch.mean(axis=0) if len(patch) else np.array([190.0, 150.0, 130.0])
    canvas = Canvas()
    places = ((56.0, 90.0), (56.0, 82.0), (40.0, 54.0), (72.0, 54.0))
    middle = np.array(places[rng.integers(len(places))]) + rng.normal(0, 2, 2)
    angle = rng.uniform(-0.6, 0.6) + rng.choice([0.0, np.pi])
    along, across = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    width = rng.uniform(8, 11)
    for finger in range(4):
        at = middle + across * (finger - 1.5) * width
        start, end = at - along * rng.uniform(18, 26), at + along * 70
        tone = skin * rng.uniform(0.85, 1.1)
        canvas.line(np.array([start, end]), skin * 0.55, width + 1.0)
        canvas.line(np.array([start, end]), _shaded(tone, rng, 0.15), width - 0.5)
    return canvas.over(image, face, rng)


def glasses(image: Image, face: Detection, rng: Rng) -> Image:
    """Draw glasses that the eyes are seen through: they cover nothing."""
    canvas = Canvas()
    rx, ry, power = rng.uniform(12, 17), rng.uniform(8, 13), rng.uniform(1.8, 5)
    y, frame, width = (
        53 + rng.uniform(-2, 3),
        rng.uniform(0, 1) * rng.uniform(0, 180, 3),
        rng.uniform(0.5, 3),
    )
    for x in (37.5, 74.5):
        outline = _ellipse(x, y, rx, ry, power)
        canvas.fill(outline, rng.choice([40.0, 220.0]), rng.uniform(0, 0.15))
        canvas.line(outline, frame, width, closed=True)
        if rng.random() < 0.2:
            spot = _ellipse(
                x + rng.uniform(-8, 8), y - ry / 3, rng.uniform(1, 5), rng.uniform(1, 3)
            )
            canvas.fill(spot, (235, 240, 245), rng.uniform(0.2, 0.7))
    canvas.line(np.array([(50.0, y - 3), (62.0, y - 3)]), frame, width)
    canvas.line(np.array([(37 - rx, y - 3), (6.0, y - 3)]), frame, width)
    canvas.line(np.array([(75 + rx, y - 3), (106.0, y - 3)]), frame, width)
    return canvas.over(image, face, rng)


def hat(image: Image, face: Detection, rng: Rng) -> Image:
    """Draw a hat above the brows: it covers nothing that a face is known by."""
    canvas, brim = Canvas(), rng.uniform(14, 33)
    x = np.linspace(-14, 126, 16)
    edge = brim + rng.uniform(0, 8) * ((x - 56) / 70) ** 2
    points = np.concatenate([np.stack([x, edge], 1), [(110.0, -28.0), (2.0, -28.0)]])
    canvas.fill(points, _cloth(rng))
    return canvas.over(image, face, rng)


def shade(image: Image, face: Detection, rng: Rng) -> Image:
    """Make the image dark, or light it from one side: nothing is covered."""
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0, 6), image.shape)
        return np.asarray((image * rng.uniform(0.2, 0.5) + noise).clip(0, 255), np.uint8)
    left, _, width, _ = face.box_px
    across = (np.arange(image.shape[1]) - left - width / 2) / width * rng.choice([-1.0, 1.0])
    light = 0.65 + 0.55 * np.tanh(across * rng.uniform(2, 5))
    return np.asarray((image * light[None, :, None]).clip(0, 255), np.uint8)


COVERS: Mapping[str, Callable[[Image, Detection, Rng], Image]] = {
    "sunglasses": sunglasses,
    "mask": mask,
    "scarf": scarf,
    "hand": hand,
}
OPEN: Mapping[str, Callable[[Image, Detection, Rng], Image]] = {
    "glasses": glasses,
    "hat": hat,
    "shade": shade,
}
