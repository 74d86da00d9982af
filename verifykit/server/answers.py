"""What the verbs answer, for OpenAPI: the library's own results, and what the service adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verifykit.types import Decision, Detection, Identification

__all__ = [
    "DecisionAnswer",
    "HealthAnswer",
    "IdentifyAnswer",
    "InspectAnswer",
    "InspectedSample",
    "ModelAnswer",
    "ModelGallery",
    "ModelsAnswer",
    "Problem",
    "RatePoint",
    "ReadyAnswer",
    "RemovalAnswer",
    "StoredTemplate",
    "SubjectAnswer",
    "SubjectRow",
    "SubjectsAnswer",
]


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
