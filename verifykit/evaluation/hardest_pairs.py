"""The hardest comparisons: where a wrong label shows first."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from verifykit.datasets import Dataset
from verifykit.errors import InputError
from verifykit.evaluation.embedding import ModelEmbedder
from verifykit.evaluation.pairs import Comparisons, ScoredComparisons
from verifykit.evaluation.results import EvaluationReport, HardestPair
from verifykit.evaluation.tiled_scores import TiledComparisons
from verifykit.spec import Attack

_MOST_TOGETHER = 2
_NEAR = 500  # comparisons for each that is named, of which most name a subject again
_SIDE_PX = 160
_JPEG_QUALITY = 85


def hardest_pairs(
    data: Dataset, scored: ScoredComparisons | TiledComparisons, count: int
) -> tuple[HardestPair, ...]:
    """Return mated comparisons of the lowest scores, then non-mated ones of the highest.

    Each image is shown once in each part, and two subjects together twice, or they would fill it.
    """
    if isinstance(scored, TiledComparisons):
        scored = scored.hardest(_NEAR * count)
    return (
        *_hardest(data, scored.mated, None, count),
        *_hardest(data, scored.random, "random_forgery", count),
        *_hardest(data, scored.skilled, "skilled_forgery", count),
    )


def _hardest(
    data: Dataset, kind: Comparisons, attack: Attack | None, count: int
) -> Iterator[HardestPair]:
    if count < 1:
        return
    keys = kind.scores if attack is None else -kind.scores
    # Enough to find `count` of these, without sorting millions.
    near = min(len(keys), _NEAR * count)
    order = np.argpartition(keys, near - 1)[:near] if 0 < near < len(keys) else np.arange(len(keys))
    shown: set[int] = set()
    met: Counter[frozenset[str]] = Counter()
    for n in order[np.argsort(keys[order], kind="stable")].tolist():
        probe, reference = int(kind.probe[n]), int(kind.reference[n])
        subjects = frozenset(data.images[end].subject for end in (probe, reference))
        if {probe, reference} & shown or met[subjects] >= _MOST_TOGETHER:
            continue
        shown |= {probe, reference}
        met[subjects] += 1
        yield HardestPair(
            attack=attack,
            score=float(kind.scores[n]),
            probe=data.images[probe].name,
            reference=data.images[reference].name,
            probe_subject=data.images[probe].subject,
            reference_subject=data.images[reference].subject,
        )
        if len(shown) >= 2 * count:
            return


def crops_of(
    report: EvaluationReport, data: Dataset, embedders: Sequence[ModelEmbedder]
) -> dict[str, bytes]:
    """Return crops of the images in the hardest pairs, for :func:`~verifykit.evaluation.write_report`.

    Args:
        report: Names the pairs.
        data: Knows where the images are stored.
        embedders: The models; the first that finds something cuts the crop.

    Returns:
        Image name to JPEG bytes; an image that cannot be read any more is left out.
    """
    names = {n for model in report.models for p in model.worst for n in (p.probe, p.reference)}
    found = {}
    for image in data.images:
        if image.name not in names:
            continue
        for embedder in embedders:
            with suppress(InputError, OSError):
                found[image.name] = _jpeg(embedder.crop(image.path.read_bytes()))
                break
    return found


def _jpeg(crop: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(crop)
    image.thumbnail((2 * _SIDE_PX, _SIDE_PX))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=_JPEG_QUALITY)
    return target.getvalue()
