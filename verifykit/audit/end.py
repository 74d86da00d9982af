"""Where a log ends: read from its end, however long it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from verifykit.audit.entry import MAX_LINE_BYTES, unsealed
from verifykit.errors import AuditError

_END_BYTES = 4 * MAX_LINE_BYTES


class LogEnd(NamedTuple):
    """The last whole line, and what stands behind it.

    Attributes:
        sequence: Number of the last sound entry.
        hash: Its hash.
        damaged_lines: Lines behind it that are not sound.
        torn_bytes: Bytes behind the last line feed: a line whose ``append`` never returned.
        size_bytes: Of the file.
    """

    sequence: int
    hash: str
    damaged_lines: int
    torn_bytes: int
    size_bytes: int


def find_end(log: int, path: Path) -> LogEnd:
    """The end of an open log.

    Args:
        log: Its file descriptor.
        path: Its path, for messages.

    Raises:
        AuditError: No sound line is near the end.
        OSError: It cannot be read.
    """
    size = os.fstat(log).st_size
    start = max(0, size - _END_BYTES)
    os.lseek(log, start, os.SEEK_SET)
    whole, _, torn = os.read(log, _END_BYTES).rpartition(b"\n")
    lines = whole.split(b"\n")[1 if start else 0 :]
    for damaged, line in enumerate(reversed(lines)):
        body, sound = unsealed(line + b"\n")
        if sound and body is not None:
            return LogEnd(body["sequence"], body["hash"], damaged, len(torn), size)
    raise AuditError(
        f"audit log {path}: its end is no audit log, nothing was logged: look at it with `verifykit audit "
        "verify`, and move it away with its head to begin a new one"
    )


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last whole lines of a log, oldest first.

    Args:
        path: The log.
        count: At most so many.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        taken = 0
        while True:
            taken = min(size, max(_END_BYTES, 4 * taken))
            file.seek(size - taken)
            lines = file.read(taken).split(b"\n")[:-1]
            # The first of them may be half a line, unless the file begins with it.
            if taken == size or len(lines) > count:
                return [line + b"\n" for line in lines[-count:]] if count else []
