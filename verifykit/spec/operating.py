"""The meaning of scores: operating points, the scale between them, and evidence."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from verifykit.errors import ModelContractError

Attack = Literal["random_forgery", "skilled_forgery"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and the false match rate that was measured at it.

    Attributes:
        fmr: False match rate, in (0, 1).
        threshold: Cosine similarity; match is ``score >= threshold``.
        non_mated_count: Non-mated comparisons that it was measured on, at least ``3 / fmr``.
        false_match_count: Number of those that reached the threshold.
        attack: ``"random_forgery"`` is a sample of some other subject (ISO/IEC 19795-1: zero effort),
            ``"skilled_forgery"`` an imitation.
        reference_count: Number of references of a subject that it was measured with, at least 1. The
            model's fusion combines their scores into one, and the same threshold means another rate for
            another number of references.
        fmr_interval: 95 % interval over subjects of the rate at this threshold; None if not measured.
        fnmr: Share of mated comparisons below the threshold, in [0, 1]; None if not measured.
        fnmr_interval: Its 95 % interval over subjects; None if not measured.
    """

    fmr: float
    threshold: float
    non_mated_count: int
    false_match_count: int
    attack: Attack = "random_forgery"
    reference_count: int = 1
    fmr_interval: tuple[float, float] | None = None
    fnmr: float | None = None
    fnmr_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.fmr < 1.0:
            raise ModelContractError(f"operating point: fmr must be in (0, 1), got {self.fmr}")
        if not math.isfinite(self.threshold):
            raise ModelContractError(f"operating point: threshold {self.threshold} is not finite")
        if self.reference_count < 1:
            raise ModelContractError(
                f"operating point: reference_count must be at least 1, got {self.reference_count}"
            )
        # The rule of three, with tolerance for the rounding of 3 / 1e-6.
        if self.non_mated_count < 3.0 / self.fmr * (1 - 1e-9):
            raise ModelContractError(
                f"operating point: FMR {self.fmr:g} requires {math.ceil(3 / self.fmr)} non-mated "
                f"comparisons, it has {self.non_mated_count}"
            )


@dataclass(frozen=True)
class Evidence:
    """A score as a log-likelihood ratio: ``llr = slope * score + intercept``, within bounds.

    Calibrated by logistic regression (Brümmer and du Preez, "Application-independent evaluation of
    speaker detection", Computer Speech & Language 20, 2006). The bounds keep a ratio from claiming more
    than the counts can show: at most one more than the number of comparisons of the other kind.

    Attributes:
        attack: The kind of non-mated comparison that the ratio is against.
        reference_count: Number of references that the score is over.
        slope: Natural logarithms per unit of score, at least 0.
        intercept: Natural logarithm at score 0.
        cllr: Cost of the ratios in bits on the data that fitted them: 0 is perfect, 1 is uninformative.
        mated_count: Mated comparisons that fitted them.
        non_mated_count: Non-mated comparisons that fitted them.
        non_mated_median: Median of the non-mated scores; None if not measured.
    """

    attack: Attack
    reference_count: int
    slope: float
    intercept: float
    cllr: float
    mated_count: int
    non_mated_count: int
    non_mated_median: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope >= 0.0 and math.isfinite(self.intercept)):
            raise ModelContractError(
                f"evidence: slope must be finite and not negative, intercept finite, got {self.slope} and "
                f"{self.intercept}"
            )
        if self.mated_count < 1 or self.non_mated_count < 1:
            raise ModelContractError(
                "evidence: mated_count and non_mated_count must be at least 1, got "
                f"{self.mated_count} and {self.non_mated_count}"
            )

    def llr(self, score: float) -> float:
        """Return the natural logarithm of P(score | mated) / P(score | non-mated).

        Args:
            score: Cosine similarity in [-1, 1] after fusion.
        """
        low, high = -math.log1p(self.mated_count), math.log1p(self.non_mated_count)
        return min(max(self.slope * score + self.intercept, low), high)


@dataclass(frozen=True)
class ScoreScale:
    """The false match rate that a threshold at any score would represent.

    Attributes:
        points: Operating points of one attack and one number of references.
        evidence: Evidence for the same; None if not measured.
    """

    points: tuple[OperatingPoint, ...]
    evidence: Evidence | None = None

    def fmr(self, score: float) -> float | None:
        """Return the false match rate at a score: log10 FMR is linear in the score between two points.

        At and above the lowest point's threshold it is that point's rate, which means "at most": the data
        support no lower one. Below the highest point's it rises to 0.5 at the median of the non-mated
        scores, if that is known, and to 1 at score -1, where everything matches. ``score >=
        point.threshold`` and ``fmr(score) <= point.fmr`` are the same.

        Args:
            score: Cosine similarity in [-1, 1] after fusion.

        Returns:
            A rate in (0, 1], not increasing in the score; None without points.
        """
        if not self.points:
            return None
        nodes = sorted(self._nodes(), key=lambda node: (node[0], -node[1]))
        after = bisect_right(nodes, score, key=lambda node: node[0])
        if after == len(nodes):
            return nodes[-1][1]
        low, high = (-1.0, 1.0) if after == 0 else nodes[after - 1]
        end, least = nodes[after]
        if end <= low:  # normalised scores may be below -1
            return 1.0
        share = 0.0 if score <= low else (score - low) / (end - low)
        rate = math.exp((1.0 - share) * math.log(high) + share * math.log(least))
        # Rounding must not let a score below a threshold reach its rate.
        return float(min(max(rate, math.nextafter(least, 1.0)), high))

    def _nodes(self) -> list[tuple[float, float]]:
        """Return scores with their rates."""
        nodes = [(point.threshold, point.fmr) for point in self.points]
        median = None if self.evidence is None else self.evidence.non_mated_median
        if median is not None and all(median < score and fmr < 0.5 for score, fmr in nodes):
            nodes.append((median, 0.5))
        return nodes

    def llr(self, score: float) -> float | None:
        """Return the log-likelihood ratio at a score: see :meth:`Evidence.llr`.

        Args:
            score: Cosine similarity in [-1, 1] after fusion.
        """
        return None if self.evidence is None else self.evidence.llr(score)
