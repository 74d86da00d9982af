"""Identification, and what a camera wants to know before the shot is taken."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from verifykit.decision import DecisionOptions
from verifykit.errors import AcquisitionError
from verifykit.extraction import SampleOptions
from verifykit.server.dependencies import Caller, Record, require, service_of
from verifykit.server.errors import hint_for
from verifykit.server.schemas import (
    IdentifyAnswer,
    IdentifyQuestion,
    InspectAnswer,
    Question,
    as_json,
    picture_body,
    problems,
)
from verifykit.server.service import ServedModel
from verifykit.server.uploads import Upload, receive
from verifykit.verifier import identify_each

router = APIRouter(prefix="/v1", tags=["identification"])


@router.post(
    "/identify",
    responses={200: {"model": IdentifyAnswer}, **problems(404, 415, 422, 503, 507)},
    openapi_extra=picture_body(),
)
async def identify(
    request: Request,
    caller: Annotated[Caller, Depends(require("verify"))],
    question: Annotated[IdentifyQuestion, Query()],
) -> Response:
    """Search for the faces or the signature of a picture among all subjects."""
    service = service_of(request)
    model = service.model(question.model)
    upload = await receive(request)
    record = Record(service, caller, "identify", model)
    return await service.work.run(lambda: _identified(record, model, question, upload))


@router.post(
    "/inspect",
    dependencies=[Depends(require("verify"))],
    responses={200: {"model": InspectAnswer}, **problems(404, 415, 422, 503)},
    openapi_extra=picture_body(),
)
async def inspect(
    request: Request,
    question: Annotated[Question, Query()],
) -> Response:
    """Tell whether a picture could be used, and what to change; nothing is decided or stored."""
    service = service_of(request)
    model = service.model(question.model)
    upload = await receive(request)
    return await service.work.run(lambda: _inspected(model, upload))


def _identified(
    record: Record, model: ServedModel, question: IdentifyQuestion, upload: Upload
) -> Response:
    (picture,) = upload.picture_each("image")
    verifier = model.verifier
    options = DecisionOptions(question.fmr, question.threshold, question.attack, fpir=question.fpir)
    rule = options.search_rule(verifier.spec, model.usual, len(verifier.gallery))
    with record.refusals():
        answers = identify_each(
            verifier.encoder,
            verifier.gallery,
            picture,
            rule=rule,
            limit=question.limit,
            options=verifier.sample_options.changed(
                multi_face=question.multi_face, quality=question.quality
            ),
        )
    for answer in answers:
        best = answer.candidates[0] if answer.candidates else None
        if best is None:
            record.decided("no_match", None, answer.threshold)
        else:
            record.decided("match", best.score, answer.threshold, best.subject_id)
    return as_json(
        {
            "faces": [answer.to_dict() for answer in answers],
            "model": model.name,
            "model_digest": verifier.spec.digest,
        }
    )


def _inspected(model: ServedModel, upload: Upload) -> Response:
    (picture,) = upload.picture_each("image")
    extractor = model.verifier.encoder.extractor
    pixels = extractor.load(picture)
    samples: list[dict[str, Any]] = []
    reasons: list[str] = []
    try:
        for sample in extractor.samples(pixels, SampleOptions("all", "warn")):
            found = sample.detection
            samples.append(
                {
                    "detection": None if found is None else found.to_dict(),
                    "quality": dict(sample.quality),
                    "reasons": list(sample.reasons),
                }
            )
    except AcquisitionError as error:
        reasons.append(error.reason)
    if len(samples) > 1:
        reasons.append("several_faces")
    if samples:
        reasons += samples[0]["reasons"]  # the largest face is the one that would be taken
    height_px, width_px = pixels.shape[:2]
    return as_json(
        {
            "height_px": height_px,
            "width_px": width_px,
            "samples": samples,
            "reasons": reasons,
            "hints": [hint_for(reason) for reason in reasons],
        }
    )
