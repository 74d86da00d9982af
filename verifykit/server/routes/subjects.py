"""Subjects: enrol, list, show and erase."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from verifykit.errors import (
    GalleryError,
    GalleryLockedError,
    SubjectNotFoundError,
    VerifyKitError,
)
from verifykit.gallery import Gallery, checked_subject_id
from verifykit.gallery.base import stored_subject_id, subject_page
from verifykit.server.dependencies import (
    Caller,
    DecisionRecorder,
    SubjectId,
    require,
    service_of,
)
from verifykit.server.openapi import enrolment_body, problems
from verifykit.server.schemas import (
    EnrolmentQuery,
    EnrolmentResponse,
    ModelQuery,
    RemovalResponse,
    StoredTemplate,
    SubjectResponse,
    SubjectRow,
    SubjectsQuery,
    SubjectsResponse,
    json_response,
)
from verifykit.server.service import ServedModel, Service
from verifykit.server.uploads import Upload, receive

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key with the same content is enrolled once, and answered again.",
    ),
]


@router.put(
    "/{subject_id}",
    responses={
        200: {"model": EnrolmentResponse, "description": "Images were added to the subject."},
        201: {"model": EnrolmentResponse, "description": "The subject is new."},
        **problems(404, 409, 415, 422, 503, 507),
    },
    openapi_extra=enrolment_body(),
)
async def enrol(
    request: Request,
    caller: Annotated[Caller, Depends(require("enrol"))],
    subject_id: SubjectId,
    query: Annotated[EnrolmentQuery, Query()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Enrol a subject from one or more images; durable, and in the audit log, before the response."""
    service = service_of(request)
    model = service.model(query.model)
    upload = await receive(request)
    enrolment = _Enrolment(service, caller, model, subject_id, query)
    return await service.workers.run(lambda: enrolment.once(upload, idempotency_key))


@router.get(
    "",
    dependencies=[Depends(require("read"))],
    responses={200: {"model": SubjectsResponse}, **problems(404, 422, 503)},
)
async def list_subjects(
    request: Request,
    query: Annotated[SubjectsQuery, Query()],
) -> Response:
    """List subjects, sorted by id, a page at a time."""
    service = service_of(request)
    gallery = service.model(query.model).verifier.gallery
    return await service.workers.run(lambda: _list(gallery, query))


@router.get(
    "/{subject_id}",
    dependencies=[Depends(require("read"))],
    responses={200: {"model": SubjectResponse}, **problems(404, 422, 503)},
)
async def show_subject(
    request: Request,
    subject_id: SubjectId,
    query: Annotated[ModelQuery, Query()],
) -> Response:
    """Show what is stored of a subject, without its embeddings."""
    service = service_of(request)
    gallery = service.model(query.model).verifier.gallery
    return await service.workers.run(lambda: _show(gallery, subject_id))


@router.delete(
    "/{subject_id}",
    responses={200: {"model": RemovalResponse}, **problems(404, 422, 503, 507)},
)
async def remove_subject(
    request: Request,
    caller: Annotated[Caller, Depends(require("admin"))],
    subject_id: SubjectId,
    query: Annotated[ModelQuery, Query()],
) -> Response:
    """Erase a subject: all templates and metadata."""
    service = service_of(request)
    model = service.model(query.model)
    return await service.workers.run(lambda: _remove(service, caller, model, subject_id))


class _Enrolment:
    """One enrolment: the gallery first, then the audit log, then the response."""

    def __init__(
        self,
        service: Service,
        caller: Caller,
        model: ServedModel,
        subject_id: str,
        query: EnrolmentQuery,
    ) -> None:
        self._service, self._caller, self._model = service, caller, model
        self._subject_id, self._query = checked_subject_id(subject_id), query
        self._recorder = DecisionRecorder(service, caller, "enroll", model, self._subject_id)

    def once(self, upload: Upload, key: str | None) -> Response:
        """Enrol and return the response, or return the response that is stored under the key."""
        images = upload.images("image", "images", most=self._service.settings.max_images)
        metadata = upload.metadata()
        if key is None:
            return self._enrol(images, metadata)
        idempotency, owner = self._service.idempotency, self._caller.owner
        if stored := idempotency.begin(key, owner, self._digest(images, metadata)):
            replayed = {"Idempotency-Replayed": "true"}
            return Response(stored.body, stored.status, replayed, "application/json")
        try:
            response = self._enrol(images, metadata)
        except BaseException:
            with suppress(GalleryError):  # the response reports the first error
                idempotency.abandon(key, owner)
            raise
        # The subject is enrolled, and the audit log says so: a state file that fails now changes nothing.
        with suppress(GalleryError):
            idempotency.finish(key, owner, response.status_code, bytes(response.body))
        return response

    def _enrol(self, images: Sequence[bytes], metadata: dict[str, Any] | None) -> Response:
        with self._recorder.refusals():
            report = self._model.verifier.enroll(
                self._subject_id, images, metadata, **self._query.options()
            )
        is_new = report.template_count <= len(report.accepted)
        try:
            self._recorder.done("enrolled" if is_new else "appended")
        except VerifyKitError:
            if is_new:  # what is answered as an error is not enrolled
                with suppress(VerifyKitError):
                    self._model.verifier.remove(self._subject_id)
            raise
        for refused in report.refused:
            self._service.metrics.refused(refused.reason)
        return json_response(EnrolmentResponse(**vars(report)), 201 if is_new else 200)

    def _digest(self, images: Sequence[bytes], metadata: dict[str, Any] | None) -> str:
        """Return a digest of the request's content; not of its body, as multipart boundaries differ."""
        content = {
            # What is counted for the response changes nothing that is stored.
            **self._query.model_dump(exclude={"look_alikes"}),
            "model": self._model.name,
            "subject_id": self._subject_id,
            "metadata": metadata,
            "pictures": [hashlib.sha256(image).hexdigest() for image in images],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _list(gallery: Gallery, query: SubjectsQuery) -> Response:
    ids = subject_page(gallery, query.after, query.limit + 1)
    rows = []
    for subject_id in ids[: query.limit]:
        with suppress(SubjectNotFoundError):  # erased since
            subject = gallery.get(subject_id)
            rows.append(
                SubjectRow(
                    subject_id=subject_id,
                    template_count=len(subject.templates),
                    metadata=dict(subject.metadata),
                )
            )
    following = ids[query.limit - 1] if len(ids) > query.limit else None
    return json_response(SubjectsResponse(subjects=tuple(rows), next=following))


def _show(gallery: Gallery, subject_id: str) -> Response:
    subject = gallery.get(subject_id)
    return json_response(
        SubjectResponse(
            subject_id=subject.subject_id,
            metadata=dict(subject.metadata),
            templates=tuple(StoredTemplate(reasons=each.reasons) for each in subject.templates),
        )
    )


def _remove(service: Service, caller: Caller, model: ServedModel, subject_id: str) -> Response:
    gallery, is_erased = model.verifier.gallery, True
    subject_id = stored_subject_id(gallery, subject_id)
    recorder = DecisionRecorder(service, caller, "remove", model, subject_id)
    with recorder.refusals():
        count = len(gallery.get(subject_id).templates)
        try:
            count = gallery.remove(subject_id)
        except GalleryLockedError:
            # Either nothing was done, or another process still reads and the log keeps the bytes a while.
            if _is_enrolled(gallery, subject_id):
                raise
            is_erased = False
    recorder.done("removed")
    return json_response(
        RemovalResponse(subject_id=subject_id, removed_templates=count, erased=is_erased)
    )


def _is_enrolled(gallery: Gallery, subject_id: str) -> bool:
    try:
        gallery.get(subject_id)
    except SubjectNotFoundError:
        return False
    return True
