"""Answer every exception with a problem: those of the library, of FastAPI, and unexpected ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from verifykit.errors import VerifyKitError, shortened
from verifykit.server.errors import ProblemError, as_problem
from verifykit.server.observability import Metrics, request_id_of

_log = logging.getLogger("verifykit.server")

_CODES = {404: "not_found", 405: "method_not_allowed"}


def add_exception_handlers(app: FastAPI, routes: Sequence[BaseRoute], metrics: Metrics) -> None:
    """Have an application answer its errors with problems; ``routes`` are for the header ``Allow``."""

    async def handler(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            # Starlette names the methods of the first route of this path; there may be several.
            error.headers = {"Allow": ", ".join(sorted(_methods(routes, request.scope)))}
        return error_response(request.scope, error, metrics)

    for kind in (VerifyKitError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handler)


def error_response(scope: Scope, error: Exception, metrics: Metrics) -> Response:
    """Return the response to an exception; count it, and log an internal one."""
    problem = _problem(error)
    metrics.refused(problem.code)
    request_id = request_id_of(scope)
    if problem.status >= 500 and not isinstance(error, ProblemError):
        fields = {"request_id": request_id, "code": problem.code}
        _log.error("failed", extra={"fields": fields}, exc_info=error)
    return problem.response(request_id)


def _methods(routes: Sequence[BaseRoute], scope: Scope) -> set[str]:
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


def _problem(error: Exception) -> ProblemError:
    if isinstance(error, RequestValidationError):
        return ProblemError("invalid_value", "; ".join(_sentence(e) for e in error.errors()))
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "bad_request")
        return ProblemError(code, str(error.detail), headers=error.headers)
    if isinstance(error, ClientDisconnect):
        return ProblemError("bad_request", "the client disconnected before its body was complete")
    return as_problem(error)


def _sentence(error: dict[str, Any]) -> str:
    where = shortened(".".join(str(part) for part in error["loc"]))
    return f"{where}: {shortened(error['msg'])}"
