"""Subjects: enrol, list, show, erase."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from verifykit.errors import GalleryError, GalleryLockedError, SubjectNotFoundError
from verifykit.gallery import Gallery
from verifykit.gallery.base import subject_page
from verifykit.server.dependencies import Caller, Record, require, service_of
from verifykit.server.schemas import (
    EnrolQuestion,
    ListQuestion,
    Question,
    RemovalAnswer,
    SubjectAnswer,
    SubjectId,
    SubjectsAnswer,
    as_json,
    enrol_body,
    problems,
)
from verifykit.server.service import ServedModel, Service
from verifykit.server.uploads import Upload, receive
from verifykit.types import EnrollmentReport

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="The same key with the same content is enrolled once and answered again.",
    ),
]


@router.put(
    "/{subject_id}",
    responses={
        200: {"model": EnrollmentReport, "description": "Pictures were added to the subject."},
        201: {"model": EnrollmentReport, "description": "The subject is new."},
        **problems(404, 409, 415, 422, 503, 507),
    },
    openapi_extra=enrol_body("As many as the operator allows."),
)
async def enrol(
    request: Request,
    caller: Annotated[Caller, Depends(require("enrol"))],
    subject_id: SubjectId,
    question: Annotated[EnrolQuestion, Query()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Enrol a subject from one or more pictures; durable, and in the audit log, when it is answered."""
    service = service_of(request)
    model = service.model(question.model)
    upload = await receive(request)
    enrolment = _Enrolment(service, caller, model, subject_id, question)
    return await service.work.run(lambda: enrolment.once(upload, idempotency_key))


@router.get(
    "",
    dependencies=[Depends(require("read"))],
    responses={200: {"model": SubjectsAnswer}, **problems(404, 422, 503)},
)
async def list_subjects(
    request: Request,
    question: Annotated[ListQuestion, Query()],
) -> Response:
    """List subjects, sorted by id, a page at a time."""
    service = service_of(request)
    gallery = service.model(question.model).verifier.gallery
    return await service.work.run(lambda: as_json(_page(gallery, question.after, question.limit)))


@router.get(
    "/{subject_id}",
    dependencies=[Depends(require("read"))],
    responses={200: {"model": SubjectAnswer}, **problems(404, 422, 503)},
)
async def show_subject(
    request: Request,
    subject_id: SubjectId,
    question: Annotated[Question, Query()],
) -> Response:
    """Show what is stored of a subject, without what could be compared."""
    service = service_of(request)
    gallery = service.model(question.model).verifier.gallery
    return await service.work.run(lambda: as_json(_shown(gallery, subject_id)))


@router.delete(
    "/{subject_id}",
    responses={200: {"model": RemovalAnswer}, **problems(404, 422, 503, 507)},
)
async def remove_subject(
    request: Request,
    caller: Annotated[Caller, Depends(require("admin"))],
    subject_id: SubjectId,
    question: Annotated[Question, Query()],
) -> Response:
    """Erase a subject: all templates and metadata."""
    service = service_of(request)
    model = service.model(question.model)
    return await service.work.run(lambda: _removed(service, caller, model, subject_id))


class _Enrolment:
    """One enrolment: gallery, then audit log, then the answer."""

    def __init__(
        self,
        service: Service,
        caller: Caller,
        model: ServedModel,
        subject_id: str,
        question: EnrolQuestion,
    ) -> None:
        self._service, self._caller, self._model = service, caller, model
        self._subject_id, self._question = subject_id, question
        self._record = Record(service, caller, "enroll", model, subject_id)

    def once(self, upload: Upload, key: str | None) -> Response:
        """The answer; the stored one if the key has one."""
        pictures = upload.pictures("image", "images", most=self._service.settings.max_images)
        metadata = upload.metadata()
        if key is None:
            return self._enrolled(pictures, metadata)
        known, owner = self._service.idempotency, self._caller.owner
        if stored := known.begin(key, owner, self._digest(pictures, metadata)):
            replayed = {"Idempotency-Replayed": "true"}
            return Response(stored.body, stored.status, replayed, "application/json")
        try:
            answer = self._enrolled(pictures, metadata)
        except BaseException:
            with suppress(GalleryError):  # what went wrong first is what the client is told
                known.abandon(key, owner)
            raise
        # It is enrolled, and said so in the audit log: a state file that fails now changes nothing.
        with suppress(GalleryError):
            known.finish(key, owner, answer.status_code, bytes(answer.body))
        return answer

    def _enrolled(self, pictures: Sequence[bytes], metadata: dict[str, Any] | None) -> Response:
        with self._record.refusals():
            report = self._model.verifier.enroll(
                self._subject_id,
                pictures,
                metadata,
                multi_face=self._question.multi_face,
                quality=self._question.quality,
                on_existing=self._question.on_existing,
            )
        is_new = report.template_count <= len(report.accepted)
        self._record.done("enrolled" if is_new else "appended")
        for refused in report.refused:
            self._service.metrics.refused(refused.reason)
        return as_json(report.to_dict(), 201 if is_new else 200)

    def _digest(self, pictures: Sequence[bytes], metadata: dict[str, Any] | None) -> str:
        """Of what was asked for, and not of the body: the boundary of multipart is new each time."""
        asked = {
            **self._question.model_dump(),
            "model": self._model.name,
            "subject_id": self._subject_id,
            "metadata": metadata,
            "pictures": [hashlib.sha256(picture).hexdigest() for picture in pictures],
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _page(gallery: Gallery, after: str | None, limit: int) -> dict[str, Any]:
    ids = subject_page(gallery, after, limit + 1)
    rows = []
    for subject_id in ids[:limit]:
        with suppress(SubjectNotFoundError):  # erased since
            subject = gallery.get(subject_id)
            rows.append(
                {
                    "subject_id": subject_id,
                    "template_count": len(subject.templates),
                    "metadata": dict(subject.metadata),
                }
            )
    return {"subjects": rows, "next": ids[limit - 1] if len(ids) > limit else None}


def _shown(gallery: Gallery, subject_id: str) -> dict[str, Any]:
    subject = gallery.get(subject_id)
    return {
        "subject_id": subject_id,
        "metadata": dict(subject.metadata),
        "templates": [{"reasons": list(template.reasons)} for template in subject.templates],
    }


def _removed(service: Service, caller: Caller, model: ServedModel, subject_id: str) -> Response:
    record = Record(service, caller, "remove", model, subject_id)
    gallery, is_erased = model.verifier.gallery, True
    with record.refusals():
        count = len(gallery.get(subject_id).templates)
        try:
            count = gallery.remove(subject_id)
        except GalleryLockedError:
            # Either nothing was done, or another process still reads and the log keeps the bytes a while.
            if _is_enrolled(gallery, subject_id):
                raise
            is_erased = False
    record.done("removed")
    return as_json({"subject_id": subject_id, "removed_templates": count, "erased": is_erased})


def _is_enrolled(gallery: Gallery, subject_id: str) -> bool:
    try:
        gallery.get(subject_id)
    except SubjectNotFoundError:
        return False
    return True
