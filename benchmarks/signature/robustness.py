"""Robustness to changed probes: rotated, scaled, compressed, with another pen, on other paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from benchmarks.signature.data import Embedded, Signatures, embed
from benchmarks.signature.protocol import EmbeddingScorer, Plan, draw_trials, score_trials
from benchmarks.signature.rates import errors
from benchmarks.signature.report import Cell, ResultTable, format_counts
from benchmarks.signature.tables import REFERENCE_COUNT, SKILLED_FMR, groups
from verifykit.encoder import Encoder
from verifykit.types import Image

_BLUE_INK = (40, 60, 160)
_RULING = (120, 140, 195)
_TINT = (0.86, 0.84, 0.78)
_MIN_LIGHT = 0.65


def rotate(image: Image, degrees: float) -> Image:
    """Rotate anticlockwise about the centre, on a white ground large enough for all of the image."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    size = (
        math.ceil(width * cosine + height * sine),
        math.ceil(width * sine + height * cosine),
    )
    matrix[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255)),
        np.uint8,
    )


def scale(image: Image, factor: float) -> Image:
    """Resize, as scanned at another resolution."""
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=method), np.uint8)


def compress(image: Image, quality: int) -> Image:
    """Compress as JPEG and decode again."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[:, :, ::-1])


def thicken(image: Image) -> Image:
    """Make every stroke one pixel wider."""
    return np.asarray(cv2.erode(image, np.ones((2, 2), np.uint8)), np.uint8)


def thin(image: Image) -> Image:
    """Make every stroke one pixel narrower; strokes of one pixel disappear."""
    return np.asarray(cv2.dilate(image, np.ones((2, 2), np.uint8)), np.uint8)


def tint_paper(image: Image) -> Image:
    """Tint the paper, and light it from its upper left corner."""
    height, width = image.shape[:2]
    down, across = np.linspace(0, 0.5, height)[:, None], np.linspace(0, 0.5, width)[None, :]
    light = 1.0 - (1.0 - _MIN_LIGHT) * (down + across)
    lit = image * np.array(_TINT) * light[:, :, None]
    return np.asarray(lit.round(), np.uint8)


def add_ruling(image: Image) -> Image:
    """Add printed lines at every third of the height, under the ink."""
    height = image.shape[0]
    step, width_px = height / 3, max(1, round(height / 150))
    paper = np.full_like(image, 255)
    for number in range(3):
        top = round(step * (number + 0.5))
        paper[top : top + width_px] = _RULING
    return np.minimum(image, paper)


def color_ink(image: Image) -> Image:
    """Make black ink blue; white stays white."""
    blue = np.array(_BLUE_INK, np.float64)
    return np.asarray((blue + image / 255.0 * (255.0 - blue)).round(), np.uint8)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "turned by +10°": partial(rotate, degrees=10.0),
    "turned by -10°": partial(rotate, degrees=-10.0),
    "scale 0.7": partial(scale, factor=0.7),
    "scale 1.4": partial(scale, factor=1.4),
    "JPEG quality 30": partial(compress, quality=30),
    "one pixel thicker": thicken,
    "one pixel thinner": thin,
    "grey paper": tint_paper,
    "ruled lines": add_ruling,
    "blue ink": color_ink,
}
"""Changes of the raw image of a probe, by name."""


def robustness(
    name: str,
    encoder: Encoder,
    signatures: Signatures,
    clean: Embedded,
    plan: Plan,
    workers: int,
) -> ResultTable:
    """Measure the skilled EER with five clean references and changed probes."""
    rows: list[tuple[Cell, ...]] = []
    for change, apply in {"none": None, **CHANGES}.items():
        probes = clean
        if apply is not None:
            label = f"{name}, {change}"
            probes = embed(encoder, signatures, change=apply, workers=workers, description=label)
        scorer = EmbeddingScorer(clean.rows, encoder.spec.fusion, probes.rows)
        trials = draw_trials(signatures, REFERENCE_COUNT, plan, clean.usable, probes.usable)
        parts = groups(signatures, score_trials(trials, scorer))
        eers = [errors(part, "skilled", SKILLED_FMR).eer for part in parts.values()]
        rows.append((change, *eers, format_counts(probes.reasons())))
    return ResultTable(
        f"{name}: skilled EER with changed probes, {REFERENCE_COUNT} clean references",
        ("change", *(f"{group} [95 %]" for group in parts), "refused"),
        tuple(rows),
        "Genuine and forged raw images are changed in the same way. No rate includes refused images.",
    )
