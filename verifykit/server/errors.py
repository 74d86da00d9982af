"""From an error to an answer of ``application/problem+json`` (RFC 9457), in one place for all of them.

Every problem that the service answers with: its status, its title, and what a person can do.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Kind:
    """What is always the same about a problem.

    Attributes:
        status: HTTP status.
        title: What is wrong, in a few words.
        hint: A sentence that a person can act on.
    """

    status: int
    title: str
    hint: str


_UNUSABLE = "The picture cannot be used"
_ANOTHER = "Take another picture, or send a JPEG or PNG file that opens in an image viewer."

CODES: Mapping[str, Kind] = {
    # The sample: reason codes of the library.
    "no_face": Kind(422, _UNUSABLE, "Look at the camera, with the whole face in the picture."),
    "several_faces": Kind(422, _UNUSABLE, "One person only: ask the others to step aside."),
    "face_too_small": Kind(422, _UNUSABLE, "Come closer: the face is too small."),
    "clipped": Kind(422, _UNUSABLE, "Move to the middle: a part is outside the picture."),
    "extreme_pose": Kind(422, _UNUSABLE, "Look straight at the camera and hold it upright."),
    "too_dark": Kind(422, _UNUSABLE, "More light: the face is too dark."),
    "too_bright": Kind(422, _UNUSABLE, "Less light: parts of the face are white."),
    "too_blurred": Kind(422, _UNUSABLE, "Hold still and clean the lens: the face is blurred."),
    "blank": Kind(422, _UNUSABLE, "Write with a dark pen on light paper: no ink was found."),
    "too_dense": Kind(422, _UNUSABLE, "Show one signature on plain paper and nothing else."),
    "too_little_ink": Kind(422, _UNUSABLE, "Write the whole signature: there is too little ink."),
    "too_small": Kind(422, _UNUSABLE, "Scan at a higher resolution, or write larger."),
    "unreadable": Kind(422, "The picture cannot be read", _ANOTHER),
    "too_many_images": Kind(422, "Too many pictures", "Send fewer pictures in one request."),
    # The request.
    "bad_request": Kind(400, "The request is malformed", "Compare it with /openapi.json."),
    "invalid_value": Kind(422, "A value is not allowed", "Compare it with /openapi.json."),
    "unsupported_media_type": Kind(
        415, "Unsupported media type", "Send multipart/form-data or application/json."
    ),
    "body_too_large": Kind(413, "The request is too large", "Send smaller or fewer pictures."),
    "request_timeout": Kind(408, "The request took too long", "Send it again, without a pause."),
    "not_found": Kind(404, "No such address", "The addresses are listed in /openapi.json."),
    "method_not_allowed": Kind(
        405, "Method not allowed", "The header Allow says which methods are possible here."
    ),
    "idempotency_key_reused": Kind(
        422, "Idempotency key used before", "Take a new key for another request."
    ),
    "idempotency_in_progress": Kind(
        409, "The same request is being worked on", "Wait for its answer, then send it again."
    ),
    # Who asks.
    "unauthorized": Kind(
        401, "A key is needed", "Send Authorization: Bearer and a key that is still valid."
    ),
    "forbidden": Kind(403, "Not allowed", "Ask the operator for a key with this scope."),
    "rate_limited": Kind(429, "Too many requests", "Wait as long as the header Retry-After says."),
    "too_many_failed_verifications": Kind(
        429,
        "Too many failed verifications of this subject",
        "Wait as long as the header Retry-After says, or have the subject enrolled again.",
    ),
    # What is stored.
    "subject_not_found": Kind(404, "Nobody is enrolled under this id", "Enrol the subject first."),
    "subject_exists": Kind(
        409,
        "The subject is already enrolled",
        "Add pictures with on_existing=append, or delete the subject first.",
    ),
    "unknown_model": Kind(404, "No such model", "The models are listed at /v1/models."),
    "model_mismatch": Kind(
        409,
        "The gallery belongs to another model",
        "Start the service with the gallery's model, or enrol into a new gallery.",
    ),
    "not_calibrated": Kind(
        422,
        "The model is not calibrated for this rate",
        "Ask for one of the rates that /v1/models lists.",
    ),
    # The service.
    "queue_full": Kind(
        503, "Too much at once", "Send it again after as long as the header Retry-After says."
    ),
    "shutting_down": Kind(503, "The service is stopping", "Send it again in a moment."),
    "gallery_unavailable": Kind(
        503,
        "The gallery cannot be reached",
        "Send it again after as long as the header Retry-After says; if it stays, tell the operator.",
    ),
    "audit_unavailable": Kind(
        503,
        "The audit log cannot be written",
        "Look whether it was done before you send it again, and tell the operator.",
    ),
    "storage_full": Kind(507, "The disk is full", "Tell the operator: nothing can be stored."),
    "internal": Kind(
        500, "Something went wrong here", "Tell the operator the request_id: the log says more."
    ),
}


def hint_for(code: str) -> str:
    """What a person can do about a code; another picture, for a reason that is not listed."""
    kind = CODES.get(code)
    return kind.hint if kind else _ANOTHER


MEDIA_TYPE = "application/problem+json"

_RETRY_S = 2


class ProblemError(VerifyKitError):
    """What a handler raises to answer with a problem.

    Attributes:
        code: One of :data:`~verifykit.server.errors.CODES`, or a reason code of the library.
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
