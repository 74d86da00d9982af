"""The models that are served, with everything that a client needs to offer a choice of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import get_args

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from verifykit import modalities
from verifykit.server.dependencies import require, service_of
from verifykit.server.openapi import problems
from verifykit.server.schemas import (
    BandRow,
    InputKind,
    ModelDescription,
    ModelGallery,
    ModelOptions,
    ModelsResponse,
    PopulationDescription,
    PopulationPoint,
    RatePoint,
    json_response,
)
from verifykit.server.service import ServedModel
from verifykit.spec import Population
from verifykit.types import MultiFace, QualityGate

router = APIRouter(prefix="/v1", tags=["models"])


_INPUTS: Mapping[str, tuple[InputKind, ...]] = {
    "camera": ("camera", "image"),
    "pen": ("pen", "image"),
    "file": ("image",),
}


# Not async: galleries are read in a thread of the pool, also when all workers are busy.
@router.get(
    "/models",
    dependencies=[Depends(require(None))],  # what a model can do is not secret
    responses={200: {"model": ModelsResponse}, **problems(503)},
)
def models(request: Request) -> Response:
    """List the models, the default first, with the rates that they are calibrated for."""
    served = service_of(request).models.values()
    described = tuple(_described(model) for model in served)
    return json_response(ModelsResponse(models=described, liveness=False))


def _described(model: ServedModel) -> ModelDescription:
    spec = model.verifier.spec
    modality = modalities.get(spec.modality)
    has_detector = model.verifier.encoder.extractor.detector is not None
    points = tuple(
        RatePoint(
            fmr=point.fmr,
            threshold=point.threshold,
            attack=point.attack,
            reference_count=point.reference_count,
        )
        for point in spec.operating_points
    )
    return ModelDescription(
        name=model.name,
        modality=spec.modality,
        label=modality.label,
        inputs=_INPUTS[modality.capture],
        live_hints=has_detector,
        spec_digest=spec.digest,
        licence=spec.licence,
        embedding_size=spec.embedding_size,
        default_fmr=spec.default_fmr,
        default_attack=spec.default_attack,
        fmrs=points,
        population=spec.population,
        populations=tuple(map(_population, spec.populations)),
        options=ModelOptions(
            multi_face=get_args(MultiFace) if has_detector else (),
            quality=get_args(QualityGate) if modalities.checks_of(modality) else (),
            attack=tuple(dict.fromkeys(point.attack for point in points)),
        ),
        gallery=ModelGallery(kind=model.gallery_kind, subject_count=len(model.verifier.gallery)),
    )


def _population(each: Population) -> PopulationDescription:
    return PopulationDescription(
        name=each.name,
        description=each.description,
        default_fmr=each.default_fmr,
        fmrs=tuple(
            PopulationPoint(
                fmr=point.fmr,
                threshold=point.threshold,
                attack=point.attack,
                reference_count=point.reference_count,
                fnmr=point.fnmr,
                usual_fnmr=usual,
            )
            for point, usual in zip(each.operating_points, each.usual_fnmr, strict=True)
        ),
        bands=tuple(BandRow(**asdict(band)) for band in each.bands),
        bands_data=each.bands_data,
        notes=each.notes,
    )
