"""What requests ask for in their query, one class a verb; what is not listed is refused."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from verifykit.enrollment import IfEnrolled
from verifykit.server.problems import ProblemError
from verifykit.spec import Attack
from verifykit.types import MultiFace, QualityGate

__all__ = [
    "DecisionQuestion",
    "EnrolQuestion",
    "IdentifyQuestion",
    "ListQuestion",
    "Question",
    "SampleQuestion",
    "SubjectId",
]


def _subject_id(
    subject_id: Annotated[
        str,
        Path(description="One percent-encoded segment: a slash is sent as %2F.", max_length=765),
    ],
) -> str:
    try:
        return unquote(subject_id, errors="strict")
    except UnicodeDecodeError as error:
        raise ProblemError(
            "invalid_value", "the subject id in the path is not UTF-8, percent-encoded"
        ) from error


SubjectId = Annotated[str, Depends(_subject_id)]
"""The subject id of the path, decoded; whether it is allowed is for the library to say."""


class Question(BaseModel):
    """What every verb takes."""

    # A mistyped name must not silently mean the default.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str | None = Field(None, description="Which of /v1/models; the first by default.")


class SampleQuestion(Question):
    """What verbs take that look at one sample a picture."""

    multi_face: MultiFace | None = Field(None, description="What to do with several faces.")
    quality: QualityGate | None = Field(
        None, description="Refuse weak samples, or take them and warn."
    )


class DecisionQuestion(SampleQuestion):
    """What verbs take that decide."""

    fmr: float | None = Field(None, gt=0, lt=1, description="False match rate to decide at.")
    threshold: float | None = Field(
        None, ge=-1, le=1, description="A bare cosine threshold instead; it stands for no rate."
    )
    attack: Attack | None = Field(None, description="What the rate is about.")


class EnrolQuestion(Question):
    """What enrolment takes."""

    on_existing: IfEnrolled = Field(
        "error", description="What to do when the subject is enrolled already."
    )
    multi_face: Literal["error", "largest"] | None = Field(
        None, description="What to do with several faces."
    )
    quality: QualityGate | None = Field(
        None, description="Refuse weak samples, or take them and warn."
    )


class IdentifyQuestion(DecisionQuestion):
    """What identification takes."""

    limit: int = Field(5, ge=1, le=100, description="At most so many candidates for each face.")
    fpir: float | None = Field(
        None, gt=0, lt=1, description="False positive identification rate of a search, not fmr."
    )


class ListQuestion(Question):
    """What the list of subjects takes."""

    after: str | None = Field(None, description="Only ids after this one.", max_length=255)
    limit: int = Field(100, ge=1, le=1000, description="At most so many.")
