"""One line of an audit log: what may stand in it, and how it is sealed to the line before."""

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

from verifykit.errors import AuditError, InputError
from verifykit.spec.strict_json import canonical

FORMAT = 1
ORIGIN = "0" * 64
"""What the first line of every log is sealed to."""
MAX_LINE_BYTES = 4096
"""More than any entry can have."""
RECOVERED = "recovered"
"""Verb of the entry that tells of a line which was torn when a process or the machine stopped."""
GAP = "gap"
"""Verb of the entry that tells that lines before it were damaged, or that some may be missing."""

_MAX_SUBJECT_BYTES = 255
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True)
class AuditEntry:
    """What was done, to whom, on whose behalf, and how it came out; never an image or an embedding.

    Attributes:
        sequence: Number in the log; the line that begins it has 1.
        time: When it was written, UTC, ISO 8601 with milliseconds: ``2026-11-25T23:31:21.558Z``.
        verb: ``verify``, ``enroll``, ...; ``recovered`` and ``gap`` are the log's own.
        key_id: Which API key acted; None where there are no keys.
        subject_id: Whom it was about, if about one subject.
        decision: ``match``, ``no_match``, ...
        score: Cosine similarity in [-1, 1].
        threshold: What the score was held against.
        model_digest: Digest of the model's specification; empty where no model was asked.
        reason: Reason code of a refusal or an error.
        dropped_bytes: Of ``recovered``: bytes of the torn line that were cut off.
        previous: Hash of the entry before, 64 hexadecimal digits.
        hash: SHA-256 of everything above as canonical JSON, 64 hexadecimal digits.
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
        """The entry as JSON-ready plain values."""
        return dataclasses.asdict(self)


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("time", "verb", "model_digest", "previous", "hash"), (str,)),
    **dict.fromkeys(("key_id", "subject_id", "decision", "reason"), (str, type(None))),
    **dict.fromkeys(("score", "threshold"), (float, type(None))),
    "sequence": (int,),
    "dropped_bytes": (int, type(None)),
}


def now() -> str:
    """The time as entries have it."""
    text = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def sealed(body: dict[str, Any]) -> tuple[bytes, str]:
    """A line: the body and its hash, as canonical JSON (sorted keys, no spaces, ASCII).

    Args:
        body: JSON-ready, with ``sequence`` and ``previous``.

    Returns:
        The line, and the hash in it: that of the body.
    """
    digest = hashlib.sha256(canonical(body)).hexdigest()
    return canonical({**body, "hash": digest}) + b"\n", digest


def unsealed(line: bytes) -> tuple[dict[str, Any] | None, bool]:
    """What a line says, and whether its seal is whole.

    Args:
        line: With its line feed.

    Returns:
        The body with its hash, or None if it cannot be a line of a log; and whether the hash is that of
        this content, byte for byte.
    """
    try:
        body = json.loads(line)
        written = canonical(body) + b"\n"
        stated = (body.get("sequence"), body.get("previous"), body.get("hash"))
    except (ValueError, RecursionError, AttributeError):
        return None, False
    if not (type(stated[0]) is int and all(isinstance(value, str) for value in stated[1:])):
        return None, False
    bare = {key: value for key, value in body.items() if key != "hash"}
    return body, written == line and hashlib.sha256(canonical(bare)).hexdigest() == stated[2]


def entry_of(body: dict[str, Any]) -> AuditEntry:
    """The entry that a sealed line holds.

    Args:
        body: As :func:`unsealed` returns it.

    Raises:
        AuditError: It has other keys than an entry, or values of other types.
    """
    odd = body.keys() ^ _TYPES.keys()
    odd |= {name for name, kinds in _TYPES.items() if type(body.get(name)) not in kinds}
    if odd:
        raise AuditError(f"it has not the fields of an entry: {', '.join(sorted(odd))}")
    return AuditEntry(**body)


def checked_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """What a caller wants logged, if it may be.

    Args:
        fields: The entry's fields by name, from ``verb`` to ``reason``.

    Returns:
        The same, numbers as plain floats.

    Raises:
        InputError: Something else than short strings and finite numbers; the message names it.
    """
    checked = dict(fields)
    for name, value in fields.items():
        if value is None and name not in ("verb", "model_digest"):
            continue
        if name in ("score", "threshold"):
            checked[name] = _number(name, value)
        elif name == "subject_id":
            _require_subject(value)
        elif name != "model_digest" or not isinstance(value, str) or value:
            _require_code(name, value)
    if checked["verb"] in (RECOVERED, GAP):
        raise InputError(f"verb {checked['verb']!r} is the log's own: give what was done")
    return checked


def _number(name: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise InputError(
            f"{name} of an audit entry is a finite number or None, got {_shown(value)}"
        )
    return number


def _require_subject(value: object) -> None:
    try:
        good = isinstance(value, str) and 0 < len(value.encode()) <= _MAX_SUBJECT_BYTES
    except UnicodeEncodeError:
        good = False
    if not good:
        raise InputError(
            f"subject_id of an audit entry has 1 to {_MAX_SUBJECT_BYTES} bytes of UTF-8, "
            f"got {_shown(value)}"
        )


def _require_code(name: str, value: object) -> None:
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise InputError(
            f"{name} of an audit entry is a code of 1 to 64 letters, digits and _ . : -, "
            f"got {_shown(value)}: images and embeddings are never logged"
        )


def _shown(value: object) -> str:
    """No picture in a message either."""
    short = isinstance(value, (str, int, float)) and len(repr(value)) <= 80
    return repr(value) if short else f"a {type(value).__name__}"
