"""What a supervisor asks: alive, ready, how much."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from verifykit.errors import VerifyKitError
from verifykit.server.dependencies import require, service_of
from verifykit.server.schemas import HealthAnswer, ReadyAnswer, as_json, problems

router = APIRouter(tags=["health"])


@router.get("/healthz", responses={200: {"model": HealthAnswer}, **problems()})
async def healthz() -> Response:
    """Say that the process lives."""
    return as_json({"status": "ok"})


@router.get(
    "/readyz",
    responses={
        **problems(),
        200: {"model": ReadyAnswer},
        503: {"model": ReadyAnswer, "description": "Something is missing."},
    },
)
def readyz(request: Request) -> Response:
    """Say whether every gallery and the state file can be reached, and which cannot."""
    service = service_of(request)
    wanted: dict[str, Callable[[], object]] = {
        f"the gallery of {name}": model.verifier.gallery.__len__
        for name, model in service.models.items()
    }
    wanted["the state file"] = service.keys.any
    missing = [what for what, ask in wanted.items() if not _answers(ask)]
    body = {"status": "not ready" if missing else "ready", "missing": missing}
    return as_json(body, 503 if missing else 200)


@router.get(
    "/metrics",
    dependencies=[Depends(require("read"))],
    response_class=PlainTextResponse,
    responses=problems(503),
)
def metrics(request: Request) -> Response:
    """Counts and times for Prometheus."""
    found = service_of(request).metrics
    return Response(found.render(), media_type=found.content_type)


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except VerifyKitError:
        return False
    return True
