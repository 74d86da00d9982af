"""The gate: a file answers as the network that it was made from, or it is not written.

Compared are directions and scores, with tolerances above the rounding of any processor; never rates, which
jump with the last bit of a score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from verifykit.metrics import fnmr_at, threshold_at_fmr
from verifykit.modalities import to_tensor
from verifykit.session import Session, unit_rows
from verifykit.spec import InputSpec
from verifykit.types import Embeddings, Image
from verifykit_export.errors import ExportError

# Greatest 1 - cosine between a network and its file. Half the squared distance of unit rows: 4.5e-5, or 750
# roundings of float32 (2^-24), apart. Networks of 5 to 152 layers were measured at 4.7e-13 and below.
LIMIT = 1e-9
# A hardly trained network answers almost alike to all images: its file may be off by 1e-5 of what they are
# apart (0.3 % in distance), but never has to be closer than rounding allows, 20 times the greatest measured.
_SHARE_OF_SPREAD, _ROUNDING = 1e-5, 1e-11
# Against a network in float16: 20 roundings of 2^-11, as rows are rounded a few times on their way.
HALF_LIMIT = (20 * 2.0**-11) ** 2 / 2
_HALF_SCORE_LIMIT = 20 * 2.0**-11
# Greatest difference of a score, in absolute terms or of the standard deviation of all scores.
_SCORE_LIMIT, _SHARE_OF_DEVIATION = 1e-6, 1e-4
# Scores that differ by less than this are noise, as are rates made of them.
_LEAST_DEVIATION = 1e-5

GATE_FMR = 1e-2
THREADS = 2
BATCH = 7


@dataclass(frozen=True)
class Parity:
    """How far a file is from its network.

    Attributes:
        images: Number of images that both were given.
        gap: Greatest 1 - cosine between their rows.
        batch_gap: Greatest 1 - cosine between the file's rows one by one and seven at a time.
        score_gap: Greatest difference between their scores of a pair, over all pairs.
        score_deviation: Standard deviation of the network's scores.
        fnmr: FNMR of the file at FMR 1e-2; None without labelled pairs.
        fnmr_interval: What that rate may be with every score moved by ``score_gap``.
        reduced_gap: Greatest 1 - cosine between the float32 file and its fp16 or int8; None without.
    """

    images: int
    gap: float
    batch_gap: float
    score_gap: float
    score_deviation: float
    fnmr: float | None = None
    fnmr_interval: tuple[float, float] | None = None
    reduced_gap: float | None = None

    @property
    def is_noise(self) -> bool:
        """Whether the network is hardly trained, so that its rates mean nothing."""
        return self.score_deviation < _LEAST_DEVIATION


def open_session(model: onnx.ModelProto) -> Session:
    """Open a model on the CPU, with two threads."""
    return Session(model.SerializeToString(), name="encoder", providers="cpu", threads=THREADS)


def embed_with_onnx(
    session: Session,
    spec: InputSpec,
    crops: Sequence[Image],
    *,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> Embeddings:
    """Return (N, D) float32 unit rows of N crops by a file."""
    parts = []
    for start in range(0, len(crops), batch):
        some = crops[start : start + batch]
        outputs = session.run(to_tensor(some, spec))
        parts.append(unit_rows(outputs, "encoder", len(some), outputs[0].shape[-1]))
        if progress:
            progress(start + len(some))
    return np.concatenate(parts)


@torch.inference_mode()
def embed_with_torch(
    encoder: nn.Module,
    spec: InputSpec,
    crops: Sequence[Image],
    *,
    progress: Callable[[int], None] | None = None,
) -> Embeddings:
    """Return (N, D) float32 unit rows of N crops by the network in torch, in eval mode."""
    encoder.eval()
    parts = []
    for start in range(0, len(crops), BATCH):
        some = crops[start : start + BATCH]
        parts.append(encoder(torch.from_numpy(to_tensor(some, spec))).numpy())
        if progress:
            progress(start + len(some))
    return np.concatenate(parts)


def cosine_gap(left: Embeddings, right: Embeddings) -> float:
    """Return the greatest 1 - cosine between rows of two (N, D) arrays; NaN if one is."""
    # 1 - a.b loses all digits near 1; for unit rows it is half the squared distance.
    return float(((_unit(left) - _unit(right)) ** 2).sum(axis=1).max() / 2)


def require_equal(
    expected: Embeddings, found: Embeddings, alone: Embeddings, *, half: bool = False
) -> Parity:
    """Compare a file's rows to those of the network that it was made from.

    Args:
        expected: (N, D) by the network.
        found: (N, D) by the file, :data:`BATCH` images at a time.
        alone: Rows of the first :data:`BATCH` images by the file, one at a time.
        half: Whether the network computes in float16, whose rounding the file does not repeat.

    Raises:
        ExportError: Rows or scores are further apart than allowed, or the file's rows depend on the number of
            images at a time.
    """
    gap, limit = cosine_gap(expected, found), _limit(expected)
    allowed_gap = HALF_LIMIT if half else limit
    if not gap <= allowed_gap:
        raise ExportError(
            f"the exported network is not the one it was made from: 1 - cosine reaches {gap:.2e} on "
            f"{len(expected)} images, allowed is {allowed_gap:g}; no file was written"
        )
    batch_gap = cosine_gap(found[: len(alone)], alone)
    if not batch_gap <= limit:
        raise ExportError(
            f"the exported network answers otherwise for one image than for {len(alone)} at once: "
            f"1 - cosine {batch_gap:.2e}, allowed is {limit:g}; no file was written"
        )
    score_gap, deviation = _compare_scores(expected, found)
    allowed = _HALF_SCORE_LIMIT if half else max(_SCORE_LIMIT, _SHARE_OF_DEVIATION * deviation)
    if not score_gap <= allowed:
        raise ExportError(
            f"the exported network is not the one it was made from: a score differs by {score_gap:.2e}, "
            f"allowed is {allowed:.2g}; no file was written"
        )
    return Parity(len(expected), gap, batch_gap, score_gap, deviation)


def bounded_fnmr(
    rows: Embeddings, subjects: Sequence[str], forgeries: Sequence[bool], score_gap: float
) -> tuple[float, tuple[float, float]]:
    """Return the FNMR at FMR 1e-2, and its interval if every score may be ``score_gap`` off.

    The threshold is a score and moves too, so the interval reaches over twice the gap.
    """
    genuine = np.flatnonzero(~np.asarray(forgeries, bool))
    owners, unit = np.asarray(subjects)[genuine], _unit(rows)[genuine]
    mated, non_mated = [], []
    for row in range(len(unit) - 1):
        scores, same = unit[row + 1 :] @ unit[row], owners[row + 1 :] == owners[row]
        mated.append(scores[same])
        non_mated.append(scores[~same])
    threshold = threshold_at_fmr(np.concatenate(non_mated), GATE_FMR)
    low, fnmr, high = (
        fnmr_at(np.concatenate(mated), threshold + offset)
        for offset in (-2 * score_gap, 0.0, 2 * score_gap)
    )
    return fnmr, (low, high)


def _compare_scores(expected: Embeddings, found: Embeddings) -> tuple[float, float]:
    """Return the greatest difference over all pairs of images, and the network's standard deviation."""
    before, after = _unit(expected), _unit(found)
    gap, count, total, squares = 0.0, 0, 0.0, 0.0
    # One row at a time, as differences from 1, which keep their digits where all rows are alike.
    for row in range(len(before) - 1):
        scores = ((before[row + 1 :] - before[row]) ** 2).sum(axis=1) / 2
        others = ((after[row + 1 :] - after[row]) ** 2).sum(axis=1) / 2
        gap = max(gap, float(abs(scores - others).max()))
        count, total = count + scores.size, total + float(scores.sum())
        squares += float((scores**2).sum())
    return gap, max(0.0, squares / count - (total / count) ** 2) ** 0.5


def _limit(expected: Embeddings) -> float:
    spread = cosine_gap(expected, np.broadcast_to(expected.mean(axis=0), expected.shape))
    return min(LIMIT, max(spread * _SHARE_OF_SPREAD, _ROUNDING))


def _unit(rows: Embeddings) -> NDArray[np.float64]:
    exact: NDArray[np.float64] = rows.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact
