"""Identification (1:N), and inspection of an image before it is used."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from verifykit._given_faces import placed
from verifykit.errors import AcquisitionError
from verifykit.extraction import SampleOptions
from verifykit.server.dependencies import Caller, DecisionRecorder, require, service_of
from verifykit.server.errors import hint_for
from verifykit.server.openapi import images_body, problems
from verifykit.server.schemas import (
    IdentifyQuery,
    IdentifyResponse,
    InspectedSample,
    InspectResponse,
    ModelQuery,
    json_response,
)
from verifykit.server.service import ServedModel
from verifykit.server.uploads import Upload, receive
from verifykit.verifier import identify_each

router = APIRouter(prefix="/v1", tags=["identification"])


@router.post(
    "/identify",
    responses={200: {"model": IdentifyResponse}, **problems(404, 415, 422, 503, 507)},
    openapi_extra=images_body("image"),
)
async def identify(
    request: Request,
    caller: Annotated[Caller, Depends(require("verify"))],
    query: Annotated[IdentifyQuery, Query()],
) -> Response:
    """Search for the faces or the signature of an image among all subjects."""
    service = service_of(request)
    model = service.model(query.model)
    upload = await receive(request)
    recorder = DecisionRecorder(service, caller, "identify", model)
    return await service.workers.run(lambda: _identify(recorder, model, query, upload))


@router.post(
    "/inspect",
    dependencies=[Depends(require("verify"))],
    responses={200: {"model": InspectResponse}, **problems(404, 415, 422, 503)},
    openapi_extra=images_body("image"),
)
async def inspect(
    request: Request,
    query: Annotated[ModelQuery, Query()],
) -> Response:
    """Report whether an image could be used, and what to change; nothing is decided or stored."""
    service = service_of(request)
    model = service.model(query.model)
    upload = await receive(request)
    return await service.workers.run(lambda: _inspect(model, upload))


def _identify(
    recorder: DecisionRecorder, model: ServedModel, query: IdentifyQuery, upload: Upload
) -> Response:
    (image,) = upload.image_each("image")
    verifier = model.verifier
    rule = query.decision().search_rule(
        verifier.spec, verifier.decision_options, len(verifier.gallery)
    )
    with recorder.refusals():
        faces = identify_each(
            verifier.encoder,
            verifier.gallery,
            placed(image, query.faces()),
            rule=rule,
            limit=query.limit,
            options=query.sample(verifier.sample_options),
            watch=verifier.watch,
        )
    for face in faces:
        best = face.candidates[0] if face.candidates else None
        if best is None:
            recorder.decided("no_match", None, face.threshold)
        else:
            recorder.decided("match", best.score, face.threshold, best.subject_id)
    return json_response(
        IdentifyResponse(faces=tuple(faces), model=model.name, model_digest=verifier.spec.digest)
    )


def _inspect(model: ServedModel, upload: Upload) -> Response:
    (image,) = upload.image_each("image")
    extractor = model.verifier.encoder.extractor
    loaded = extractor.load(image)
    samples: list[InspectedSample] = []
    reasons: list[str] = []
    try:
        samples = [
            InspectedSample(
                detection=sample.detection, quality=dict(sample.quality), reasons=sample.reasons
            )
            for sample in extractor.samples(loaded, SampleOptions("all", "warn"))
        ]
    except AcquisitionError as error:
        reasons.append(error.reason)
    if len(samples) > 1:
        reasons.append(f"several_{extractor.modality.plural}")
    if samples:
        reasons += samples[0].reasons  # the largest face is the one that would be used
    height_px, width_px = loaded.size_px
    return json_response(
        InspectResponse(
            height_px=height_px,
            width_px=width_px,
            samples=tuple(samples),
            reasons=tuple(reasons),
            hints=tuple(hint_for(reason) for reason in reasons),
        )
    )
