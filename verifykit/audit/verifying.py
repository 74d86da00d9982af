"""Reading a log from end to end, against itself, its head, and what was noted elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from verifykit.audit.chain import AuditProblem, Chain
from verifykit.audit.entry import MAX_LINE_BYTES
from verifykit.audit.head import Head, head_path, read_head
from verifykit.errors import AuditError, InputError

MAX_PROBLEMS = 1000
"""A file with more is not read further."""


@dataclass
class AuditReport:
    """What reading a log from end to end gave.

    Attributes:
        problems: In the order of the file; empty for a sound log.
        line_count: Whole lines.
        sequence: Number of the last entry; for a sound log the count of its lines, unless it has gaps.
        hash: Of the last entry: note both elsewhere, and ask for them another day.
        unfinished_bytes: Behind the last line: a line that is being written, or whose writing was
            interrupted. Its ``append`` has not returned; the next one cuts it off and says so.
    """

    problems: list[AuditProblem] = field(default_factory=list)
    line_count: int = 0
    sequence: int = 0
    hash: str = ""
    unfinished_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain values."""
        problems = [{**vars(problem)} for problem in self.problems]
        return {**vars(self), "problems": problems}


def verify_log(
    path: str | os.PathLike[str], *, count: int | None = None, head: str | None = None
) -> list[AuditProblem]:
    """The problems of :func:`examine_log`.

    Args:
        path: The log.
        count: Number of an entry, noted elsewhere.
        head: Its hash, noted elsewhere.

    Returns:
        Empty for a sound log.

    Raises:
        InputError: The count or the hash is none.
        AuditError: There is no such file, or it cannot be read.
    """
    return examine_log(path, count=count, head=head).problems


def examine_log(
    path: str | os.PathLike[str], *, count: int | None = None, head: str | None = None
) -> AuditReport:
    """Read a log from end to end and name each line that was changed, taken out, put in or moved.

    It takes no lock and constant memory, and may run while the log is being written. Whoever may write
    both the log and its head can make them anew; an entry's number and hash that were noted elsewhere
    show that too, for everything up to that entry.

    Args:
        path: The log.
        count: Number of an entry, noted elsewhere: the log must go at least so far.
        head: The hash of that entry, or without a count of any: it must be there.

    Returns:
        What was found. After 1000 problems the rest is not read.

    Raises:
        InputError: The count or the hash is none.
        AuditError: There is no such file and no head of it, or it cannot be read.
    """
    if count is not None and count < 1:
        raise InputError(f"count is the number of an entry, 1 or more, got {count}")
    if head is not None and not re.fullmatch("[0-9a-f]{64}", head):
        raise InputError(f"head is a hash of 64 hexadecimal digits, got {head!r}")
    place = Path(path)
    try:
        # First: the log may grow meanwhile.
        known, has_head = _head(place)
        if not place.exists() and has_head:
            gone = AuditProblem(1, "missing", "the log is gone, and its head file is there")
            return AuditReport([gone])
        with place.open("rb") as file:
            return _examined(file, known, has_head, count, head)
    except OSError as error:
        raise AuditError(f"audit log {place}: it cannot be read ({error.strerror})") from error


class _Wanted:
    """Entries that must be there, by number, by hash or by both."""

    def __init__(self, known: Head | None, count: int | None, head: str | None) -> None:
        self.known, self.count, self.head = known, count, head
        self.has_known = known is None
        self.has_noted = head is None

    def look(self, sequence: int, digest: str) -> None:
        if self.known and (sequence, digest) == (self.known.sequence, self.known.hash):
            self.has_known = True
        if digest == self.head and self.count in (None, sequence):
            self.has_noted = True


def _examined(
    file: BinaryIO, known: Head | None, has_head: bool, count: int | None, head: str | None
) -> AuditReport:
    report, chain, wanted = AuditReport(), Chain(), _Wanted(known, count, head)
    for number, line in _lines(file, report):
        report.line_count = number
        report.problems += chain.take(number, line)
        wanted.look(chain.tip.sequence, chain.tip.hash)
        if len(report.problems) >= MAX_PROBLEMS:
            break
    report.problems += chain.flush()
    report.sequence, report.hash = chain.tip.sequence, chain.tip.hash
    if len(report.problems) >= MAX_PROBLEMS:
        told = f"{MAX_PROBLEMS} problems up to here: the rest was not read"
        report.problems.append(AuditProblem(report.line_count, "changed", told))
    else:
        report.problems += _against_noted(report, chain, wanted, has_head)
    return report


def _lines(file: BinaryIO, report: AuditReport) -> Iterator[tuple[int, bytes]]:
    """Whole lines; of one that is too long, enough to see that it is none."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        size, part = len(line), line
        while len(part) == MAX_LINE_BYTES and not part.endswith(b"\n"):
            part = file.readline(MAX_LINE_BYTES)
            size += len(part)
        if not (part or line).endswith(b"\n"):
            report.unfinished_bytes = size
            return
        number += 1
        yield number, line


def _against_noted(
    report: AuditReport, chain: Chain, wanted: _Wanted, has_head: bool
) -> Iterator[AuditProblem]:
    """What the head file and the caller know of the log, at its end."""
    known, end = wanted.known, report.line_count + 1
    if report.line_count == 0:
        yield AuditProblem(1, "missing", "the log is empty: not even its first line is there")
    if known is None and wanted.count is None and wanted.head is None:
        what = "is damaged" if has_head else "is not there"
        yield AuditProblem(
            None,
            "head",
            f"the head file {what}: whether lines are missing at the end cannot be told",
        )
    if known and chain.log_id and known.log_id != chain.log_id:
        yield AuditProblem(None, "head", "the head file is another log's: one was exchanged")
    elif known and not wanted.has_known and known.sequence > report.sequence + chain.damaged:
        yield AuditProblem(end, "missing", _cut(report.sequence, known.sequence, "the head file"))
    elif known and not wanted.has_known and not chain.damaged:
        yield AuditProblem(
            chain.tip.line,
            "changed",
            f"the log has not the entry {known.sequence} that the head file knows: it was changed and sealed "
            "again",
        )
    if wanted.count is not None and wanted.count > report.sequence:
        yield AuditProblem(end, "missing", _cut(report.sequence, wanted.count, "what was noted"))
    elif not wanted.has_noted:
        entry = "no entry" if wanted.count is None else f"entry {wanted.count} no longer"
        told = f"{entry} has the hash that was noted: the log was made anew or cut"
        yield AuditProblem(None, "changed", told)


def _cut(last: int, known: int, witness: str) -> str:
    first = last + 1
    missing = f"entry {first} is" if first == known else f"entries {first} to {known} are"
    return f"{missing} missing at the end: {witness} counts {known}"


def _head(place: Path) -> tuple[Head | None, bool]:
    try:
        handle = os.open(head_path(place), os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None, False
    try:
        for _ in range(10):  # it may be read in the middle of being overwritten
            if known := read_head(handle):
                return known, True
        return None, True
    finally:
        os.close(handle)
