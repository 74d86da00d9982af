"""What a caller asked for, and how this call's wishes go over those of every call."""

from __future__ import annotations

from dataclasses import dataclass

from verifykit.criterion import Criterion, Policy
from verifykit.errors import CalibrationError, InputError
from verifykit.spec import Attack, ModelSpec

__all__ = ["Asked"]

_NO_SEARCH = (
    "this calibration normalises scores by a cohort, each pair by its own, and a search has one threshold "
    "for all: give threshold=, or calibrate without a cohort"
)


@dataclass(frozen=True)
class Asked:
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

    def over(self, usual: Asked) -> Asked:
        """This call's wishes over those that hold for every call.

        Args:
            usual: A threshold in it gives way to a rate, a policy or an attack here, and the other way
                round; a policy to a rate, and the other way round.
        """
        if self.threshold is not None:
            return self
        if self == Asked():
            return usual
        attack = usual.attack if self.attack is None else self.attack
        rates = usual if self.fmr is None and self.policy is None else self
        return Asked(fmr=rates.fmr, attack=attack, policy=rates.policy)

    def criterion(self, spec: ModelSpec, references: int | None = 1) -> Criterion:
        """The criterion for a number of references: see :meth:`Criterion.of`.

        Args:
            spec: The model, with its operating points.
            references: How many references the score is over, at least 1; None is any number.

        Raises:
            InputError: As there.
            CalibrationError: As there.
        """
        if self.policy is not None:
            return Criterion.of_policy(spec, self.policy, self.attack, references=references)
        return Criterion.of(spec, self.fmr, self.threshold, self.attack, references=references)

    def search_criterion(
        self, spec: ModelSpec, usual: Asked, fpir: float | None, gallery_size: int
    ) -> Criterion:
        """The criterion of a search: one threshold for any number of references.

        A policy that holds for every call decides by what it accepts: candidates are not reviewed.

        Args:
            spec: The model, with its operating points.
            usual: What holds for every call.
            fpir: False positive identification rate in (0, 1) for the whole gallery, or None.
            gallery_size: How many subjects are enrolled.

        Raises:
            InputError: ``fpir`` beside ``fmr`` or ``threshold``; or as :meth:`Criterion.of`.
            CalibrationError: As :meth:`Criterion.of_fpir`; or scores are normalised by a cohort.
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
            return Criterion.of_fpir(spec, fpir, attack, gallery_size=gallery_size)
        asked = self.over(usual)
        if spec.cohort is not None and asked.threshold is None:
            raise CalibrationError(_NO_SEARCH)
        fmr = asked.fmr if asked.policy is None else asked.policy.accept_fmr
        return Criterion.of(spec, fmr, asked.threshold, asked.attack, references=None)

    def likeness(self, spec: ModelSpec, usual: Asked) -> float | None:
        """The threshold of a single pair, for enrolment's warnings.

        Args:
            spec: The model, with its operating points.
            usual: What holds for every call.

        Returns:
            None where nothing is asked for here and the model is not calibrated, or where scores are
            normalised by a cohort: such a model can enrol, it only cannot judge likeness.

        Raises:
            InputError: As :meth:`Criterion.of`.
            CalibrationError: As :meth:`Criterion.of`.
        """
        asked = self.over(usual)
        if spec.cohort is not None and asked.threshold is None:
            return None
        try:
            return asked.criterion(spec).threshold
        except CalibrationError:
            if self != Asked():
                raise
            return None

    def require_possible(self, spec: ModelSpec) -> None:
        """Refuse what no number of references can answer; a mere default is looked at when it is used.

        Args:
            spec: The model, with its operating points.

        Raises:
            InputError: As :meth:`Criterion.of`.
            CalibrationError: As :meth:`Criterion.of`.
        """
        if self == Asked():
            return
        attack = self.attack or spec.default_attack
        points = [point for point in spec.operating_points if point.attack == attack]
        lowest = min(points, key=lambda point: (point.fmr, point.reference_count), default=None)
        self.criterion(spec, references=lowest.reference_count if lowest else 1)
