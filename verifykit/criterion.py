"""What decides: a threshold, and the false match rate that it stands for, if it stands for one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from verifykit.errors import InputError
from verifykit.spec import ModelSpec
from verifykit.types import Decision, Template

__all__ = ["Criterion"]


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
    def of(cls, spec: ModelSpec, fmr: float | None, threshold: float | None) -> Criterion:
        """The criterion that was asked for; the model's default when nothing was.

        Args:
            spec: The model, with its operating points.
            fmr: A false match rate in (0, 1), or None.
            threshold: A bare cosine threshold in [-1, 1], or None.

        Returns:
            The criterion.

        Raises:
            InputError: Both, or one out of range or no number.
            CalibrationError: The model does not go down to this ``fmr``, or has no default.
        """
        for name, value in (("fmr", fmr), ("threshold", threshold)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise InputError(f"{name} is a number, got {value!r}")
        if fmr is not None and threshold is not None:
            raise InputError(
                f"fmr={fmr} and threshold={threshold}: give one of them; fmr= is the one with a meaning"
            )
        if threshold is not None:
            if not (math.isfinite(threshold) and -1.0 <= threshold <= 1.0):
                raise InputError(f"threshold is a cosine in [-1, 1], got {threshold}")
            return cls(float(threshold), None, None)
        if fmr is not None and not 0.0 < fmr < 1.0:
            raise InputError(f"fmr is a rate in (0, 1), got {fmr}")
        point = spec.operating_point(fmr)
        return cls(point.threshold, point.fmr, point.attack)

    def decide(
        self, score: float, subject_id: str | None, templates: Sequence[Template]
    ) -> Decision:
        """The decision about a score.

        Args:
            score: Cosine similarity in [-1, 1].
            subject_id: Who was claimed, or None.
            templates: Those made for this decision, for their warnings and detections.

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
            warnings=tuple(dict.fromkeys(r for template in templates for r in template.reasons)),
            detections=tuple(t.detection for t in templates if t.detection is not None),
        )
