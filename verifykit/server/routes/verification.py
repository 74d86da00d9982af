"""Verification and comparison (1:1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from verifykit.errors import CalibrationError
from verifykit.gallery.base import stored_subject_id
from verifykit.server.dependencies import (
    Caller,
    DecisionRecorder,
    SubjectId,
    require,
    service_of,
)
from verifykit.server.errors import ProblemError
from verifykit.server.openapi import images_body, problems
from verifykit.server.schemas import DecisionQuery, DecisionResponse, json_response
from verifykit.server.service import ServedModel, Service
from verifykit.server.uploads import Upload, receive
from verifykit.types import Decision

router = APIRouter(prefix="/v1", tags=["verification"])


@router.post(
    "/subjects/{subject_id}/verify",
    responses={200: {"model": DecisionResponse}, **problems(404, 415, 422, 503, 507)},
    openapi_extra=images_body("image"),
)
async def verify(
    request: Request,
    caller: Annotated[Caller, Depends(require("verify"))],
    subject_id: SubjectId,
    query: Annotated[DecisionQuery, Query()],
) -> Response:
    """Decide whether an image shows the subject enrolled under this id; a non-match is a result."""
    service = service_of(request)
    model = service.model(query.model)
    upload = await receive(request)
    return await service.workers.run(
        lambda: _verify(service, caller, model, subject_id, query, upload)
    )


@router.post(
    "/compare",
    responses={200: {"model": DecisionResponse}, **problems(404, 415, 422, 503, 507)},
    openapi_extra=images_body("probe", "reference"),
)
async def compare(
    request: Request,
    caller: Annotated[Caller, Depends(require("verify"))],
    query: Annotated[DecisionQuery, Query()],
) -> Response:
    """Decide whether two images show the same subject; nothing is stored."""
    service = service_of(request)
    model = service.model(query.model)
    upload = await receive(request)
    recorder = DecisionRecorder(service, caller, "compare", model)
    return await service.workers.run(lambda: _compare(recorder, model, query, upload))


def _verify(
    service: Service,
    caller: Caller,
    model: ServedModel,
    subject_id: str,
    query: DecisionQuery,
    upload: Upload,
) -> Response:
    (image,) = upload.image_each("image")
    # One subject has one count of failures, however its id is written.
    subject_id = stored_subject_id(model.verifier.gallery, subject_id)
    recorder = DecisionRecorder(service, caller, "verify", model, subject_id)
    failures, claim = service.failures, f"{model.name}:{subject_id}"
    if failures is not None and (wait_s := failures.wait_s(claim)) > 0:
        raise ProblemError(
            "too_many_failed_verifications",
            "the verification of this subject failed too often recently; nothing was compared",
            retry_s=wait_s,
        )
    with recorder.refusals():
        decision = model.verifier.verify(subject_id, image, **query.options())
    if failures is not None:
        failures.record(claim, matched=_matches_by_default(model, decision))
    return _decision(recorder, model, decision)


def _compare(
    recorder: DecisionRecorder, model: ServedModel, query: DecisionQuery, upload: Upload
) -> Response:
    probe, reference = upload.image_each("probe", "reference")
    with recorder.refusals():
        decision = model.verifier.compare(probe, reference, **query.options())
    return _decision(recorder, model, decision)


def _matches_by_default(model: ServedModel, decision: Decision) -> bool:
    """Decide by the operator's rule: a request's threshold must neither hide failures nor clear them."""
    try:
        rule = model.verifier.decision_options.rule(model.verifier.spec, decision.reference_count)
    except CalibrationError:  # there is none, and the request brought a threshold of its own
        return decision.match
    return decision.score >= rule.threshold


def _decision(recorder: DecisionRecorder, model: ServedModel, decision: Decision) -> Response:
    outcome = "match" if decision.match else "no_match"
    recorder.decided(outcome, decision.score, decision.threshold)
    return json_response(
        DecisionResponse(
            **vars(decision), model=model.name, model_digest=model.verifier.spec.digest
        )
    )
