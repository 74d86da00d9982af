"""Request and response schemas: the query parameters and the answers of every verb.

OpenAPI and the responses are both made from these classes. A response is validated when it is created, with
everything in it, and only then encoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.dataclasses import dataclass
from starlette.responses import Response

from verifykit._given_faces import faces_from_texts
from verifykit._options import build_options, option_fields
from verifykit.decision import DecisionOptions
from verifykit.enrollment import IfEnrolled
from verifykit.extraction import MAX_FACES, SampleOptions
from verifykit.types import (
    Decision,
    Detection,
    EnrollmentReport,
    Identification,
    MultiFace,
    QualityGate,
)

Query = TypeVar("Query", bound="ModelQuery")


def with_options(
    kind: type, names: Iterable[str] | None = None
) -> Callable[[type[Query]], type[Query]]:
    """Give a query one optional parameter for each field of an option object that it does not declare."""

    def decorate(query: type[Query]) -> type[Query]:
        fields: dict[str, Any] = {
            each.name: (each.hint | None, Field(None, description=each.help, **each.bounds))
            for each in option_fields(kind, names)
            if each.name not in query.model_fields
        }
        return create_model(
            query.__name__,
            __base__=query,
            __doc__=query.__doc__,
            __module__=query.__module__,
            **fields,
        )

    return decorate


class ModelQuery(BaseModel):
    """The query of every verb."""

    # A mistyped name must not silently mean the default.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str | None = Field(None, description="Which of /v1/models; the first by default.")

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of the verb: everything but the model."""
        return self.model_dump(exclude={"model"})

    def sample(self, defaults: SampleOptions) -> SampleOptions:
        """Return how samples are chosen and judged: by the request, else by default."""
        values = self.model_dump()
        names = (each.name for each in option_fields(SampleOptions))
        return defaults.changed(**{name: values.get(name) for name in names})

    def decision(self) -> DecisionOptions:
        """Return how the request wants the threshold to be chosen."""
        return build_options(DecisionOptions, self.model_dump(exclude_none=True))


class FaceQuery(ModelQuery):
    """A query that may say where faces are."""

    face: list[str] | None = Field(
        None,
        description="Where a face is that is not found: left,top,width,height or x,y of five landmarks, in "
        "pixels of the upright image. Of several images one for each, - where the face is found.",
        max_length=MAX_FACES,
    )

    def faces(self) -> list[Any] | None:
        """Return the given faces; None without any."""
        return faces_from_texts(self.face)

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of the verb, ``faces`` too."""
        return {**self.model_dump(exclude={"model", "face"}), "faces": self.faces()}


@with_options(SampleOptions)
@with_options(DecisionOptions, ("fmr", "threshold", "attack"))
class DecisionQuery(FaceQuery):
    """The query of verbs that decide."""


@with_options(SampleOptions)
class EnrolmentQuery(FaceQuery):
    """The query of enrolment."""

    on_existing: IfEnrolled = Field(
        "error", description="What to do when the subject is already enrolled."
    )
    multi_face: Literal["error", "largest"] | None = Field(
        None, description="What to do with several faces in an image."
    )
    look_alikes: bool = Field(
        True, description="Whether to count enrolled subjects who nearly reach the threshold."
    )


@with_options(DecisionOptions, ("fpir",))
class IdentifyQuery(DecisionQuery):
    """The query of identification."""

    limit: int = Field(5, ge=1, le=100, description="Maximum number of candidates for each face.")


class SubjectsQuery(ModelQuery):
    """The query of the list of subjects."""

    after: str | None = Field(None, description="Only ids after this one.", max_length=255)
    limit: int = Field(100, ge=1, le=1000, description="Maximum number of subjects.")


_RESPONSE = ConfigDict(allow_inf_nan=False, protected_namespaces=(), revalidate_instances="always")


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class Problem:
    """An error as RFC 9457 defines it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    request_id: str


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class EnrolmentResponse(EnrollmentReport):
    """What an enrolment accepted and what it refused, image by image."""


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class DecisionResponse(Decision):
    """A decision, and the model that it was made with."""

    model: str
    model_digest: str


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class IdentifyResponse:
    """An answer for each face, the largest first."""

    faces: tuple[Identification, ...]
    model: str
    model_digest: str


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class InspectedSample:
    """The measurements of one face or signature."""

    detection: Detection | None
    quality: Mapping[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class InspectResponse:
    """Whether an image could be used, and what to change if not; ``reasons`` is empty for a good one."""

    height_px: int
    width_px: int
    samples: tuple[InspectedSample, ...]
    reasons: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class RemovalResponse:
    """A subject that was erased; ``erased`` is false while another process still reads, see ``remove``."""

    subject_id: str
    removed_templates: int
    erased: bool


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class SubjectRow:
    """One row of the list of subjects."""

    subject_id: str
    template_count: int
    metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class SubjectsResponse:
    """A page of subjects, sorted by id; ``next`` is the ``after`` of the following page."""

    subjects: tuple[SubjectRow, ...]
    next: str | None


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class StoredTemplate:
    """What is shown of a template: never its embedding."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class SubjectResponse:
    """What is shown of a subject."""

    subject_id: str
    metadata: Mapping[str, Any]
    templates: tuple[StoredTemplate, ...]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class RatePoint:
    """A rate that can be requested, and its threshold for this number of references."""

    fmr: float
    threshold: float
    attack: str
    reference_count: int


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class BandRow:
    """How often different people of one band match, at the usual threshold and at this population's.

    Both samples of a comparison are of the band.
    """

    band: str
    fmr: float
    subject_count: int
    non_mated_count: int
    usual: float | None
    usual_interval: tuple[float, float] | None
    found: float
    found_interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class PopulationPoint(RatePoint):
    """The same with its price: the share of mated comparisons below the threshold, if it was measured."""

    fnmr: float | None
    usual_fnmr: float | None


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class PopulationDescription:
    """Thresholds for other people than the usual; the operator chooses them for the whole service."""

    name: str
    description: str
    default_fmr: float | None
    fmrs: tuple[PopulationPoint, ...]
    bands: tuple[BandRow, ...]
    bands_data: str
    notes: tuple[str, ...]


InputKind = Literal["camera", "pen", "image"]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class ModelOptions:
    """The values that the query parameters of a model's verbs take; empty where one has no effect."""

    multi_face: tuple[MultiFace, ...]
    quality: tuple[QualityGate, ...]
    attack: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class ModelGallery:
    """The gallery of a model; ``kind`` is ``file`` or the scheme of its URL."""

    kind: str
    subject_count: int


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class ModelDescription:
    """A model that is served.

    ``label`` is for a choice of models on a page; ``inputs`` are the sources of images that suit the model,
    the best first; ``live_hints`` says whether the video of a camera can be inspected before a shot.
    ``population`` says of whom the rates in ``fmrs`` are.
    """

    name: str
    modality: str
    label: str
    inputs: tuple[InputKind, ...]
    live_hints: bool
    spec_digest: str
    licence: str
    embedding_size: int
    default_fmr: float | None
    default_attack: str
    fmrs: tuple[RatePoint, ...]
    population: str | None
    populations: tuple[PopulationDescription, ...]
    options: ModelOptions
    gallery: ModelGallery


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class ModelsResponse:
    """The models that are served, the default first; there is no liveness detection."""

    models: tuple[ModelDescription, ...]
    liveness: bool


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class HealthResponse:
    """The process is running."""

    status: str


@dataclass(frozen=True, kw_only=True, config=_RESPONSE)
class ReadyResponse:
    """Whether requests can be answered, what is missing if not, and what needs the operator."""

    status: str
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


def encode(body: Any) -> bytes:
    """Return an instance of a response schema as JSON."""
    # Not pydantic's own JSON: it cannot write the half surrogate pairs that metadata may hold.
    plain = TypeAdapter(type(body)).dump_python(body)
    return json.dumps(plain, allow_nan=False).encode()


def json_response(body: Any, status: int = 200) -> Response:
    """Return a response of ``application/json``, encoded in the thread that calls."""
    return Response(encode(body), status, media_type="application/json")
