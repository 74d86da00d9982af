"""Every problem that the service answers with: its status, its title, and what a person can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CODES", "Kind", "hint_for"]


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
