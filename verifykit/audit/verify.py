"""Verifying an audit log: against its own chain, its head file, and an entry that was noted elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from verifykit.audit.entry import GAP, MAX_LINE_BYTES, ORIGIN, parse_line
from verifykit.audit.log import Head, head_path, read_head
from verifykit.errors import AuditError, InputError, shortened, shortened_path, shown


@dataclass(frozen=True)
class AuditProblem:
    """Something that is wrong with a log.

    Attributes:
        line: Number of the line in the file, from 1; one more than there are where lines are missing at
            the end. None if the problem is not at one line.
        message: What is wrong.
    """

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


@dataclass
class AuditReport:
    """The result of verifying a log.

    Attributes:
        problems: The first break of the chain, if it breaks, then each contradiction to the head file and
            to the entry noted elsewhere; empty for a sound log.
        break_count: Lines that break the chain: they are damaged, are not chained to the line before, or
            record a gap.
        resume_line: The first line from which all lines are chained to each other again, up to the end of
            the log. None if the chain does not break, or does not resume.
        line_count: Complete lines.
        sequence: Number of the last undamaged entry; for a sound log the count of its lines.
        hash: Hash of that entry: note both elsewhere, and verify the log against them later.
        unfinished_bytes: Bytes after the last line: a line that is being written, or whose writing was
            interrupted. Its ``append`` has not returned; the next one removes it and records that.
    """

    problems: list[AuditProblem] = field(default_factory=list)
    break_count: int = 0
    resume_line: int | None = None
    line_count: int = 0
    sequence: int = 0
    hash: str = ""
    unfinished_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that are ready for JSON."""
        return {**vars(self), "problems": [{**vars(problem)} for problem in self.problems]}


def examine_log(
    path: str | os.PathLike[str], *, count: int | None = None, head: str | None = None
) -> AuditReport:
    """Verify a log from its first to its last line, and find where its chain first breaks and resumes.

    Any line that was changed, removed, inserted or moved breaks the chain. This takes no lock and constant
    memory, and may run while the log is being written.

    Args:
        path: The log.
        count: Number of an entry, noted elsewhere: the log must have it.
        head: The hash of that entry, or without a count of any entry: the log must have it.

    Returns:
        The problems, and how far the log goes.

    Raises:
        InputError: The count is less than 1, or the head is not a hash.
        AuditError: Neither the log nor its head exists, or one cannot be read.
    """
    if count is not None and count < 1:
        raise InputError(f"count is the number of an entry and must be 1 or more, got {count}")
    if head is not None and not re.fullmatch("[0-9a-f]{64}", head):
        raise InputError(f"head is a hash and must have 64 hexadecimal digits, got {shown(head)}")
    place = Path(path)
    noted = {"sequence": count, "hash": head}
    noted = {key: value for key, value in noted.items() if value is not None}
    try:
        known, has_head = _read_head(place)  # before the log, which may grow meanwhile
        if not place.exists() and has_head:
            return AuditReport([AuditProblem(1, "the log is missing, only its head file is left")])
        with place.open("rb") as file:
            report = _examine(file, known, noted)
    except OSError as error:
        raise AuditError(
            f"audit log {shortened(place)}: it cannot be read ({error.strerror})"
        ) from shortened_path(error)
    if not known and not noted:
        what = f"the head file is {'damaged' if has_head else 'missing'}"
        report.problems.append(AuditProblem(None, f"{what}: lines may be missing at the end"))
    return report


def _examine(file: BinaryIO, known: Head | None, noted: dict[str, Any]) -> AuditReport:
    """Follow the chain, and look for the entries that are known to be in the log."""
    report, first_break, damaged, highest, log_id = AuditReport(hash=ORIGIN), None, 0, 0, ""
    expected = {"the noted entry": noted} if noted else {}
    if known:
        expected["the head file's entry"] = {"sequence": known.sequence, "hash": known.hash}
    for line in _lines(file, report):
        body, message = None, ""
        try:
            body = parse_line(line)
            message = _mismatch(body, report, damaged)
        except AuditError as error:
            message = str(error)
        if message:
            report.break_count += 1
            first_break = first_break or AuditProblem(report.line_count, message)
            report.resume_line = None
        if body is None:
            damaged += 1
            continue
        if first_break and report.resume_line is None:
            report.resume_line = report.line_count
        report.sequence, report.hash, damaged = body["sequence"], body["hash"], 0
        highest, log_id = max(highest, report.sequence), log_id or body.get("log_id", "")
        expected = {key: it for key, it in expected.items() if not it.items() <= body.items()}
    report.problems += [first_break] if first_break else []
    if not report.line_count:
        report.problems.append(AuditProblem(1, "the log is empty: even its first line is missing"))
    if known and log_id and log_id != known.log_id:
        report.problems.append(AuditProblem(None, "the head file belongs to another log"))
    for name, fields in expected.items():
        cut = fields.get("sequence", 0) - highest
        if not 0 < cut <= damaged:  # otherwise it is a damaged last line, which breaks the chain
            which = ", ".join(f"{key} {value}" for key, value in fields.items())
            message = f"{name} ({which}) is missing: the log ends with entry {highest}"
            end = report.line_count + 1 if cut > 0 else None
            report.problems.append(AuditProblem(end, message))
    return report


def _mismatch(body: dict[str, Any], before: AuditReport, damaged: int) -> str:
    """Return how a line contradicts the last undamaged line before it; empty if it does not."""
    entry, step = f"entry {body['sequence']}", body["sequence"] - before.sequence
    if body.get("verb") == GAP:
        reason = str(body["reason"]).replace("_", " ")
        return f"{entry} records a gap after entry {before.sequence}: {reason}"
    # Across damaged lines, whose hashes are not known, only the numbers can be compared.
    if (step == 1 and body["previous"] == before.hash) or 1 < step <= 1 + damaged:
        return ""
    return f"{entry} is not chained to " + (
        f"entry {before.sequence}" if before.sequence else "the beginning of a log"
    )


def _lines(file: BinaryIO, report: AuditReport) -> Iterator[bytes]:
    """Yield complete lines, of one that is too long its beginning, and count them in the report."""
    while line := file.readline(MAX_LINE_BYTES):
        size, part = len(line), line
        while len(part) == MAX_LINE_BYTES and not part.endswith(b"\n"):
            part = file.readline(MAX_LINE_BYTES)
            size += len(part)
        if not (part or line).endswith(b"\n"):
            report.unfinished_bytes = size
            return
        report.line_count += 1
        yield line


def _read_head(place: Path) -> tuple[Head | None, bool]:
    """Return the head, None if it cannot be read, and whether there is a head file."""
    try:
        with head_path(place).open("rb") as file:
            for _ in range(10):  # it may be overwritten at the moment of reading
                if known := read_head(file.fileno()):
                    return known, True
            return None, True
    except FileNotFoundError:
        return None, False
