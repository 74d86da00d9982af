"""Entries out of a log: one by one, the last of them, or those of a subject and a time."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from verifykit.audit.end import last_lines
from verifykit.audit.entry import FORMAT, MAX_LINE_BYTES, AuditEntry, entry_of, unsealed
from verifykit.errors import AuditError, InputError
from verifykit.spec.strict_json import canonical

ExportFormat: TypeAlias = Literal["jsonl", "csv"]

COLUMNS = tuple(field.name for field in dataclasses.fields(AuditEntry))
"""Of an exported CSV, in order."""


def read_log(path: str | os.PathLike[str]) -> Iterator[AuditEntry]:
    """The entries of a log from its beginning, in constant memory.

    Each is held against its own hash, not against the one before: that is :func:`verify_log`.

    Args:
        path: The log.

    Yields:
        Entries; an unfinished line at the end is left out.

    Raises:
        AuditError: The file cannot be read, or a line is damaged or is no entry; the message names it.
    """
    place = Path(path)
    with _readable(place), place.open("rb") as file:
        number = 0
        while (line := file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n"):
            number += 1
            yield from _parsed(line, place, f"line {number}")
        if len(line) > MAX_LINE_BYTES:
            raise AuditError(_damaged(place, f"line {number + 1}", "it is too long"))


def tail_log(path: str | os.PathLike[str], count: int = 10) -> list[AuditEntry]:
    """The last entries of a log, oldest first; read from its end.

    Args:
        path: The log.
        count: At most so many, 1 or more.

    Raises:
        InputError: The count is less than 1.
        AuditError: The file cannot be read, or one of the lines is damaged.
    """
    if count < 1:
        raise InputError(f"count must be 1 or more, got {count}")
    place = Path(path)
    with _readable(place):
        lines = last_lines(place, count)
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
    """Write entries to a file of their own, which is there whole or not at all.

    Args:
        path: The log.
        out: Where they go.
        subject_id: Only those about this subject.
        since: Only those of this moment or later.
        until: Only those before this moment.
        export_format: ``jsonl``, lines as they stand in the log, or ``csv``.
        overwrite: Replace a file that is there.

    Returns:
        How many were written.

    Raises:
        InputError: The file to be written is there, or is the log.
        AuditError: The log cannot be read or is damaged, or the file cannot be written.
    """
    source, place = Path(path), Path(out)
    if place.exists() and (not overwrite or (source.exists() and place.samefile(source))):
        raise InputError(f"{place} exists: give another path, or say that it shall be overwritten")
    low, high = (None if moment is None else _stamp(moment) for moment in (since, until))
    chosen = (
        entry
        for entry in read_log(source)
        if (subject_id is None or entry.subject_id == subject_id)
        and (low is None or entry.time >= low)
        and (high is None or entry.time < high)
    )
    write = _write_csv if export_format == "csv" else _write_lines
    try:
        handle, name = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                count = write(chosen, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise AuditError(
            f"{place} cannot be written: {error.strerror}; nothing was left there"
        ) from error
    return count


def parse_time(text: str) -> datetime:
    """A moment from ISO 8601: ``2026-11-25``, ``2026-11-25T23:31``, with ``Z`` or an offset.

    Args:
        text: A day is its first moment; without an offset it is UTC.

    Raises:
        InputError: It is something else.
    """
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise InputError(
            f"{text!r} is no time in ISO 8601: give 2026-11-25 or 2026-11-25T23:31:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _stamp(moment: datetime) -> str:
    """As entries have it: of one length, so that texts compare as times do."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _write_lines(entries: Iterable[AuditEntry], file: BinaryIO) -> int:
    count = 0
    for entry in entries:
        file.write(canonical(entry.to_dict()) + b"\n")
        count += 1
    return count


def _write_csv(entries: Iterable[AuditEntry], file: BinaryIO) -> int:
    count = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        for entry in entries:
            table.writerow(entry.to_dict())
            count += 1
    finally:
        text.detach()  # it would close the file, which is not its own
    return count


def _parsed(line: bytes, place: Path, where: str) -> Iterator[AuditEntry]:
    """The entry of a line; none of the line that begins a log."""
    body, sound = unsealed(line)
    if body is None or not sound:
        raise AuditError(_damaged(place, where, "its hash does not match, or it is no entry"))
    if body.get("audit_log") == FORMAT:
        return
    try:
        yield entry_of(body)
    except AuditError as error:
        raise AuditError(_damaged(place, where, str(error))) from error


def _damaged(place: Path, where: str, what: str) -> str:
    return f"audit log {place}: {where} is damaged ({what}): run `verifykit audit verify`"


@contextlib.contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AuditError(f"audit log {place}: it cannot be read ({error.strerror})") from error
