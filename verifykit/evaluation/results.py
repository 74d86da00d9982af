"""What an evaluation found, as frozen records that become ``report.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from verifykit.spec import Attack


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
    """Both rates at the threshold for a false match rate.

    Attributes:
        asked_fmr: The rate that the threshold was chosen for, on these very scores or by a calibration.
        threshold: Match is ``score >= threshold``.
        fmr: Measured at it.
        fnmr: What it costs the right subjects.
    """

    asked_fmr: float
    threshold: float
    fmr: Rate
    fnmr: Rate

    @property
    def requested(self) -> float:
        """Return the requested rate."""
        return self.asked_fmr


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
        unsupported: The requested rates that need more non-mated comparisons than there are.
        det: The curve.
        histogram: The scores.
        own: A row for each of the model's own thresholds for single pairs: the rate that they were calibrated
            for, and the rates on these data.
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


@dataclass(frozen=True)
class BandAtFmr:
    """Both rates of one band at the threshold for a requested false match rate.

    Attributes:
        requested_fmr: The rate that the threshold is for.
        threshold: The threshold.
        fmr: Measured in the band; None without non-mated comparisons.
        fnmr: Measured in the band; None without mated comparisons.
        got_over_requested: ``fmr`` over ``requested_fmr``, with its interval; 1 is a rate that holds.
        is_supported: Whether the band has the three over ``requested_fmr`` comparisons that the rate takes;
            if not, only the upper end of the interval says something.
    """

    requested_fmr: float
    threshold: float
    fmr: Rate | None
    fnmr: Rate | None
    got_over_requested: Interval | None
    is_supported: bool


@dataclass(frozen=True)
class Band:
    """The comparisons within one band of a column, at the thresholds that everyone has.

    Attributes:
        column: The columns' names.
        band: The band that both images of each comparison are of, or ``"across bands"`` for those of two.
        subject_count: Subjects who were compared.
        mated_count: Mated comparisons.
        non_mated_count: Non-mated comparisons.
        rates: A row for each of the model's own thresholds for single pairs, or, if it has none, for each
            of those that all comparisons chose.
    """

    column: str
    band: str
    subject_count: int
    mated_count: int
    non_mated_count: int
    rates: tuple[BandAtFmr, ...]


@dataclass(frozen=True)
class OpenSetResult:
    """1:N errors with a gallery of one size (NISTIR 8271: FPIR(N, T), FNIR(N, R, T)).

    Attributes:
        gallery_size: N, enrolled subjects.
        draws: How many galleries were drawn.
        mated_searches: Searches whose subject is enrolled, over all draws.
        non_mated_searches: Searches whose subject is not.
        fpir: (T,) share of non-mated searches with a candidate at or above the threshold, ascending.
        fnir: (T,) share of mated searches whose mate is not the best candidate at or above it.
        thresholds: (T,) descending.
        hit_rates: Rank k to the share of mated searches with the mate among the best k, any score.
    """

    gallery_size: int
    draws: int
    mated_searches: int
    non_mated_searches: int
    fpir: tuple[float, ...]
    fnir: tuple[float, ...]
    thresholds: tuple[float, ...]
    hit_rates: Mapping[int, float]


@dataclass(frozen=True)
class HardestPair:
    """A comparison that was hard: a mated one of low score, or a non-mated one of high score.

    Attributes:
        attack: The kind of non-mated comparison; None for a mated one.
        score: Cosine similarity.
        probe: Path of an image, as the data name it.
        reference: Path of the other.
        probe_subject: Subject of the probe.
        reference_subject: Subject of the reference.
    """

    attack: Attack | None
    score: float
    probe: str
    reference: str
    probe_subject: str
    reference_subject: str


@dataclass(frozen=True)
class Folds:
    """Accuracy by cross-validation over the folds of the data (LFW's View 2 protocol).

    Attributes:
        accuracies: (F,) share of right decisions in each fold, at the threshold of the other folds.
        thresholds: (F,) those thresholds.
        mean: Mean accuracy.
        standard_error: Standard deviation over the folds divided by the root of their number.
        failed_pairs: Pairs without a score; each counts as a non-match.
    """

    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    mean: float
    standard_error: float
    failed_pairs: int


@dataclass(frozen=True)
class Failure:
    """Images that gave no template, by reason.

    Attributes:
        reason: Reason code: ``"no_face"``, ``"several_faces"``, ``"unreadable"``, ``"missing"``, ...
        count: Images.
        examples: Some of their paths, as the data name them.
    """

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class ModelResult:
    """One model on the data.

    Attributes:
        model: As it was requested: a registered name or a path.
        name: Its own name.
        digest: Digest of weights, input and crop.
        modality: What it compares.
        licence: SPDX identifier.
        fusion: How scores against several references become one.
        image_count: Images that the data name, each once.
        acquired_count: Of those, images with a template.
        failures: The others.
        fta: Failure-to-acquire rate over all images.
        fte: Failure-to-enrol rate: subjects with a genuine image, but none with a template.
        lost_mated: Mated comparisons without a score.
        lost_non_mated: Non-mated comparisons without a score, of those to be made.
        attacks: 1:1 errors: random forgeries first, then skilled ones if the data have them.
        open_set: 1:N errors by gallery size, smallest first; empty where the data allow none.
        folds: Only for data with folds.
        subgroups: Only for data with further columns.
        worst: The hardest comparisons: mated ones, lowest score first; then non-mated, highest first.
        notes: Sentences that a reader needs: what could not be measured, and why.
        bands: Rates by band, of the columns that were requested.
    """

    model: str
    name: str
    digest: str
    modality: str
    licence: str
    fusion: str
    image_count: int
    acquired_count: int
    failures: tuple[Failure, ...]
    fta: Rate
    fte: Rate
    lost_mated: int
    lost_non_mated: int
    attacks: tuple[AttackResult, ...]
    open_set: tuple[OpenSetResult, ...] = ()
    folds: Folds | None = None
    subgroups: tuple[Subgroup, ...] = ()
    worst: tuple[HardestPair, ...] = ()
    notes: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True)
class EvaluationReport:
    """Several models on the same data.

    Attributes:
        data: The path that was given.
        kind: ``"folder"``, ``"images"``, ``"pairs"``, ``"lfw_pairs"`` or ``"insightface_bin"``.
        data_digest: SHA-256 over the images' contents, subjects and comparisons.
        image_count: Images that the data name, each once.
        subject_count: Subjects.
        multi_face: What was done with several faces in an image.
        quality: Whether weak samples were refused.
        created: When, ISO 8601 in UTC.
        verifykit_version: Version that measured.
        models: The results.
        left_out: What a folder holds besides, by reason, such as ``"hidden"``.
        left_out_names: The first names of each reason.
    """

    data: str
    kind: str
    data_digest: str
    image_count: int
    subject_count: int
    multi_face: str
    quality: str
    created: str
    verifykit_version: str
    models: tuple[ModelResult, ...]
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)
    left_out_names: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready plain values; what is infinite or NaN is None."""
        return {key: _finite(value) for key, value in asdict(self).items()}


def _finite(value: Any) -> Any:
    """Return the same without what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value
