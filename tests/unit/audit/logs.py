"""Audit logs for tests, and what follows from the format without the code that writes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from verifykit.audit import AuditLog

DIGEST = "d" * 64


def written(path: Path, entries: int) -> list[bytes]:
    """A new log with so many entries: its lines, the first of which is the log's own."""
    log = AuditLog(path)
    for i in range(entries):
        log.append(
            "verify",
            key_id="door",
            subject_id=f"zoë {i}",
            decision="match" if i % 2 else "no_match",
            score=i / 7,
            threshold=0.4,
            model_digest=DIGEST,
        )
    return lines_of(path)


def lines_of(path: Path) -> list[bytes]:
    """Lines with their line feeds."""
    return path.read_bytes().splitlines(keepends=True)


def resealed(line: bytes, **changes: Any) -> bytes:
    """A line with another content and a hash to fit: what somebody who knows the format can do."""
    body = {**json.loads(line), **changes}
    del body["hash"]
    body["hash"] = hashlib.sha256(_canonical(body)).hexdigest()
    return _canonical(body) + b"\n"


def require_chain(path: Path) -> None:
    """Check the chain as the documentation describes it."""
    previous = "0" * 64
    for number, line in enumerate(lines_of(path), start=1):
        body = json.loads(line)
        assert line == _canonical(body) + b"\n"
        stated = body.pop("hash")
        assert stated == hashlib.sha256(_canonical(body)).hexdigest()
        assert (body["sequence"], body["previous"]) == (number, previous)
        previous = stated


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")
