"""1:1 error rates that an evaluation found, as frozen records that become ``report.json``."""

from __future__ import annotations

from dataclasses import dataclass

from verifykit.spec import Attack

__all__ = ["AttackResult", "Det", "Histogram", "Interval", "Rate", "RateAtFmr", "Subgroup"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval over subjects.

    Attributes:
        value: The estimate.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """An error rate with its counts and its 95 % interval.

    Attributes:
        value: ``errors / trials``, in [0, 1].
        low: Lower bound.
        high: Upper bound; by the rule of three where no error was seen.
        errors: How many went wrong.
        trials: Of how many.
    """

    value: float
    low: float
    high: float
    errors: int
    trials: int


@dataclass(frozen=True)
class RateAtFmr:
    """Both rates at the threshold that a false match rate asks for.

    Attributes:
        asked_fmr: The rate that the threshold was chosen for, on these very scores or by a calibration.
        threshold: Match is ``score >= threshold``.
        fmr: What comes out at it.
        fnmr: What it costs the right subjects.
    """

    asked_fmr: float
    threshold: float
    fmr: Rate
    fnmr: Rate


@dataclass(frozen=True)
class Det:
    """Points of a DET curve with the interval of FNMR at each threshold.

    Attributes:
        thresholds: (T,) ascending.
        fmr: (T,) not increasing, above 0.
        fnmr: (T,) not decreasing; may be 0.
        fnmr_low: (T,) lower bounds.
        fnmr_high: (T,) upper bounds.
    """

    thresholds: tuple[float, ...]
    fmr: tuple[float, ...]
    fnmr: tuple[float, ...]
    fnmr_low: tuple[float, ...]
    fnmr_high: tuple[float, ...]


@dataclass(frozen=True)
class Histogram:
    """Counts of scores in bins of one width.

    Attributes:
        edges: (B + 1,) ascending; the last bin is closed above.
        mated: (B,) counts.
        non_mated: (B,) counts.
    """

    edges: tuple[float, ...]
    mated: tuple[int, ...]
    non_mated: tuple[int, ...]


@dataclass(frozen=True)
class AttackResult:
    """1:1 errors against one kind of non-mated comparisons, single pairs of images.

    Attributes:
        attack: ``"random_forgery"`` or ``"skilled_forgery"``.
        mated_count: Mated comparisons with a score.
        non_mated_count: Non-mated comparisons with a score.
        eer: Equal error rate, midpoint, in [0, 1].
        eer_threshold: Where it is reached.
        d_prime: Distance of the two score distributions in their mean standard deviation.
        rates: A row for each false match rate that the data support.
        unsupported: The rates that were asked for, and need more non-mated comparisons than there are.
        det: The curve.
        histogram: The scores.
        own: A row for each of the model's own thresholds for single pairs: what was asked for when they
            were calibrated, and what comes out on these data.
    """

    attack: Attack
    mated_count: int
    non_mated_count: int
    eer: Interval
    eer_threshold: float
    d_prime: float
    rates: tuple[RateAtFmr, ...]
    unsupported: tuple[float, ...]
    det: Det
    histogram: Histogram
    own: tuple[RateAtFmr, ...] = ()


@dataclass(frozen=True)
class Subgroup:
    """The comparisons of one value of a column, at the threshold that all comparisons chose.

    Attributes:
        column: The column's name.
        value: The value; both images of a pair have it.
        mated_count: Mated comparisons.
        non_mated_count: Non-mated comparisons.
        asked_fmr: The rate that the threshold was chosen for on all comparisons.
        threshold: The threshold.
        fmr: False match rate in the group; None without non-mated comparisons.
        fnmr: False non-match rate in the group; None without mated comparisons.
    """

    column: str
    value: str
    mated_count: int
    non_mated_count: int
    asked_fmr: float
    threshold: float
    fmr: Rate | None
    fnmr: Rate | None
