"""What a run asks, and one image's answer as a row of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verifykit.criterion import Criterion
from verifykit.types import Candidate, MultiFace, QualityGate, Sample

__all__ = ["Question", "Refusal", "Row", "answer_row", "refusal_row"]

Row = dict[str, Any]
"""One image's line: JSON-ready, its keys in a fixed order."""


@dataclass(frozen=True)
class Question:
    """What is asked of every image, and what the answers depend on.

    Attributes:
        criterion: From which score on a subject is a candidate.
        limit: At most so many candidates for each face.
        multi_face: What to do with several faces.
        quality: Whether a quality reason refuses or only warns.
        gallery_size: Subjects that are searched.
        model: The model's digest.
        calibration: The digest of what turns a score into a decision.
    """

    criterion: Criterion
    limit: int
    multi_face: MultiFace
    quality: QualityGate
    gallery_size: int
    model: str
    calibration: str


@dataclass(frozen=True)
class Refusal:
    """Why an image gave no answer.

    Attributes:
        code: ``"unreadable"``, an acquisition's reason such as ``"no_face"``, ``"no_embedding"`` where the
            network gave nothing usable, or ``"failed"`` for what was not foreseen.
        message: A sentence for people.
    """

    code: str
    message: str


def answer_row(
    name: str,
    samples: Sequence[Sample],
    found: Sequence[Sequence[Candidate]],
    question: Question,
) -> Row:
    """The row of an image that could be used.

    Args:
        name: The image.
        samples: Its faces, at least one, largest first.
        found: For each of them its candidates.
        question: What was asked.
    """
    faces = [
        {
            "box_px": sample.detection.box_px if sample.detection else None,
            "reasons": sample.reasons,
            "decision": _decision(candidates),
            "candidates": [{"subject_id": c.subject_id, "score": c.score} for c in candidates],
        }
        for sample, candidates in zip(samples, found, strict=True)
    ]
    decision = _decision([face for face in faces if face["candidates"]])
    return {"image": name, "decision": decision, "faces": faces, **_context(question)}


def refusal_row(name: str, refusal: Refusal, question: Question) -> Row:
    """The row of an image that could not be used.

    Args:
        name: The image.
        refusal: Why.
        question: What was asked.
    """
    why = {"decision": refusal.code, "error": refusal.code, "message": refusal.message}
    return {"image": name, **why, **_context(question)}


def _decision(matches: Sequence[object]) -> str:
    return "match" if matches else "no_match"


def _context(question: Question) -> Row:
    criterion = question.criterion
    return {
        "threshold": criterion.threshold,
        "fmr": criterion.fmr,
        "attack": criterion.attack,
        "fpir": criterion.fpir,
        "gallery_size": question.gallery_size,
        "model": question.model,
        "calibration": question.calibration,
    }
