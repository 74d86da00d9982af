"""Audit logs for tests, and checks of the format that do not use the code under test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from verifykit.audit import AuditLog

DIGEST = "d" * 64


def written(path: Path, entries: int) -> list[bytes]:
    """Write a new log with this number of entries; return its lines, the first of which begins the log."""
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
    """Return the lines of a file with their line feeds."""
    return path.read_bytes().splitlines(keepends=True)


def rehashed(line: bytes, **changes: Any) -> bytes:
    """Return a line with other content and a matching hash, as anyone who knows the format can make."""
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
