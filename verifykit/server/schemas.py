"""What requests ask for in their query, one class a verb; what is not listed is refused.

What the verbs answer, for OpenAPI: the library's own results, and what the service adds to them.

Results as JSON.

What OpenAPI says about bodies and problems, beside what FastAPI knows by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from verifykit.enrollment import IfEnrolled
from verifykit.server.errors import CODES, MEDIA_TYPE, ProblemError
from verifykit.spec import Attack
from verifykit.types import Decision, Detection, Identification, MultiFace, QualityGate


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


@dataclass(frozen=True)
class Problem:
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    request_id: str


@dataclass(frozen=True)
class DecisionAnswer(Decision):
    """A decision, and whose it is."""

    model: str = ""
    model_digest: str = ""


@dataclass(frozen=True)
class IdentifyAnswer:
    """An answer for each face, the largest first."""

    faces: tuple[Identification, ...]
    model: str
    model_digest: str


@dataclass(frozen=True)
class InspectedSample:
    """What was seen of one face or signature."""

    detection: Detection | None
    quality: Mapping[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class InspectAnswer:
    """Whether a picture could be used, and what to change if not; ``reasons`` is empty for a good one."""

    height_px: int
    width_px: int
    samples: tuple[InspectedSample, ...]
    reasons: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class RemovalAnswer:
    """A subject who was erased; ``erased`` is false while another process reads, see ``remove``."""

    subject_id: str
    removed_templates: int
    erased: bool


@dataclass(frozen=True)
class SubjectRow:
    """One line of the list of subjects."""

    subject_id: str
    template_count: int
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class SubjectsAnswer:
    """A page of subjects, sorted by id; ``next`` is the ``after`` of the following page."""

    subjects: tuple[SubjectRow, ...]
    next: str | None


@dataclass(frozen=True)
class StoredTemplate:
    """What is told of a template: never its embedding."""

    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SubjectAnswer:
    """What is told of a subject."""

    subject_id: str
    metadata: Mapping[str, Any]
    templates: tuple[StoredTemplate, ...]


@dataclass(frozen=True)
class RatePoint:
    """A rate that can be asked for, and its threshold for so many references."""

    fmr: float
    threshold: float
    attack: str
    reference_count: int


@dataclass(frozen=True)
class ModelGallery:
    """Where a model's subjects are enrolled."""

    subject_count: int


@dataclass(frozen=True)
class ModelAnswer:
    """A model that is served."""

    name: str
    modality: str
    spec_digest: str
    licence: str
    embedding_size: int
    default_fmr: float | None
    default_attack: str
    fmrs: tuple[RatePoint, ...]
    gallery: ModelGallery


@dataclass(frozen=True)
class ModelsAnswer:
    """The models that are served, the default first; there is no liveness detection."""

    models: tuple[ModelAnswer, ...]
    liveness: bool


@dataclass(frozen=True)
class HealthAnswer:
    """The process lives."""

    status: str


@dataclass(frozen=True)
class ReadyAnswer:
    """Whether requests can be answered, and what is missing if not."""

    status: str
    missing: tuple[str, ...]


def as_json(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of ``application/json``, encoded in the thread that calls."""
    encoded = json.dumps(body, allow_nan=False).encode()
    return Response(encoded, status, dict(headers or {}), "application/json")


_FILE = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
_BASE64 = {"type": "string", "contentEncoding": "base64", "format": "byte"}
_METADATA = {"type": "object", "description": "Stored with the subject."}

_EVERYWHERE = (400, 401, 403, 408, 413, 429, 500)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route answers with, besides those that each does.

    Args:
        *statuses: HTTP statuses.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*_EVERYWHERE, *statuses}):
        codes = [code for code, kind in CODES.items() if kind.status == status]
        found[status] = {
            "model": Problem,
            "description": f"Problem, with one of the codes {', '.join(codes)}.",
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
            }
    return found


def problem_media_type(schema: dict[str, Any]) -> None:
    """Put the problems of a whole OpenAPI document under their own media type, in place.

    Args:
        schema: The document as FastAPI made it, which says ``application/json`` everywhere.
    """
    for path in schema["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                for media_type in tuple(content):
                    if int(status) >= 400 and _is_problem(content[media_type]):
                        content[MEDIA_TYPE] = content.pop(media_type)


def name_models(schema: dict[str, Any], names: Iterable[str]) -> None:
    """Say which models can be asked for, in place.

    Args:
        schema: The document.
        names: Of the models that are served.
    """
    for path in schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if (parameter["in"], parameter["name"]) == ("query", "model"):
                    parameter["schema"] = {"type": "string", "enum": list(names)}


def enrol_body(most: str) -> dict[str, Any]:
    """Pictures and metadata, of either kind."""
    return _body(
        {
            "image": {"type": "array", "items": _FILE, "minItems": 1, "description": most},
            "metadata": {"type": "string", "description": "A JSON object."},
        },
        {
            "images": {"type": "array", "items": _BASE64, "minItems": 1, "description": most},
            "metadata": {"anyOf": [_METADATA, {"type": "null"}]},
        },
        ["image"],
        ["images"],
    )


def picture_body() -> dict[str, Any]:
    """One picture, of either kind."""
    return _body({"image": _FILE}, {"image": _BASE64}, ["image"], ["image"])


def compare_body() -> dict[str, Any]:
    """Two pictures, of either kind."""
    names = ["probe", "reference"]
    return _body(dict.fromkeys(names, _FILE), dict.fromkeys(names, _BASE64), names, names)


def _body(
    parts: dict[str, Any], keys: dict[str, Any], required_parts: list[str], required: list[str]
) -> dict[str, Any]:
    def described(properties: dict[str, Any], names: list[str]) -> dict[str, Any]:
        return {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": names,
                "additionalProperties": False,
            }
        }

    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": described(parts, required_parts),
                "application/json": described(keys, required),
            },
        }
    }


def _is_problem(content: dict[str, Any]) -> bool:
    return str(content.get("schema", {}).get("$ref", "")).endswith("/Problem")
