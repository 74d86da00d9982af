"""Verification and comparison: 1:1."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from verifykit.errors import CalibrationError
from verifykit.server.dependencies import Caller, Record, require, service_of
from verifykit.server.errors import ProblemError
from verifykit.server.schemas import (
    DecisionAnswer,
    DecisionQuestion,
    SubjectId,
    as_json,
    compare_body,
    picture_body,
    problems,
)
from verifykit.server.service import ServedModel, Service
from verifykit.server.uploads import Upload, receive
from verifykit.types import Decision

router = APIRouter(prefix="/v1", tags=["verification"])


@router.post(
    "/subjects/{subject_id}/verify",
    responses={200: {"model": DecisionAnswer}, **problems(404, 415, 422, 503, 507)},
    openapi_extra=picture_body(),
)
async def verify(
    request: Request,
    caller: Annotated[Caller, Depends(require("verify"))],
    subject_id: SubjectId,
    question: Annotated[DecisionQuestion, Query()],
) -> Response:
    """Decide whether a picture shows the subject enrolled under this id; a non-match is an answer."""
    service = service_of(request)
    model = service.model(question.model)
    upload = await receive(request)
    record = Record(service, caller, "verify", model, subject_id)
    return await service.work.run(
        lambda: _verified(service, record, model, subject_id, question, upload)
    )


@router.post(
    "/compare",
    responses={200: {"model": DecisionAnswer}, **problems(404, 415, 422, 503, 507)},
    openapi_extra=compare_body(),
)
async def compare(
    request: Request,
    caller: Annotated[Caller, Depends(require("verify"))],
    question: Annotated[DecisionQuestion, Query()],
) -> Response:
    """Decide whether two pictures show the same subject; nothing is stored."""
    service = service_of(request)
    model = service.model(question.model)
    upload = await receive(request)
    record = Record(service, caller, "compare", model)
    return await service.work.run(lambda: _compared(record, model, question, upload))


def _verified(
    service: Service,
    record: Record,
    model: ServedModel,
    subject_id: str,
    question: DecisionQuestion,
    upload: Upload,
) -> Response:
    (picture,) = upload.picture_each("image")
    failures, claim = service.failures, f"{model.name}:{subject_id}"
    if failures is not None and (wait_s := failures.wait_s(claim)) > 0:
        raise ProblemError(
            "too_many_failed_verifications",
            "this subject's verification failed too often lately; nothing was compared",
            retry_s=wait_s,
        )
    with record.refusals():
        decision = model.verifier.verify(subject_id, picture, **_options(question))
    if failures is not None:
        failures.record(claim, matched=_is_usual_match(model, decision))
    return _answer(record, model, decision)


def _is_usual_match(model: ServedModel, decision: Decision) -> bool:
    """By the operator's rule: a threshold in the request must neither hide failures nor clear them."""
    try:
        usual = model.usual.rule(model.verifier.spec, decision.reference_count)
    except CalibrationError:  # there is none, and the request brought a threshold of its own
        return decision.match
    return decision.score >= usual.threshold


def _compared(
    record: Record, model: ServedModel, question: DecisionQuestion, upload: Upload
) -> Response:
    probe, reference = upload.picture_each("probe", "reference")
    with record.refusals():
        decision = model.verifier.compare(probe, reference, **_options(question))
    return _answer(record, model, decision)


def _options(question: DecisionQuestion) -> dict[str, Any]:
    return question.model_dump(exclude={"model"})


def _answer(record: Record, model: ServedModel, decision: Decision) -> Response:
    record.decided("match" if decision.match else "no_match", decision.score, decision.threshold)
    names = {"model": model.name, "model_digest": model.verifier.spec.digest}
    return as_json({**decision.to_dict(), **names})
