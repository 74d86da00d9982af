"""What decides: a threshold, and the false match rate that it stands for, if it stands for one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import get_args

from verifykit.errors import InputError
from verifykit.spec import Attack, ModelSpec
from verifykit.types import Decision, Template

__all__ = ["Asked", "Criterion"]


@dataclass(frozen=True)
class Criterion:
    """A threshold with its meaning.

    Attributes:
        threshold: Cosine similarity; match is ``score >= threshold``.
        fmr: The false match rate that it stands for; None for a bare threshold.
        attack: Which non-mated comparisons the rate is about; None for a bare threshold.
    """

    threshold: float
    fmr: float | None
    attack: str | None

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        fmr: float | None,
        threshold: float | None,
        attack: Attack | None = None,
        *,
        references: int | None = 1,
    ) -> Criterion:
        """The criterion that was asked for; the model's default when nothing was.

        Args:
            spec: The model, with its operating points.
            fmr: A false match rate in (0, 1), or None.
            threshold: A bare cosine threshold in [-1, 1], or None.
            attack: Which non-mated comparisons the rate is about; None takes the model's default.
            references: How many references the score is over, at least 1; None is any number.

        Returns:
            The criterion.

        Raises:
            InputError: A threshold together with ``fmr`` or ``attack``, or one of them out of range, no
                number or unknown.
            CalibrationError: The model does not go down to this ``fmr`` for this attack and so few
                references, or has no default.
        """
        for name, value in (("fmr", fmr), ("threshold", threshold)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise InputError(f"{name} is a number, got {value!r}")
        if attack is not None and attack not in get_args(Attack):
            raise InputError(f"attack is one of {', '.join(get_args(Attack))}, got {attack!r}")
        if threshold is not None:
            for name, given in (("fmr", fmr), ("attack", attack)):
                if given is not None:
                    raise InputError(
                        f"{name}={given} and threshold={threshold}: give one of them; a bare threshold "
                        "stands for no rate, fmr= is the one with a meaning"
                    )
            if not (math.isfinite(threshold) and -1.0 <= threshold <= 1.0):
                raise InputError(f"threshold is a cosine in [-1, 1], got {threshold}")
            return cls(float(threshold), None, None)
        if fmr is not None and not 0.0 < fmr < 1.0:
            raise InputError(f"fmr is a rate in (0, 1), got {fmr}")
        point = spec.operating_point(fmr, attack, references)
        return cls(point.threshold, point.fmr, point.attack)

    def decide(
        self,
        score: float,
        subject_id: str | None,
        templates: Sequence[Template],
        *,
        reference_count: int = 1,
    ) -> Decision:
        """The decision about a score.

        Args:
            score: Cosine similarity in [-1, 1].
            subject_id: Who was claimed, or None.
            templates: Those made for this decision, for their warnings and detections.
            reference_count: How many references the score is over.

        Returns:
            The decision.
        """
        return Decision(
            match=score >= self.threshold,
            score=score,
            threshold=self.threshold,
            fmr=self.fmr,
            attack=self.attack,
            subject_id=subject_id,
            reference_count=reference_count,
            warnings=tuple(dict.fromkeys(r for template in templates for r in template.reasons)),
            detections=tuple(t.detection for t in templates if t.detection is not None),
        )


@dataclass(frozen=True)
class Asked:
    """What a caller asked for, before it is known how many references there are.

    Attributes:
        fmr: A false match rate in (0, 1), or None.
        threshold: A bare cosine threshold in [-1, 1], or None.
        attack: Which non-mated comparisons the rate is about, or None.
    """

    fmr: float | None = None
    threshold: float | None = None
    attack: Attack | None = None

    def over(self, usual: Asked) -> Asked:
        """This call's wishes over those that hold for every call.

        Args:
            usual: A threshold in it gives way to a rate or an attack here, and the other way round.
        """
        if self.threshold is not None:
            return self
        if self.fmr is None and self.attack is None:
            return usual
        return Asked(
            fmr=usual.fmr if self.fmr is None else self.fmr,
            attack=usual.attack if self.attack is None else self.attack,
        )

    def criterion(self, spec: ModelSpec, references: int | None = 1) -> Criterion:
        """The criterion for a number of references: see :meth:`Criterion.of`.

        Args:
            spec: The model, with its operating points.
            references: How many references the score is over, at least 1; None is any number.

        Raises:
            InputError: As there.
            CalibrationError: As there.
        """
        return Criterion.of(spec, self.fmr, self.threshold, self.attack, references=references)

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
