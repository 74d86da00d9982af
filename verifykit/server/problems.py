"""From an error to an answer of ``application/problem+json`` (RFC 9457), in one place for all of them."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from verifykit.errors import (
    AcquisitionError,
    AuditError,
    CalibrationError,
    GalleryError,
    ImageError,
    InputError,
    SubjectExistsError,
    SubjectNotFoundError,
    TemplateMismatchError,
    VerifyKitError,
)
from verifykit.server.problem_codes import CODES, Kind, hint_for

__all__ = ["MEDIA_TYPE", "ProblemError", "as_problem", "problem_response", "request_id_of"]

MEDIA_TYPE = "application/problem+json"

_RETRY_S = 2


class ProblemError(VerifyKitError):
    """What a handler raises to answer with a problem.

    Attributes:
        code: One of :data:`~verifykit.server.problem_codes.CODES`, or a reason code of the library.
        detail: What is wrong with this request, for the client's eyes.
        status: HTTP status.
        hint: A sentence that a person can act on.
        headers: Further headers.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Put together a problem.

        Args:
            code: One of the codes.
            detail: What is wrong.
            retry_s: After how many seconds it is worth asking again.
            headers: Further headers.
        """
        super().__init__(detail)
        self.code, self.detail = code, detail
        # A reason code that the library learns later is a sample's as well.
        self.status = CODES[code].status if code in CODES else 422
        self.hint = hint_for(code)
        self.headers = dict(headers or {})
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_s)))

    def response(self, request_id: str) -> Response:
        """The answer to the request of this id."""
        return problem_response(
            self.status, self.code, self.detail, self.hint, request_id, self.headers
        )


def problem_response(
    status: int,
    code: str,
    detail: str,
    hint: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer of ``application/problem+json``; a response is an ASGI application.

    Args:
        status: HTTP status.
        code: One of the codes.
        detail: What is wrong with this request.
        hint: A sentence that a person can act on.
        request_id: Of the request.
        headers: Further headers.
    """
    title = CODES.get(code, Kind(status, "The picture cannot be used", "")).title
    body = {
        "type": f"urn:verifykit:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "request_id": request_id,
    }
    return Response(json.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that the middleware ``RequestId`` put into ``scope["state"]``; empty without it."""
    return str(scope.get("state", {}).get("request_id", ""))


def as_problem(error: Exception) -> ProblemError:
    """What a client is told of an error: all of the library's input errors, nothing of an internal one.

    Args:
        error: Anything that was raised while a request was answered.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, AcquisitionError):
        return ProblemError(error.reason, str(error))
    if isinstance(error, SubjectNotFoundError):
        return ProblemError("subject_not_found", "nobody is enrolled under this subject id")
    if isinstance(error, SubjectExistsError):
        return ProblemError(
            "subject_exists", "this subject id is already enrolled; nothing was stored"
        )
    for kind, code in (
        (ImageError, "unreadable"),
        (InputError, "invalid_value"),
        (CalibrationError, "not_calibrated"),
        (TemplateMismatchError, "model_mismatch"),
    ):
        if isinstance(error, kind):
            return ProblemError(code, str(error))
    if _is_full_disk(error):
        return ProblemError("storage_full", "the disk is full")
    if isinstance(error, AuditError):
        detail = "the audit log cannot be written; what was asked for may have been done"
        return ProblemError("audit_unavailable", detail, retry_s=_RETRY_S)
    if isinstance(error, GalleryError):
        # Its message may name paths and hosts, which are the operator's business: the log has it.
        detail = "the gallery cannot be reached or written at the moment"
        return ProblemError("gallery_unavailable", detail, retry_s=_RETRY_S)
    return ProblemError("internal", "an internal error; it is in the log under this request_id")


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether an error was caused by a full disk: of the system, in SQLite's words or PostgreSQL's."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if getattr(error, "sqlstate", None) == "53100" or "or disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
