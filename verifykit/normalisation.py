"""Adaptive symmetric score normalisation by a cohort (adaptive s-norm).

Of each side of a comparison the scores against a cohort of other people are taken, the K highest of them, and
the score is expressed in their standard deviations above their mean; the two are averaged. Matějka et al.,
"Analysis of Score Normalization in Multilingual Speaker Recognition", Interspeech 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.spec import Cohort

__all__ = ["Normal", "Statistics", "cohort_statistics", "normalise"]

_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a cohort scores against rows.

    Attributes:
        mean: (R,) float64, mean of the K highest scores.
        deviation: (R,) float64, their standard deviation, above 0.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True)
class Normal:
    """The normalisation of one pair, which is linear: ``slope * score + intercept``.

    So a threshold for normalised scores is one for the cosine of this very pair.

    Attributes:
        slope: Above 0.
        intercept: At score 0.
    """

    slope: float
    intercept: float

    @classmethod
    def of(cls, probe: Statistics, reference: Statistics) -> Normal:
        """The normalisation of a probe and a reference.

        Args:
            probe: Of one row.
            reference: Of one row.
        """
        sides = ((float(s.mean[0]), float(s.deviation[0])) for s in (probe, reference))
        (mean_a, deviation_a), (mean_b, deviation_b) = sides
        return cls(
            (1 / deviation_a + 1 / deviation_b) / 2,
            -(mean_a / deviation_a + mean_b / deviation_b) / 2,
        )

    def apply(self, score: float) -> float:
        """The normalised score of a cosine.

        Args:
            score: Cosine similarity.
        """
        return self.slope * score + self.intercept

    def undo(self, normalised: float) -> float:
        """The cosine that has this normalised score; may lie outside [-1, 1].

        Args:
            normalised: A normalised score.
        """
        return (normalised - self.intercept) / self.slope


def cohort_statistics(cohort: Cohort, rows: NDArray[np.float32]) -> Statistics:
    """Mean and deviation of the K highest scores of each row against the cohort.

    Args:
        cohort: C rows.
        rows: (R, D) float32: unit embeddings, or the fused row that stands for a subject.
    """
    scores = rows.astype(np.float64) @ cohort.rows.astype(np.float64).T
    highest = np.partition(scores, -cohort.nearest, axis=1)[:, -cohort.nearest :]
    deviation = np.maximum(highest.std(axis=1), _LEAST_DEVIATION)
    return Statistics(highest.mean(axis=1), deviation)


def normalise(
    scores: NDArray[np.float32], probe: Statistics, reference: Statistics
) -> NDArray[np.float32]:
    """Normalised scores of many comparisons, (P,) each.

    Args:
        scores: (P,) cosine similarities.
        probe: (P,) statistics of the one side, or (1,) of all.
        reference: (P,) statistics of the other, or (1,) of all.
    """
    wide = scores.astype(np.float64)
    left = (wide - probe.mean) / probe.deviation
    right = (wide - reference.mean) / reference.deviation
    return ((left + right) / 2).astype(np.float32)
