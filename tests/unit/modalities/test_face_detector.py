"""The detector's decoding against the plain loop."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from verifykit.modalities.face.detector import decode

THRESHOLD = 0.6


def heads_of(height: int, width: int) -> dict[str, NDArray[np.float32]]:
    """Outputs as a network may give them: a few cells near the threshold, some beyond [0, 1], one NaN."""
    rng = np.random.default_rng(11)
    heads = {}
    for stride in (8, 16, 32):
        count = (height // stride) * (width // stride)
        for head, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            values = rng.normal(0.6, 0.35, (1, count, size)).astype(np.float32)
            heads[f"{head}_{stride}"] = values
        heads[f"cls_{stride}"][0, 0] = np.nan
        heads[f"cls_{stride}"][0, 1:3], heads[f"obj_{stride}"][0, 1] = THRESHOLD, THRESHOLD
        heads[f"obj_{stride}"][0, 2] = np.nextafter(np.float32(THRESHOLD), np.float32(0.0))
    return heads


def test_decoding_is_the_plain_loop() -> None:
    height, width = 96, 128
    heads = heads_of(height, width)
    expected = []
    for stride in (8, 16, 32):
        columns = width // stride
        for cell in range((height // stride) * columns):
            cls, obj = (
                min(max(float(heads[f"{head}_{stride}"][0, cell, 0]), 0.0), 1.0)
                for head in ("cls", "obj")
            )
            score = (
                math.sqrt(cls * obj) if not math.isnan(heads[f"cls_{stride}"][0, cell, 0]) else 0.0
            )
            if score < THRESHOLD:
                continue
            x, y = cell % columns, cell // columns
            dx, dy, dw, dh = heads[f"bbox_{stride}"][0, cell].astype(float)
            w, h = math.exp(dw) * stride, math.exp(dh) * stride
            box = ((x + dx) * stride - w / 2, (y + dy) * stride - h / 2, w, h)
            kps = heads[f"kps_{stride}"][0, cell].astype(float)
            points = [((x + kps[i]) * stride, (y + kps[i + 1]) * stride) for i in range(0, 10, 2)]
            expected.append((score, box, points))
    expected.sort(key=lambda each: -each[0])
    boxes, landmarks, scores = decode(heads, (height, width), THRESHOLD)
    assert 10 < len(expected) < 252
    assert np.allclose(scores, [score for score, _, _ in expected], rtol=0, atol=1e-12)
    assert np.allclose(boxes, [box for _, box, _ in expected])
    assert np.allclose(landmarks, [points for _, _, points in expected])


def test_no_cell_reaches_the_threshold() -> None:
    boxes, landmarks, scores = decode(heads_of(64, 64), (64, 64), 1.01)
    assert (boxes.shape, landmarks.shape, scores.shape) == ((0, 4), (0, 5, 2), (0,))
