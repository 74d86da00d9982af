"""Reading and exporting the entries of an audit log."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TypeAlias

from verifykit._files import atomic_file
from verifykit.audit.entry import MAX_LINE_BYTES, AuditEntry, parse_line, time_text
from verifykit.errors import AuditError, InputError, shortened, shortened_path, shown
from verifykit.spec.strict_json import canonical

ExportFormat: TypeAlias = Literal["jsonl", "csv"]

_TAIL_BYTES = 4 * MAX_LINE_BYTES
_COLUMNS = tuple(field.name for field in dataclasses.fields(AuditEntry))


def read_log(path: str | os.PathLike[str]) -> Iterator[AuditEntry]:
    """Iterate over the entries of a log from its beginning, in constant memory.

    Each entry is compared with its own hash, not with the entry before: see
    :func:`~verifykit.audit.examine_log`.

    Args:
        path: The log.

    Yields:
        Entries; an unfinished line at the end is left out.

    Raises:
        AuditError: The file cannot be read, or a line is damaged or is not an entry; the message names it.
    """
    place = Path(path)
    with _readable(place), place.open("rb") as file:
        number = 0
        # A line that is too long is read in part, and is then not an entry.
        while (line := file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n") or len(
            line
        ) > MAX_LINE_BYTES:
            number += 1
            yield from _parsed(line, place, f"line {number}")


def tail_log(path: str | os.PathLike[str], count: int = 10) -> list[AuditEntry]:
    """Return the last entries of a log, oldest first, read from its end.

    Args:
        path: The log.
        count: The most entries to return, 1 or more.

    Raises:
        InputError: The count is less than 1.
        AuditError: The file cannot be read, or one of the lines is damaged.
    """
    if count < 1:
        raise InputError(f"count must be 1 or more, got {count}")
    place = Path(path)
    with _readable(place):
        lines = _last_lines(place, count)
    where = f"one of the last {count} lines"
    return [entry for line in lines for entry in _parsed(line, place, where)]


def export_log(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    subject_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    export_format: ExportFormat = "jsonl",
    overwrite: bool = False,
) -> int:
    """Write entries to a file, which appears as a whole or not at all.

    Args:
        path: The log.
        out: The file to write.
        subject_id: Only entries about this subject.
        since: Only entries of this moment or later.
        until: Only entries before this moment.
        export_format: ``jsonl``, lines as they are in the log, or ``csv``.
        overwrite: Replace an existing file.

    Returns:
        The number of entries written.

    Raises:
        InputError: The file to write exists, or is the log.
        AuditError: The log cannot be read or is damaged, or the file cannot be written.
    """
    source, place = Path(path), Path(out)
    if place.exists() and (not overwrite or (source.exists() and place.samefile(source))):
        raise InputError(f"{shortened(place)} exists: choose another path, or overwrite it")
    low, high = (None if moment is None else time_text(moment) for moment in (since, until))
    chosen = (
        entry
        for entry in read_log(source)
        if (subject_id is None or entry.subject_id == subject_id)
        and (low is None or entry.time >= low)
        and (high is None or entry.time < high)
    )
    try:
        with atomic_file(place, mode=0o600) as part:
            return _write(chosen, part, export_format)
    except OSError as error:
        raise AuditError(
            f"{shortened(place)} cannot be written: {error.strerror}; nothing was left there"
        ) from shortened_path(error)


def parse_time(text: str) -> datetime:
    """Parse a time in ISO 8601: ``2026-11-25``, ``2026-11-25T23:31``, with ``Z`` or an offset.

    Args:
        text: A day is its first moment; a time without an offset is UTC.

    Raises:
        InputError: The text is not such a time.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise InputError(
            f"{shown(text)} is not a time in ISO 8601: give 2026-11-25 or 2026-11-25T23:31:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _last_lines(path: Path, count: int) -> list[bytes]:
    """Return the last complete lines of a file, oldest first."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        taken = 0
        while True:
            taken = min(size, max(_TAIL_BYTES, 4 * taken))
            file.seek(size - taken)
            lines = file.read(taken).split(b"\n")[:-1]
            # The first of them may be half a line, unless the file begins with it.
            if taken == size or len(lines) > count:
                return [line + b"\n" for line in lines[-count:]]


def _write(entries: Iterable[AuditEntry], path: Path, export_format: ExportFormat) -> int:
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        if export_format == "csv":
            table.writeheader()
        for entry in entries:
            if export_format == "csv":
                table.writerow(entry.to_dict())
            else:
                file.write(canonical(entry.to_dict()).decode("ascii") + "\n")
            written += 1
    return written


def _parsed(line: bytes, place: Path, where: str) -> Iterator[AuditEntry]:
    """Yield the entry of a line, nothing for the line that begins a log."""
    try:
        body = parse_line(line)
    except AuditError as error:
        raise AuditError(
            f"audit log {shortened(place)}: {where} is damaged ({error}): run `verifykit audit verify`"
        ) from error
    if "audit_log" not in body:
        yield AuditEntry(**body)


@contextlib.contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AuditError(
            f"audit log {shortened(place)}: it cannot be read ({error.strerror})"
        ) from shortened_path(error)
