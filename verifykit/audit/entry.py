"""One line of an audit log: its fields, their checks, and its hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from numbers import Real
from typing import Any

from verifykit.errors import AuditError, InputError, shown
from verifykit.spec.strict_json import canonical

FORMAT = 1
ORIGIN = "0" * 64  # the previous hash of the first line of every log
MAX_LINE_BYTES = 4096  # more than any entry needs
RECOVERED = "recovered"  # verb: an incomplete line before this entry was removed
GAP = "gap"  # verb: lines before this entry are damaged, or may be missing

_MAX_SUBJECT_BYTES = 255
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CODE_RULE = "must be 1 to 64 letters, digits and _ . : - (never an image or an embedding)"


@dataclass(frozen=True)
class AuditEntry:
    """What was done, about which subject, with which key, and the result; never an image or an embedding.

    Attributes:
        sequence: Number in the log; the line that begins the log has 1.
        time: When it was written, UTC, ISO 8601 with milliseconds: ``2026-11-25T23:31:21.558Z``.
        verb: ``verify``, ``enroll``, ...; ``recovered`` and ``gap`` are written by the log itself.
        key_id: The API key that was used; None where there are no keys.
        subject_id: The subject, if the entry is about one.
        decision: ``match``, ``no_match``, ...
        score: Cosine similarity in [-1, 1].
        threshold: The threshold that the score was compared with.
        model_digest: Digest of the model's specification; empty where no model was used.
        reason: Reason code of a refusal or an error.
        dropped_bytes: Of ``recovered``: number of bytes of the incomplete line that were removed.
        previous: Hash of the entry before, 64 hexadecimal digits.
        hash: SHA-256 of all fields above as canonical JSON, 64 hexadecimal digits.
    """

    sequence: int
    time: str
    verb: str
    key_id: str | None = None
    subject_id: str | None = None
    decision: str | None = None
    score: float | None = None
    threshold: float | None = None
    model_digest: str = ""
    reason: str | None = None
    dropped_bytes: int | None = None
    previous: str = ORIGIN
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as values that are ready for JSON."""
        return dataclasses.asdict(self)


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("time", "verb", "model_digest", "previous", "hash"), (str,)),
    **dict.fromkeys(("key_id", "subject_id", "decision", "reason"), (str, type(None))),
    **dict.fromkeys(("score", "threshold"), (float, type(None))),
    "sequence": (int,),
    "dropped_bytes": (int, type(None)),
}


def time_text(moment: datetime) -> str:
    """Return a time as entries have it, always of one length, so that texts compare as times do."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def now() -> str:
    """Return the current time as entries have it."""
    return time_text(datetime.now(timezone.utc))


def encode_line(body: dict[str, Any]) -> tuple[bytes, str]:
    """Return a line, the body with its hash as canonical JSON (sorted, no spaces, ASCII), and the hash."""
    digest = hashlib.sha256(canonical(body)).hexdigest()
    return canonical({**body, "hash": digest}) + b"\n", digest


def decode_line(line: bytes) -> tuple[dict[str, Any] | None, bool]:
    """Return the body of a line, and whether its hash is that of this content, byte for byte.

    The body is None if the line has no sequence number, previous hash and hash.
    """
    try:
        body = json.loads(line)
        written = canonical(body) + b"\n"
        chained = (body.get("sequence"), body.get("previous"), body.get("hash"))
    except (ValueError, RecursionError, AttributeError):
        return None, False
    if not (type(chained[0]) is int and all(isinstance(value, str) for value in chained[1:])):
        return None, False
    bare = {key: value for key, value in body.items() if key != "hash"}
    return body, written == line and hashlib.sha256(canonical(bare)).hexdigest() == chained[2]


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the body of an entry, or of the line that begins a log; raise AuditError if it is damaged."""
    body, sound = decode_line(line)
    if body is None:
        raise AuditError("it is not an entry of an audit log")
    if not sound:
        raise AuditError(f"its hash does not match its content (entry {body['sequence']})")
    if body["sequence"] == 1 and body.get("audit_log") == FORMAT:
        odd = set() if isinstance(body.get("log_id"), str) else {"log_id"}
    else:
        odd = body.keys() ^ _TYPES.keys()
        odd |= {name for name, kinds in _TYPES.items() if type(body.get(name)) not in kinds}
    if odd:
        raise AuditError(f"its fields are not those of an entry: {', '.join(sorted(odd))}")
    return body


def validate_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a new entry, numbers as floats; raise InputError if one is unsuitable."""
    valid = dict(fields)
    for name, value in fields.items():
        if value is None and name not in ("verb", "model_digest"):
            continue
        if name in ("score", "threshold"):
            valid[name] = _number(value)
            good, rule = math.isfinite(valid[name]), "must be a finite number or None"
        elif name == "subject_id":
            good, rule = _is_subject(value), f"must have 1 to {_MAX_SUBJECT_BYTES} bytes of UTF-8"
        else:
            good, rule = _is_code(value, or_empty=name == "model_digest"), _CODE_RULE
        if not good:
            raise InputError(f"{name} of an audit entry {rule}, got {_shown(value)}")
    if valid["verb"] in (RECOVERED, GAP):
        raise InputError(
            f"verb {shown(valid['verb'])} is reserved for the log itself: choose another"
        )
    return valid


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_subject(value: object) -> bool:
    try:
        return isinstance(value, str) and 0 < len(value.encode()) <= _MAX_SUBJECT_BYTES
    except UnicodeEncodeError:
        return False


def _is_code(value: object, *, or_empty: bool) -> bool:
    return isinstance(value, str) and bool(_CODE.fullmatch(value) or (or_empty and not value))


def _shown(value: object) -> str:
    """Return a short text for a message, which must not hold an image or an embedding either."""
    short = isinstance(value, (str, int, float)) and len(repr(value)) <= 80
    return repr(value) if short else f"a {type(value).__name__}"
