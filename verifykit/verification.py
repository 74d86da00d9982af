"""Verification: the faces of one image against one subject, or against another image's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifykit.criterion import Criterion
from verifykit.scoring import subject_score
from verifykit.spec import Fusion
from verifykit.types import Decision, Subject, Template

__all__ = ["decide_pair", "decide_subject"]


def decide_subject(
    criterion: Criterion, fusion: Fusion, subject: Subject, probes: Sequence[Template]
) -> Decision:
    """The decision about the probe that is most like the subject.

    Args:
        criterion: For as many references as the subject has.
        fusion: How their scores become one.
        subject: Who is claimed.
        probes: One template a face, at least one.

    Returns:
        The decision, with that face's detection.
    """
    rows = np.stack([reference.embedding for reference in subject.templates])
    scores = [subject_score(probe.embedding, rows, fusion) for probe in probes]
    best = int(np.argmax(scores))
    return criterion.decide(
        scores[best], subject.subject_id, [probes[best]], reference_count=len(rows)
    )


def decide_pair(
    criterion: Criterion, probes: Sequence[Template], references: Sequence[Template]
) -> Decision:
    """The decision about the most alike of two images' faces; it does not depend on their order.

    Args:
        criterion: For a single reference.
        probes: One template a face of one image, at least one.
        references: Those of the other, at least one.

    Returns:
        The decision, with both detections: the probe's first.
    """
    pairs = [(probe, reference) for probe in probes for reference in references]
    scores = [subject_score(p.embedding, r.embedding[None], "max") for p, r in pairs]
    best = int(np.argmax(scores))
    return criterion.decide(scores[best], None, pairs[best])
