"""How a threshold is chosen and applied: what a caller requests, and the rule that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any, get_args

from verifykit.errors import CalibrationError, InputError, shown
from verifykit.metrics import fmr_of_fpir, fpir_of_fmr
from verifykit.spec import Attack, ModelSpec, ScoreScale
from verifykit.types import Decision, Outcome, Template

LOOK_ALIKE_MARGIN = 10.0
"""Subjects who reach the threshold of a rate so many times as high are look-alikes."""


@dataclass(frozen=True)
class Policy:
    """Two rates and a review zone between them.

    A score that reaches the threshold of ``accept_fmr`` is ``accept``, one that reaches only that of
    ``review_fmr`` is ``review``, any other is ``refuse``. A decision's truth value is that of ``accept``.

    Attributes:
        accept_fmr: False match rate of acceptance without review, in (0, 1).
        review_fmr: False match rate above which a claim is refused without review, in (0, 1), not below
            ``accept_fmr``.

    Raises:
        InputError: A rate is out of range or not a number, or ``review_fmr`` is below ``accept_fmr``.
    """

    accept_fmr: float = field(
        metadata={"help": "With the review rate: accept at this rate, instead of fmr."}
    )
    review_fmr: float = field(
        metadata={"help": "With the accept rate, and above it: send to review up to this rate."}
    )

    def __post_init__(self) -> None:
        for name in ("accept_fmr", "review_fmr"):
            _require_rate(name, getattr(self, name))
        if self.review_fmr < self.accept_fmr:
            raise InputError(
                f"review_fmr={self.review_fmr} is below accept_fmr={self.accept_fmr}: acceptance must reach "
                "the stricter threshold, that of the lower rate"
            )


@dataclass(frozen=True)
class DecisionRule:
    """A threshold with its meaning.

    Attributes:
        threshold: Cosine similarity; match is ``score >= threshold``.
        fmr: The false match rate that it represents; None for a bare threshold.
        attack: The kind of non-mated comparison that the rate is about; None for a bare threshold.
        scale: Converts scores to rates; None where the model is not calibrated.
        review_threshold: The policy's second threshold; None without a policy.
        review_fmr: The rate that it represents; None without a policy.
        fpir: The false positive identification rate in a gallery; None if it was not requested.
        gallery_size: Size of that gallery; None if ``fpir`` is.
        population: Of whom the rate is, as the calibration states it; None for a bare threshold.
    """

    threshold: float
    fmr: float | None
    attack: str | None
    scale: ScoreScale | None = None
    review_threshold: float | None = None
    review_fmr: float | None = None
    fpir: float | None = None
    gallery_size: int | None = None
    population: str | None = None

    @classmethod
    def from_calibration(
        cls,
        spec: ModelSpec,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        *,
        references: int | None = 1,
    ) -> DecisionRule:
        """Return the rule of a rate or a threshold; of the model's default rate without either.

        ``references`` is the number of references that the score is over; None is any number.

        Raises:
            InputError: A threshold together with ``fmr`` or ``attack``, or one of them out of range, not a
                number or unknown.
            CalibrationError: The model is not calibrated down to this ``fmr`` for this attack and number
                of references, or has no default.
        """
        if attack is not None and attack not in get_args(Attack):
            raise InputError(
                f"attack must be one of {', '.join(get_args(Attack))}, got {shown(attack)}"
            )
        if threshold is not None:
            _require_number("threshold", threshold)
            for name, given in (("fmr", fmr), ("attack", attack)):
                if given is not None:
                    raise InputError(
                        f"{name}={given} and threshold={threshold}: give one of them; a bare threshold "
                        "has no rate, fmr= sets one"
                    )
            if not (math.isfinite(threshold) and -1.0 <= threshold <= 1.0):
                raise InputError(f"threshold is a score in [-1, 1], got {threshold}")
            scale = spec.score_scale(attack, references)
            return cls(float(threshold), None, None, scale)
        if fmr is not None:
            _require_rate("fmr", fmr)
        point = spec.operating_point(fmr, attack, references)
        scale = spec.scale_of(point.attack, point.reference_count)
        return cls(point.threshold, point.fmr, point.attack, scale, population=spec.population)

    @classmethod
    def from_policy(
        cls,
        spec: ModelSpec,
        policy: Policy,
        attack: Attack | None = None,
        *,
        references: int | None = 1,
    ) -> DecisionRule:
        """Return the rule of a policy: accept at one threshold, review from another."""
        accept = cls.from_calibration(spec, policy.accept_fmr, None, attack, references=references)
        review = cls.from_calibration(spec, policy.review_fmr, None, attack, references=references)
        # The stricter point may be of fewer references, and then on either side.
        lower = min(review.threshold, accept.threshold)
        return replace(accept, review_threshold=lower, review_fmr=review.fmr)

    @classmethod
    def from_fpir(
        cls, spec: ModelSpec, fpir: float, attack: Attack | None, *, gallery_size: int
    ) -> DecisionRule:
        """Return the rule at which a search for an unknown person finds any subject at this rate.

        A search in a gallery of N subjects makes N comparisons: ``fpir = 1 - (1 - fmr)^N`` (ISO/IEC
        19795-1:2021; independence of the N comparisons is assumed). An empty gallery counts as one of one.
        """
        _require_rate("fpir", fpir)
        size = max(1, gallery_size)
        fmr = fmr_of_fpir(fpir, size)
        try:
            found = cls.from_calibration(spec, fmr, None, attack, references=None)
        except CalibrationError as error:
            raise CalibrationError(
                f"fpir={fpir:g} in a gallery of {gallery_size} subjects requires FMR {fmr:.3g}: {error}"
            ) from error
        assert found.fmr is not None  # noqa: S101 - a rule of a rate has one
        return replace(found, fpir=fpir_of_fmr(found.fmr, size), gallery_size=gallery_size)

    def search_values(self) -> dict[str, Any]:
        """Return the values by which a search decided, as its results state them."""
        return {
            "threshold": self.threshold,
            "fmr": self.fmr,
            "attack": self.attack,
            "fpir": self.fpir,
        }

    def outcome(self, score: float) -> Outcome:
        """Return the outcome of a score."""
        if score >= self.threshold:
            return "accept"
        if self.review_threshold is not None and score >= self.review_threshold:
            return "review"
        return "refuse"

    def decide(
        self,
        score: float,
        subject_id: str | None,
        templates: Sequence[Template],
        *,
        reference_count: int = 1,
    ) -> Decision:
        """Return the decision about a score.

        ``templates`` are those made for this decision, for their warnings and detections.
        """
        return Decision(
            match=score >= self.threshold,
            score=score,
            threshold=self.threshold,
            fmr=self.fmr,
            attack=self.attack,
            score_fmr=None if self.scale is None else self.scale.fmr(score),
            llr=None if self.scale is None else self.scale.llr(score),
            outcome=self.outcome(score),
            review_threshold=self.review_threshold,
            review_fmr=self.review_fmr,
            subject_id=subject_id,
            reference_count=reference_count,
            population=self.population,
            warnings=tuple(dict.fromkeys(r for template in templates for r in template.reasons)),
            detections=tuple(t.detection for t in templates if t.detection is not None),
        )


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, got {shown(value)}")
    try:
        float(value)
    except OverflowError as error:  # an integer or a fraction beyond every float
        raise InputError(f"{name} must be a number, got one that is too large") from error


def _require_rate(name: str, value: object) -> None:
    _require_number(name, value)
    if not 0.0 < float(value) < 1.0:  # type: ignore[arg-type]  # a real number
        raise InputError(f"{name} must be a rate in (0, 1), got {value}")


@dataclass(frozen=True)
class DecisionOptions:
    """What a caller requests of decisions, before the number of references is known.

    Attributes:
        fmr: A false match rate in (0, 1), or None.
        threshold: A bare score threshold in [-1, 1], or None.
        attack: The kind of non-mated comparison that the rate is about, or None.
        policy: Two rates instead of one, or None.
        fpir: A false positive identification rate in (0, 1) of a whole gallery, or None; for searches.

    Raises:
        InputError: Two of ``fmr``, ``threshold``, ``policy`` and ``fpir``, or a policy of another type.
    """

    fmr: float | None = field(
        default=None,
        metadata={
            "help": "False match rate to decide at; the model's default if not given.",
            "bounds": {"gt": 0, "lt": 1},
        },
    )
    threshold: float | None = field(
        default=None,
        metadata={
            "help": "A bare score threshold instead of a rate.",
            "bounds": {"ge": -1, "le": 1},
        },
    )
    attack: Attack | None = field(
        default=None,
        metadata={"help": "What the rate is about; the model's default if not given."},
    )
    policy: Policy | None = None
    fpir: float | None = field(
        default=None,
        metadata={
            "help": "Rate of searches that find a wrong subject in this gallery, instead of fmr.",
            "bounds": {"gt": 0, "lt": 1},
        },
    )

    def __post_init__(self) -> None:
        if self.policy is not None and not isinstance(self.policy, Policy):
            raise InputError(f"policy must be a verifykit.Policy, got {shown(self.policy)}")
        for name, meaning in _EXCLUSIVE.items():
            for other in ("fmr", "threshold"):
                if getattr(self, name) is not None and getattr(self, other) is not None:
                    raise InputError(
                        f"{other}={getattr(self, other)} and {name}={getattr(self, name)}: give one of "
                        f"them; {meaning}"
                    )

    @property
    def given(self) -> dict[str, Any]:
        """Return the options that were given, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, defaults: DecisionOptions) -> DecisionOptions:
        """Return the options of one call over those of every call.

        A default threshold is replaced by a rate, a policy or an attack given here, and vice versa.
        """
        if self.threshold is not None:
            return self
        if not self.given:
            return defaults
        attack = defaults.attack if self.attack is None else self.attack
        rates = defaults if self.fmr is None and self.policy is None else self
        return DecisionOptions(fmr=rates.fmr, attack=attack, policy=rates.policy)

    def rule(self, spec: ModelSpec, references: int | None = 1) -> DecisionRule:
        """Return the rule for a number of references; None is any number.

        Raises:
            InputError, CalibrationError: As :meth:`DecisionRule.from_calibration`.
        """
        if self.policy is not None:
            return DecisionRule.from_policy(spec, self.policy, self.attack, references=references)
        return DecisionRule.from_calibration(
            spec, self.fmr, self.threshold, self.attack, references=references
        )

    def search_rule(
        self, spec: ModelSpec, defaults: DecisionOptions, gallery_size: int
    ) -> DecisionRule:
        """Return the rule of a search: one threshold for any number of references.

        A default policy decides by what it accepts: candidates are not reviewed.

        Raises:
            InputError: As :meth:`DecisionRule.from_calibration`.
            CalibrationError: As :meth:`DecisionRule.from_fpir`.
        """
        if self.fpir is not None:
            attack = defaults.attack if self.attack is None else self.attack
            return DecisionRule.from_fpir(spec, self.fpir, attack, gallery_size=gallery_size)
        options = self.over(defaults)
        fmr = options.fmr if options.policy is None else options.policy.accept_fmr
        return DecisionRule.from_calibration(
            spec, fmr, options.threshold, options.attack, references=None
        )

    def pair_threshold(self, spec: ModelSpec, defaults: DecisionOptions) -> float | None:
        """Return the threshold of a single pair, for the warnings of an enrollment.

        None where nothing is requested here and the model is not calibrated: such a model can enroll, but
        cannot judge likeness.

        Raises:
            InputError, CalibrationError: As :meth:`DecisionRule.from_calibration`.
        """
        options = self.over(defaults)
        try:
            return options.rule(spec).threshold
        except CalibrationError:
            if self.given:
                raise
            return None

    def margin_threshold(self, spec: ModelSpec, defaults: DecisionOptions) -> float | None:
        """Return the score from which an enrolled subject is a look-alike of another.

        That of ten times the rate of random forgeries at the threshold. None where that rate is not known.

        Raises:
            InputError, CalibrationError: As :meth:`DecisionRule.from_calibration`.
        """
        threshold = self.pair_threshold(spec, defaults)
        scale = spec.score_scale("random_forgery")
        rate = None if threshold is None or scale is None else scale.fmr(threshold)
        if rate is None:
            return None
        highest = min(rate * LOOK_ALIKE_MARGIN, 0.5)
        return spec.operating_point(highest, "random_forgery").threshold

    def require_possible(self, spec: ModelSpec) -> None:
        """Raise for options that no number of references can fulfil; defaults are checked when used.

        Raises:
            InputError, CalibrationError: As :meth:`DecisionRule.from_calibration`.
        """
        if not self.given:
            return
        attack = self.attack or spec.default_attack
        points = [point for point in spec.operating_points if point.attack == attack]
        lowest = min(points, key=lambda point: (point.fmr, point.reference_count), default=None)
        self.rule(spec, references=lowest.reference_count if lowest else 1)


# What excludes a rate or a threshold, and why.
_EXCLUSIVE: Mapping[str, str] = {
    "policy": "a policy has its own rates",
    "fpir": "fpir= is a rate of the whole gallery, fmr= one of a single comparison",
}


def rule_for_pairs(
    spec: ModelSpec,
    comparison_count: int,
    attack: Attack | None = None,
    *,
    references: int | None = None,
    strict: bool = True,
) -> DecisionRule:
    """Return the rule at which less than one false pair is expected among ``comparison_count``.

    It is never laxer than the model's default rate: among few subjects one false pair is one too many.
    If the calibration does not reach that rate, it is an error with ``strict``, else its lowest rate is used.

    Raises:
        CalibrationError: The model is not calibrated down to that rate, for this attack, or at all.
    """
    fmr = 1.0 / (comparison_count + 1)
    if spec.default_fmr is not None and attack in (None, spec.default_attack):
        fmr = min(fmr, spec.default_fmr)
    lowest = _lowest_rate(spec, attack, references)
    if lowest is None or lowest <= fmr * (1 + 1e-9):
        return DecisionRule.from_calibration(spec, fmr, None, attack, references=references)
    if not strict:
        return DecisionRule.from_calibration(spec, lowest, None, attack, references=references)
    raise CalibrationError(
        f"{comparison_count:,} comparisons with less than one false match require FMR {fmr:.2g}, and model "
        f"{shown(spec.name)} is calibrated down to FMR {lowest:g}, at which about "
        f"{comparison_count * lowest:,.0f} of them would match by chance: request fmr={lowest:g} and "
        "review what it finds, or calibrate on more images (verifykit calibrate)"
    )


def _lowest_rate(spec: ModelSpec, attack: Attack | None, references: int | None) -> float | None:
    """Return the lowest rate that can be requested; None without any."""
    attack = attack or spec.default_attack
    rates = sorted({point.fmr for point in spec.operating_points if point.attack == attack})
    for fmr in rates:
        try:
            spec.operating_point(fmr, attack, references)
        except CalibrationError:
            continue
        return fmr
    return None
