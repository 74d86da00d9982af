"""Probes as they come in practice: turned, scaled, compressed, with another pen, on other paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from benchmarks.signature_protocol import EmbeddingScorer, Plan, draw_trials, score_trials
from benchmarks.signature_rates import errors
from benchmarks.signature_report import Cell, ResultTable, listed
from benchmarks.signature_tables import MANY, SKILLED_FMR, groups
from benchmarks.signatures import Embedded, Signatures, embed
from verifykit.encoder import Encoder
from verifykit.types import Image

__all__ = ["CHANGES", "robustness"]

_BLUE_INK = (40, 60, 160)
_RULING = (120, 140, 195)
_TINT = (0.86, 0.84, 0.78)
_FAR_LIGHT = 0.65


def turned(image: Image, degrees: float) -> Image:
    """Turned anticlockwise about its middle, on white that is large enough for all of it."""
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


def scaled(image: Image, factor: float) -> Image:
    """Scanned at another resolution."""
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=method), np.uint8)


def compressed(image: Image, quality: int) -> Image:
    """Through JPEG."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1], np.uint8)


def thicker(image: Image) -> Image:
    """Every stroke one pixel wider."""
    return np.asarray(cv2.erode(image, np.ones((2, 2), np.uint8)), np.uint8)


def thinner(image: Image) -> Image:
    """Every stroke one pixel narrower; what is one pixel wide goes."""
    return np.asarray(cv2.dilate(image, np.ones((2, 2), np.uint8)), np.uint8)


def grey_paper(image: Image) -> Image:
    """Tinted paper, lit from its upper left corner."""
    height, width = image.shape[:2]
    down, across = np.linspace(0, 0.5, height)[:, None], np.linspace(0, 0.5, width)[None, :]
    light = 1.0 - (1.0 - _FAR_LIGHT) * (down + across)
    lit = image * np.array(_TINT) * light[:, :, None]
    return np.asarray(lit.round(), np.uint8)


def ruled(image: Image) -> Image:
    """Printed lines every third of the height, under the ink."""
    height = image.shape[0]
    step, width_px = height / 3, max(1, round(height / 150))
    paper = np.full_like(image, 255)
    for number in range(3):
        top = round(step * (number + 0.5))
        paper[top : top + width_px] = _RULING
    return np.minimum(image, paper)


def blue_ink(image: Image) -> Image:
    """What is black becomes blue, what is white stays."""
    blue = np.array(_BLUE_INK, np.float64)
    return np.asarray((blue + image / 255.0 * (255.0 - blue)).round(), np.uint8)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "turned by +10°": partial(turned, degrees=10.0),
    "turned by -10°": partial(turned, degrees=-10.0),
    "scale 0.7": partial(scaled, factor=0.7),
    "scale 1.4": partial(scaled, factor=1.4),
    "JPEG quality 30": partial(compressed, quality=30),
    "one pixel thicker": thicker,
    "one pixel thinner": thinner,
    "grey paper": grey_paper,
    "ruled lines": ruled,
    "blue ink": blue_ink,
}
"""What is done to the raw image of a probe, by name."""


def robustness(
    name: str,
    encoder: Encoder,
    signatures: Signatures,
    clean: Embedded,
    plan: Plan,
    workers: int,
) -> ResultTable:
    """Skilled EER with five clean references and changed probes."""
    rows: list[tuple[Cell, ...]] = []
    for change, apply in {"none": None, **CHANGES}.items():
        probes = clean
        if apply is not None:
            label = f"{name}, {change}"
            probes = embed(encoder, signatures, change=apply, workers=workers, description=label)
        scorer = EmbeddingScorer(clean.rows, encoder.spec.fusion, probes.rows)
        trials = draw_trials(signatures, MANY, plan, clean.usable, probes.usable)
        parts = groups(signatures, score_trials(trials, scorer))
        eers = [errors(part, "skilled", SKILLED_FMR).eer for part in parts.values()]
        rows.append((change, *eers, listed(probes.reasons())))
    return ResultTable(
        f"{name}: skilled EER with changed probes, {MANY} clean references",
        ("change", *(f"{group} [95 %]" for group in parts), "refused"),
        tuple(rows),
        "Genuine and forged probes are changed alike, as raw images. Refused images are not in the rates.",
    )
