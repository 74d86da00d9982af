"""The subjects with whom probes are compared: drawn at random, so that their scores are non-mated ones.

What a search returns are maxima over the gallery, whose distribution no calibration states. A subject drawn
without regard to the probe gives a score of the distribution that was calibrated.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.drift.evidence import Levels, Values
from verifykit.errors import SubjectNotFoundError
from verifykit.gallery import Gallery
from verifykit.scoring import paired_scores, penalised, penalties, reference_rows, unit_rows
from verifykit.spec import ModelSpec
from verifykit.types import Embeddings, Subject


@dataclass(frozen=True, eq=False)
class Panel:
    """Subjects of a gallery at one moment.

    Attributes:
        subject_count: Subjects of the gallery.
        subject_ids: Those that were drawn, S.
        rows: (R, D) float32, their reference rows.
        row_penalties: (R,) penalties of these.
        firsts: (S,) where each subject's rows begin.
        thresholds: (S, L) of each level, for the number of references that were taken of the subject.
    """

    subject_count: int
    subject_ids: tuple[str, ...]
    rows: NDArray[np.float32]
    row_penalties: Values
    firsts: NDArray[np.int64]
    thresholds: Values

    @classmethod
    def draw(
        cls, gallery: Gallery, spec: ModelSpec, levels: Levels, size: int, rng: random.Random
    ) -> Panel:
        """Draw at most ``size`` subjects, with as many of their references as were calibrated.

        Raises:
            GalleryError: The gallery cannot be read.
        """
        every = list(gallery.subject_ids())
        chosen = rng.sample(every, min(size, len(every)))
        calibrated = sorted(
            {p.reference_count for p in spec.operating_points if p.attack == "random_forgery"}
        )
        thresholds = {count: levels.thresholds(spec, count) for count in calibrated}
        ids, parts, limits = [], [], []
        for subject_id in chosen:
            with suppress(SubjectNotFoundError):  # erased since
                subject = gallery.get(subject_id)
                usable = [count for count in calibrated if count <= len(subject.templates)]
                if usable:
                    ids.append(subject_id)
                    parts.append(_references(subject, usable[-1], spec, rng))
                    limits.append(thresholds[usable[-1]])
        rows = np.concatenate(parts) if parts else np.empty((0, spec.embedding_size), np.float32)
        lengths = [len(part) for part in parts]
        return cls(
            len(every),
            tuple(ids),
            rows,
            penalties(spec.cohort, rows),
            np.cumsum([0, *lengths[:-1]], dtype=np.int64)[: len(parts)],
            np.array(limits).reshape(len(parts), len(levels.rates)),
        )

    def reached(
        self, probes: Embeddings, left_out: Sequence[str | None], spec: ModelSpec
    ) -> tuple[int, NDArray[np.int64]]:
        """Return the number of scores of all probes, and how many reached each level (L,).

        ``left_out`` is, for each probe, the subject that it may be of.
        """
        scores, counts = 0, np.zeros(self.thresholds.shape[1], np.int64)
        for probe, own in zip(unit_rows(probes), left_out, strict=True):
            kept = np.array([subject_id != own for subject_id in self.subject_ids], bool)
            if not kept.any():
                continue
            each = penalised(
                paired_scores(probe, self.rows),
                penalties(spec.cohort, probe[None]),
                self.row_penalties,
            )
            best = np.maximum.reduceat(each, self.firsts).astype(np.float64)
            scores += int(kept.sum())
            counts += (best[:, None] >= self.thresholds)[kept].sum(axis=0)
        return scores, counts


def _references(
    subject: Subject, count: int, spec: ModelSpec, rng: random.Random
) -> NDArray[np.float32]:
    taken = rng.sample(subject.templates, count)
    return reference_rows(np.stack([template.embedding for template in taken]), spec.fusion)
