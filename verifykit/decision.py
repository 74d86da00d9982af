"""What decides: a threshold, and the false match rate that it stands for, if it stands for one.

What a caller asked for, and how this call's wishes go over those of every call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import get_args

from verifykit.errors import CalibrationError, InputError
from verifykit.metrics import fmr_of_fpir, fpir_of_fmr
from verifykit.scoring import Normal
from verifykit.spec import Attack, ModelSpec, ScoreScale
from verifykit.types import Decision, Outcome, Template


@dataclass(frozen=True)
class Policy:
    """Two rates and the zone between them, for a person to look at.

    ``accept`` and ``refuse`` are decided; a score that reaches the threshold of ``review_fmr`` but not that
    of ``accept_fmr`` is ``review``. A decision's truth value is that of ``accept``.

    Attributes:
        accept_fmr: False match rate at which nobody looks again, in (0, 1).
        review_fmr: False match rate above which it is refused at once, in (0, 1), not below
            ``accept_fmr``.

    Raises:
        InputError: A rate is out of range or no number, or ``review_fmr`` is below ``accept_fmr``.
    """

    accept_fmr: float
    review_fmr: float

    def __post_init__(self) -> None:
        for name in ("accept_fmr", "review_fmr"):
            _require_rate(name, getattr(self, name))
        if self.review_fmr < self.accept_fmr:
            raise InputError(
                f"review_fmr={self.review_fmr} is below accept_fmr={self.accept_fmr}: what is accepted must "
                "reach the stricter threshold, that of the lower rate"
            )


@dataclass(frozen=True)
class DecisionRule:
    """A threshold with its meaning.

    Attributes:
        threshold: Cosine similarity; match is ``score >= threshold``.
        fmr: The false match rate that it stands for; None for a bare threshold.
        attack: Which non-mated comparisons the rate is about; None for a bare threshold.
        scale: What any score means; None where the model is not calibrated.
        review_threshold: The policy's second threshold; None without a policy.
        review_fmr: The rate that it stands for; None without a policy.
        fpir: The rate of false positive identifications in a gallery; None if it was not asked for.
        gallery_size: Of which ``fpir`` is; None likewise.
    """

    threshold: float
    fmr: float | None
    attack: str | None
    scale: ScoreScale | None = None
    review_threshold: float | None = None
    review_fmr: float | None = None
    fpir: float | None = None
    gallery_size: int | None = None

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        *,
        references: int | None = 1,
    ) -> DecisionRule:
        """The rule that was asked for; the model's default when nothing was.

        Args:
            spec: The model, with its operating points.
            fmr: A false match rate in (0, 1), or None.
            threshold: A bare cosine threshold in [-1, 1], or None.
            attack: Which non-mated comparisons the rate is about; None takes the model's default.
            references: How many references the score is over, at least 1; None is any number.

        Returns:
            The rule.

        Raises:
            InputError: A threshold together with ``fmr`` or ``attack``, or one of them out of range, no
                number or unknown.
            CalibrationError: The model does not go down to this ``fmr`` for this attack and so few
                references, or has no default.
        """
        if attack is not None and attack not in get_args(Attack):
            raise InputError(f"attack is one of {', '.join(get_args(Attack))}, got {attack!r}")
        if threshold is not None:
            _require_number("threshold", threshold)
            for name, given in (("fmr", fmr), ("attack", attack)):
                if given is not None:
                    raise InputError(
                        f"{name}={given} and threshold={threshold}: give one of them; a bare threshold "
                        "stands for no rate, fmr= is the one with a meaning"
                    )
            if not (math.isfinite(threshold) and -1.0 <= threshold <= 1.0):
                raise InputError(f"threshold is a cosine in [-1, 1], got {threshold}")
            scale = spec.score_scale(attack, references)
            return cls(float(threshold), None, None, scale)
        if fmr is not None:
            _require_rate("fmr", fmr)
        point = spec.operating_point(fmr, attack, references)
        scale = spec.scale_of(point.attack, point.reference_count)
        return cls(point.threshold, point.fmr, point.attack, scale)

    @classmethod
    def of_policy(
        cls,
        spec: ModelSpec,
        policy: Policy,
        attack: Attack | None = None,
        *,
        references: int | None = 1,
    ) -> DecisionRule:
        """The rule of a policy: accepts at one threshold, and sends to review from another.

        Args:
            spec: The model, with its operating points.
            policy: Its two rates.
            attack: As for :meth:`of`.
            references: As for :meth:`of`.

        Raises:
            InputError: As :meth:`of`.
            CalibrationError: As :meth:`of`, for either rate.
        """
        accept = cls.of(spec, policy.accept_fmr, None, attack, references=references)
        review = cls.of(spec, policy.review_fmr, None, attack, references=references)
        # With fewer references behind it the stricter point may lie anywhere.
        lower = min(review.threshold, accept.threshold)
        return replace(accept, review_threshold=lower, review_fmr=review.fmr)

    @classmethod
    def of_fpir(
        cls, spec: ModelSpec, fpir: float, attack: Attack | None, *, gallery_size: int
    ) -> DecisionRule:
        """The rule at which a search for somebody who is not enrolled finds anybody so rarely.

        A search in a gallery of N subjects makes N comparisons: ``fpir = 1 - (1 - fmr)^N`` (ISO/IEC
        19795-1:2021; independence of the N comparisons is assumed).

        Args:
            spec: The model, with its operating points.
            fpir: False positive identification rate, in (0, 1).
            attack: As for :meth:`of`.
            gallery_size: N, enrolled subjects; an empty gallery counts as one of one.

        Raises:
            InputError: ``fpir`` is out of range or no number.
            CalibrationError: It takes a false match rate that the model is not calibrated down to.
        """
        _require_rate("fpir", fpir)
        size = max(1, gallery_size)
        wanted = fmr_of_fpir(fpir, size)
        try:
            found = cls.of(spec, wanted, None, attack, references=None)
        except CalibrationError as error:
            raise CalibrationError(
                f"fpir={fpir:g} in a gallery of {gallery_size} subjects takes FMR {wanted:.3g}: {error}"
            ) from error
        assert found.fmr is not None  # noqa: S101 - a rule of a rate has one
        return replace(found, fpir=fpir_of_fmr(found.fmr, size), gallery_size=gallery_size)

    def outcome(self, score: float) -> Outcome:
        """``"accept"``, ``"review"`` or ``"refuse"``.

        Args:
            score: Cosine similarity in [-1, 1].
        """
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
        normal: Normal | None = None,
    ) -> Decision:
        """The decision about a score.

        Args:
            score: Cosine similarity in [-1, 1].
            subject_id: Who was claimed, or None.
            templates: Those made for this decision, for their warnings and detections.
            reference_count: How many references the score is over.
            normal: How scores of this pair are normalised. The score stays a cosine, and the threshold
                becomes the cosine that this pair needs; a bare threshold is one already.

        Returns:
            The decision.
        """
        mine = self
        placed = score
        if normal is not None:
            placed = normal.apply(score)
            if self.fmr is not None:
                mine = self._for(normal)
        return Decision(
            match=score >= mine.threshold,
            score=score,
            threshold=mine.threshold,
            fmr=self.fmr,
            attack=self.attack,
            score_fmr=None if self.scale is None else self.scale.fmr(placed),
            llr=None if self.scale is None else self.scale.llr(placed),
            outcome=mine.outcome(score),
            review_threshold=mine.review_threshold,
            review_fmr=self.review_fmr,
            subject_id=subject_id,
            reference_count=reference_count,
            warnings=tuple(dict.fromkeys(r for template in templates for r in template.reasons)),
            detections=tuple(t.detection for t in templates if t.detection is not None),
        )

    def _for(self, normal: Normal) -> DecisionRule:
        review = self.review_threshold
        return replace(
            self,
            threshold=normal.undo(self.threshold),
            review_threshold=None if review is None else normal.undo(review),
        )


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} is a number, got {value!r}")


def _require_rate(name: str, value: object) -> None:
    _require_number(name, value)
    if not 0.0 < float(value) < 1.0:  # type: ignore[arg-type]  # a real number
        raise InputError(f"{name} is a rate in (0, 1), got {value}")


_NO_SEARCH = (
    "this calibration normalises scores by a cohort, each pair by its own, and a search has one threshold "
    "for all: give threshold=, or calibrate without a cohort"
)


@dataclass(frozen=True)
class DecisionOptions:
    """What a caller asked for, before it is known how many references there are.

    Attributes:
        fmr: A false match rate in (0, 1), or None.
        threshold: A bare cosine threshold in [-1, 1], or None.
        attack: Which non-mated comparisons the rate is about, or None.
        policy: Two rates instead of one, or None.

    Raises:
        InputError: A policy together with ``fmr`` or ``threshold``, or something else in its place.
    """

    fmr: float | None = None
    threshold: float | None = None
    attack: Attack | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        if self.policy is None:
            return
        if not isinstance(self.policy, Policy):
            raise InputError(f"policy is a verifykit.Policy, got {self.policy!r}")
        for name in ("fmr", "threshold"):
            if getattr(self, name) is not None:
                raise InputError(
                    f"{name}={getattr(self, name)} and policy={self.policy}: give one of them; a policy "
                    "has its own rates"
                )

    def over(self, usual: DecisionOptions) -> DecisionOptions:
        """This call's wishes over those that hold for every call.

        Args:
            usual: A threshold in it gives way to a rate, a policy or an attack here, and the other way
                round; a policy to a rate, and the other way round.
        """
        if self.threshold is not None:
            return self
        if self == DecisionOptions():
            return usual
        attack = usual.attack if self.attack is None else self.attack
        rates = usual if self.fmr is None and self.policy is None else self
        return DecisionOptions(fmr=rates.fmr, attack=attack, policy=rates.policy)

    def rule(self, spec: ModelSpec, references: int | None = 1) -> DecisionRule:
        """The rule for a number of references: see :meth:`DecisionRule.of`.

        Args:
            spec: The model, with its operating points.
            references: How many references the score is over, at least 1; None is any number.

        Raises:
            InputError: As there.
            CalibrationError: As there.
        """
        if self.policy is not None:
            return DecisionRule.of_policy(spec, self.policy, self.attack, references=references)
        return DecisionRule.of(spec, self.fmr, self.threshold, self.attack, references=references)

    def search_rule(
        self, spec: ModelSpec, usual: DecisionOptions, fpir: float | None, gallery_size: int
    ) -> DecisionRule:
        """The rule of a search: one threshold for any number of references.

        A policy that holds for every call decides by what it accepts: candidates are not reviewed.

        Args:
            spec: The model, with its operating points.
            usual: What holds for every call.
            fpir: False positive identification rate in (0, 1) for the whole gallery, or None.
            gallery_size: How many subjects are enrolled.

        Raises:
            InputError: ``fpir`` beside ``fmr`` or ``threshold``; or as :meth:`DecisionRule.of`.
            CalibrationError: As :meth:`DecisionRule.of_fpir`; or scores are normalised by a cohort.
        """
        if fpir is not None:
            for name in ("fmr", "threshold"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"fpir={fpir} and {name}={getattr(self, name)}: give one of them; fpir= is a rate "
                        "of the whole gallery, fmr= one of a single comparison"
                    )
            if spec.cohort is not None:
                raise CalibrationError(_NO_SEARCH)
            attack = usual.attack if self.attack is None else self.attack
            return DecisionRule.of_fpir(spec, fpir, attack, gallery_size=gallery_size)
        asked = self.over(usual)
        if spec.cohort is not None and asked.threshold is None:
            raise CalibrationError(_NO_SEARCH)
        fmr = asked.fmr if asked.policy is None else asked.policy.accept_fmr
        return DecisionRule.of(spec, fmr, asked.threshold, asked.attack, references=None)

    def likeness(self, spec: ModelSpec, usual: DecisionOptions) -> float | None:
        """The threshold of a single pair, for enrolment's warnings.

        Args:
            spec: The model, with its operating points.
            usual: What holds for every call.

        Returns:
            None where nothing is asked for here and the model is not calibrated, or where scores are
            normalised by a cohort: such a model can enrol, it only cannot judge likeness.

        Raises:
            InputError: As :meth:`DecisionRule.of`.
            CalibrationError: As :meth:`DecisionRule.of`.
        """
        asked = self.over(usual)
        if spec.cohort is not None and asked.threshold is None:
            return None
        try:
            return asked.rule(spec).threshold
        except CalibrationError:
            if self != DecisionOptions():
                raise
            return None

    def require_possible(self, spec: ModelSpec) -> None:
        """Refuse what no number of references can answer; a mere default is looked at when it is used.

        Args:
            spec: The model, with its operating points.

        Raises:
            InputError: As :meth:`DecisionRule.of`.
            CalibrationError: As :meth:`DecisionRule.of`.
        """
        if self == DecisionOptions():
            return
        attack = self.attack or spec.default_attack
        points = [point for point in spec.operating_points if point.attack == attack]
        lowest = min(points, key=lambda point: (point.fmr, point.reference_count), default=None)
        self.rule(spec, references=lowest.reference_count if lowest else 1)
