"""Liveness, readiness and metrics, for a supervisor."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from verifykit.errors import VerifyKitError
from verifykit.server.dependencies import require, service_of
from verifykit.server.openapi import problems
from verifykit.server.schemas import HealthResponse, ReadyResponse, json_response

router = APIRouter(tags=["health"])


@router.get("/healthz", responses={200: {"model": HealthResponse}, **problems()})
async def healthz() -> Response:
    """Report that the process is running."""
    return json_response(HealthResponse(status="ok"))


@router.get(
    "/readyz",
    responses={
        **problems(),
        200: {"model": ReadyResponse},
        503: {"model": ReadyResponse, "description": "Something is missing."},
    },
)
def readyz(request: Request) -> Response:
    """Report whether every gallery and the state file can be reached, and which cannot.

    Warnings do not make it unready: ``retention of NAME was refused: clock_ahead`` needs the operator.
    """
    service = service_of(request)
    required: dict[str, Callable[[], object]] = {
        f"the gallery of {name}": model.verifier.gallery.__len__
        for name, model in service.models.items()
    }
    required["the state file"] = service.keys.any
    missing = tuple(what for what, read in required.items() if not _succeeds(read))
    status = "not ready" if missing else "ready"
    refusals = sorted(service.expiry_refusals.items())
    warnings = tuple(f"retention of {name} was refused: {reason}" for name, reason in refusals)
    body = ReadyResponse(status=status, missing=missing, warnings=warnings)
    return json_response(body, 503 if missing else 200)


@router.get(
    "/metrics",
    dependencies=[Depends(require("read"))],
    response_class=PlainTextResponse,
    responses=problems(503),
)
def metrics(request: Request) -> Response:
    """Return counts and times for Prometheus."""
    found = service_of(request).metrics
    return Response(found.render(), media_type=found.content_type)


def _succeeds(read: Callable[[], object]) -> bool:
    try:
        read()
    except VerifyKitError:
        return False
    return True
