"""Problem responses (RFC 9457): their codes with status, title and hint, and the mapping from exceptions."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from dataclasses import dataclass

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
from verifykit.extraction import FURTHER_FRAMES
from verifykit.modalities import reason_hints
from verifykit.server.schemas import Problem, encode


@dataclass(frozen=True)
class ProblemKind:
    """The parts of a problem that depend on its code alone; ``hint`` tells a user what to do."""

    status: int
    title: str
    hint: str


MEDIA_TYPE = "application/problem+json"

_RETRY_S = 2
_UNUSABLE = "The image cannot be used"
_ANOTHER = "Take another image, or send a JPEG or PNG file that opens in an image viewer."

CODES: Mapping[str, ProblemKind] = {
    # The sample; further reason codes come from the modalities: see kind_of.
    "unreadable": ProblemKind(422, "The image cannot be read", _ANOTHER),
    "too_many_images": ProblemKind(422, "Too many images", "Send fewer images in one request."),
    # The request.
    "bad_request": ProblemKind(400, "The request is malformed", "Compare it with /openapi.json."),
    "invalid_value": ProblemKind(422, "A value is not allowed", "Compare it with /openapi.json."),
    "unsupported_media_type": ProblemKind(
        415, "Unsupported media type", "Send multipart/form-data or application/json."
    ),
    "body_too_large": ProblemKind(413, "The request is too large", "Send smaller or fewer images."),
    "request_timeout": ProblemKind(
        408, "The request took too long", "Send it again, without a pause."
    ),
    "not_found": ProblemKind(404, "No such path", "The paths are listed in /openapi.json."),
    "method_not_allowed": ProblemKind(
        405, "Method not allowed", "The header Allow lists the methods of this path."
    ),
    "idempotency_key_reused": ProblemKind(
        422, "Idempotency key already used", "Use a new key for another request."
    ),
    "idempotency_in_progress": ProblemKind(
        409, "The same request is being processed", "Wait for its response, then send it again."
    ),
    # The caller.
    "unauthorized": ProblemKind(
        401, "An API key is required", "Send Authorization: Bearer and a key that is still valid."
    ),
    "forbidden": ProblemKind(403, "Not allowed", "Ask the operator for a key with this scope."),
    "rate_limited": ProblemKind(
        429, "Too many requests", "Wait for the time in the header Retry-After."
    ),
    "too_many_failed_verifications": ProblemKind(
        429,
        "Too many failed verifications of this subject",
        "Wait for the time in the header Retry-After, or have the subject enrolled again.",
    ),
    # The gallery.
    "subject_not_found": ProblemKind(
        404, "The subject is not enrolled", "Enrol the subject first."
    ),
    "subject_exists": ProblemKind(
        409,
        "The subject is already enrolled",
        "Add images with on_existing=append, or delete the subject first.",
    ),
    "unknown_model": ProblemKind(404, "No such model", "The models are listed at /v1/models."),
    "model_mismatch": ProblemKind(
        409,
        "The gallery belongs to another model",
        "Start the service with the gallery's model, or enrol into a new gallery.",
    ),
    "not_calibrated": ProblemKind(
        422,
        "The model is not calibrated for this rate",
        "Request one of the rates that /v1/models lists.",
    ),
    # The service.
    "queue_full": ProblemKind(
        503, "Too many requests at once", "Send it again after the time in the header Retry-After."
    ),
    "shutting_down": ProblemKind(503, "The service is stopping", "Send it again in a moment."),
    "gallery_unavailable": ProblemKind(
        503,
        "The gallery cannot be reached",
        "Send it again after the time in the header Retry-After; if this persists, tell the operator.",
    ),
    "audit_unavailable": ProblemKind(
        503,
        "The audit log cannot be written",
        "Check whether it was done before you send it again, and tell the operator.",
    ),
    "storage_full": ProblemKind(
        507, "The disk is full", "Tell the operator: nothing can be stored."
    ),
    "internal": ProblemKind(
        500, "Internal error", "Tell the operator the request_id: the log has the details."
    ),
}


_WARNING_HINTS = {
    FURTHER_FRAMES: "Only the first page or frame was looked at: send the right one as an image of its own."
}


def kind_of(code: str) -> ProblemKind:
    """Return the kind of a code: one of :data:`CODES`, or a reason of a modality or of a sample check."""
    return CODES.get(code) or ProblemKind(422, _UNUSABLE, reason_hints().get(code, _ANOTHER))


def hint_for(code: str) -> str:
    """Return what a user can do about a code; for an unknown reason, to take another image."""
    return _WARNING_HINTS.get(code) or kind_of(code).hint


class ProblemError(VerifyKitError):
    """An error to answer with a problem: ``code`` is one of :data:`CODES` or a reason code of the library."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        retry_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Create a problem; ``detail`` is shown to the client, ``retry_s`` becomes ``Retry-After``."""
        super().__init__(detail)
        self.code, self.detail = code, detail
        # A reason code that the library learns later is a sample's as well.
        self.kind = kind_of(code)
        self.status = self.kind.status
        self.hint = self.kind.hint if hint is None else hint
        self.headers = dict(headers or {})
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_s)))

    def response(self, request_id: str) -> Response:
        """Return the response to the request of this id."""
        problem = Problem(
            type=f"urn:verifykit:problem:{self.code}",
            title=self.kind.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            hint=self.hint,
            request_id=request_id,
        )
        return Response(encode(problem), self.status, self.headers, MEDIA_TYPE)


def as_problem(error: Exception) -> ProblemError:
    """Return the problem for an error: with the details of input errors, not of internal ones."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, AcquisitionError):
        return ProblemError(error.reason, str(error))
    if isinstance(error, SubjectNotFoundError):
        return ProblemError("subject_not_found", "no subject is enrolled under this id")
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
        detail = "the audit log cannot be written; the request may have been carried out"
        return ProblemError("audit_unavailable", detail, retry_s=_RETRY_S)
    if isinstance(error, GalleryError):
        # Its message may name paths and hosts, which only the operator should see: they are in the log.
        detail = "the gallery cannot be reached or written at the moment"
        return ProblemError("gallery_unavailable", detail, retry_s=_RETRY_S)
    return ProblemError("internal", "an internal error; it is in the log under this request_id")


def _is_full_disk(error: BaseException | None) -> bool:
    """Return whether the system, SQLite or PostgreSQL reported a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if getattr(error, "sqlstate", None) == "53100" or "or disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
