"""The gate: a file answers as the network that it was made from, or it is not written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn

from verifykit.metrics import fnmr_at_fmr
from verifykit.modalities import to_tensor
from verifykit.session import Session, unit_rows
from verifykit.spec import InputSpec
from verifykit.types import Embeddings, Image
from verifykit_export.errors import ExportError
from verifykit_training.evaluation import Scores

LIMIT = 1e-6
"""Greatest 1 - cosine between a network and the file made of it."""

GATE_FMR = 1e-2
THREADS = 2
_BATCH = 7


@dataclass(frozen=True)
class Parity:
    """How far two networks were apart.

    Attributes:
        images: Images that both were shown.
        gap: Greatest 1 - cosine between their answers.
        batch_gap: Greatest 1 - cosine between the file's answers one by one and seven at a time.
        fnmr: FNMR at FMR 1e-2, the same for both; None where there are no pairs to measure it on.
        reduced_gap: Greatest 1 - cosine between the float32 file and its fp16 or int8; None without.
    """

    images: int
    gap: float
    batch_gap: float
    fnmr: float | None = None
    reduced_gap: float | None = None


def open_session(model: onnx.ModelProto) -> Session:
    """A model on the CPU, with two threads.

    Args:
        model: All weights inside.

    Raises:
        ModelIntegrityError: onnxruntime cannot load it.
        ProviderError: onnxruntime is not installed.
    """
    return Session(model.SerializeToString(), name="encoder", providers="cpu", threads=THREADS)


def embed_with_onnx(
    session: Session, spec: InputSpec, crops: Sequence[Image], *, batch: int = _BATCH
) -> Embeddings:
    """Embeddings by a file.

    Args:
        session: The encoder.
        spec: Its input.
        crops: N of (h, w, 3) uint8 RGB, N at least 1.
        batch: Images at a time.

    Returns:
        (N, D) float32 unit rows.

    Raises:
        ModelContractError: A row is zero or not finite.
        ProviderError: onnxruntime failed.
    """
    parts = []
    for start in range(0, len(crops), batch):
        some = crops[start : start + batch]
        outputs = session.run(to_tensor(some, spec))
        parts.append(unit_rows(outputs, "encoder", len(some), outputs[0].shape[-1]))
    return np.concatenate(parts)


@torch.inference_mode()
def embed_with_torch(encoder: nn.Module, spec: InputSpec, crops: Sequence[Image]) -> Embeddings:
    """Embeddings by the network in torch, in eval mode.

    Args:
        encoder: (N, C, H, W) float32 to (N, D) unit rows.
        spec: Its input.
        crops: N of (h, w, 3) uint8 RGB, N at least 1.

    Returns:
        (N, D) float32 unit rows.
    """
    encoder.eval()
    parts = [
        encoder(torch.from_numpy(to_tensor(crops[start : start + _BATCH], spec))).numpy()
        for start in range(0, len(crops), _BATCH)
    ]
    return np.concatenate(parts)


def cosine_gap(left: Embeddings, right: Embeddings) -> float:
    """The greatest 1 - cosine between rows of two (N, D) arrays, computed in float64; NaN if one is."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    # 1 - a.b loses all digits near 1; for unit rows it is half the squared distance.
    return float(((a - b) ** 2).sum(axis=1).max() / 2)


def require_equal(
    expected: Embeddings,
    answer: Callable[[Sequence[Image], int], Embeddings],
    crops: Sequence[Image],
) -> Parity:
    """Hold a file against the answers of the network that it was made from.

    Args:
        expected: (N, D) what the network answers.
        answer: The file's answers to some crops, so many at a time.
        crops: The N crops.

    Returns:
        How far they are apart.

    Raises:
        ExportError: Further than :data:`LIMIT`, or than a thousandth of what the network's answers to
            different images are apart (a hardly trained one answers almost alike to all); or the file
            answers otherwise one by one than seven at a time.
    """
    gap, limit = cosine_gap(expected, answer(crops, _BATCH)), _limit(expected)
    if not gap <= limit:
        raise ExportError(
            f"the exported network is not the one it was made from: 1 - cosine reaches {gap:.2e} on "
            f"{len(crops)} images, allowed is {limit:g}; no file was written"
        )
    few = crops[:_BATCH]
    batch_gap = cosine_gap(answer(few, 1), answer(few, _BATCH))
    if not batch_gap <= limit:
        raise ExportError(
            f"the exported network answers otherwise for one image than for {len(few)} at once: "
            f"1 - cosine {batch_gap:.2e}, allowed is {limit:g}; no file was written"
        )
    return Parity(len(crops), gap, batch_gap)


def _limit(expected: Embeddings) -> float:
    apart = cosine_gap(expected, np.broadcast_to(expected.mean(axis=0), expected.shape))
    # Below the last figure rounding alone is left of the difference.
    return min(LIMIT, max(apart * 1e-3, 1e-12))


def require_same_fnmr(expected: Scores, found: Scores) -> float:
    """FNMR at FMR 1e-2, the same by both.

    Args:
        expected: By the network.
        found: By the file.

    Raises:
        ExportError: They differ.
        InputError: There are no mated or no non-mated pairs.
    """
    before, after = (fnmr_at_fmr(s.mated, s.non_mated, GATE_FMR)[0] for s in (expected, found))
    if before != after:
        raise ExportError(
            f"FNMR at FMR {GATE_FMR:g} is {before:.4%} in torch and {after:.4%} by the exported file; no "
            "file was written"
        )
    return after
