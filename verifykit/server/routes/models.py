"""The models that are served, and what can be asked of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from verifykit.server.dependencies import require, service_of
from verifykit.server.schemas import ModelsAnswer, as_json, problems
from verifykit.server.service import ServedModel

router = APIRouter(prefix="/v1", tags=["models"])


# Not async: galleries are asked in a thread of the pool, also when all workers are busy.
@router.get(
    "/models",
    dependencies=[Depends(require(None))],  # it is public what a model can do
    responses={200: {"model": ModelsAnswer}, **problems(503)},
)
def models(request: Request) -> Response:
    """List the models, the default first, with the rates that they are calibrated for."""
    served = service_of(request).models.values()
    return as_json({"models": [_described(model) for model in served], "liveness": False})


def _described(model: ServedModel) -> dict[str, Any]:
    spec = model.verifier.spec
    return {
        "name": model.name,
        "modality": spec.modality,
        "spec_digest": spec.digest,
        "licence": spec.licence,
        "embedding_size": spec.embedding_size,
        "default_fmr": spec.default_fmr,
        "default_attack": spec.default_attack,
        "fmrs": [
            {
                "fmr": point.fmr,
                "threshold": point.threshold,
                "attack": point.attack,
                "reference_count": point.reference_count,
            }
            for point in spec.operating_points
        ],
        "gallery": {"subject_count": len(model.verifier.gallery)},
    }
