"""Verification: the faces of one image against one subject, or against another image's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verifykit.criterion import Criterion
from verifykit.normalisation import Normal, cohort_statistics
from verifykit.scoring import paired_scores, reference_rows, subject_score
from verifykit.spec import Cohort, Fusion
from verifykit.types import Decision, Subject, Template

__all__ = ["decide_pair", "decide_subject"]


def decide_subject(
    criterion: Criterion,
    fusion: Fusion,
    subject: Subject,
    probes: Sequence[Template],
    cohort: Cohort | None = None,
) -> Decision:
    """The decision about the probe that is most like the subject.

    Args:
        criterion: For as many references as the subject has.
        fusion: How their scores become one.
        subject: Who is claimed.
        probes: One template a face, at least one.
        cohort: What scores are normalised by; None for bare cosines.

    Returns:
        The decision, with that face's detection.
    """
    rows = np.stack([reference.embedding for reference in subject.templates])
    scores = [subject_score(probe.embedding, rows, fusion) for probe in probes]
    best = int(np.argmax(scores))
    normal = None
    if cohort is not None:
        fused = reference_rows(rows, fusion)
        nearest = int(np.argmax(paired_scores(probes[best].embedding, fused)))
        normal = _normal(cohort, probes[best].embedding, fused[nearest])
    return criterion.decide(
        scores[best],
        subject.subject_id,
        [probes[best]],
        reference_count=len(rows),
        normal=normal,
    )


def decide_pair(
    criterion: Criterion,
    probes: Sequence[Template],
    references: Sequence[Template],
    cohort: Cohort | None = None,
) -> Decision:
    """The decision about the most alike of two images' faces; it does not depend on their order.

    Args:
        criterion: For a single reference.
        probes: One template a face of one image, at least one.
        references: Those of the other, at least one.
        cohort: What scores are normalised by; None for bare cosines.

    Returns:
        The decision, with both detections: the probe's first.
    """
    pairs = [(probe, reference) for probe in probes for reference in references]
    scores = [subject_score(p.embedding, r.embedding[None], "max") for p, r in pairs]
    best = int(np.argmax(scores))
    normal = None
    if cohort is not None:
        normal = _normal(cohort, *(template.embedding for template in pairs[best]))
    return criterion.decide(scores[best], None, pairs[best], normal=normal)


def _normal(cohort: Cohort, probe: NDArray[np.float32], reference: NDArray[np.float32]) -> Normal:
    return Normal.of(*(cohort_statistics(cohort, row[None]) for row in (probe, reference)))
