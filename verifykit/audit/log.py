"""Writing an audit log and its head file, by several threads and processes at once.

The head file says how far the log goes, and carries the lock of the processes that write. It is overwritten
in place, one sector of 512 bytes, rather than replaced: this needs no space on a full disk, a sector is
whole after a power failure (old or new), and a file that stays can be locked. It is written after the log
has reached the disk, so it is never ahead of the log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from verifykit._files import FileLock, LockHeldError, atomic_write, full_write, sync, sync_folder
from verifykit.audit.entry import (
    FORMAT,
    GAP,
    MAX_LINE_BYTES,
    ORIGIN,
    RECOVERED,
    AuditEntry,
    decode_line,
    encode_line,
    now,
    validate_fields,
)
from verifykit.errors import AuditError, InputError, shortened, shortened_path, shown

_SECTOR_BYTES = 512
_END_BYTES = 4 * MAX_LINE_BYTES
# The fields of an entry, and the entry once it is written.
_Pending: TypeAlias = tuple[dict[str, Any], "Future[AuditEntry]"]


class Head(NamedTuple):
    """The last entry of a log, as the head file has it."""

    log_id: str
    sequence: int
    hash: str


class _End(NamedTuple):
    """The last sound line of a log, and what follows it."""

    sequence: int
    hash: str
    damaged_lines: int
    torn_bytes: int  # after the last line feed: a line whose append never returned
    size_bytes: int


class AuditLog:
    """An append-only log of decisions, each line chained by hash to the line before.

    A line holds the SHA-256 of its own content and of the line before, so that no line can be changed,
    removed, inserted or moved without a trace (:func:`~verifykit.audit.examine_log`). The head file next
    to it, ``<log>.head``, says how far the log goes, so that lines missing at its end are found too.

    There is no secret in the log: anyone who can write both files can rewrite the log from any line on,
    with a head to match, and the two files do not show it. Note the last line's number and hash elsewhere
    from time to time (``verifykit audit verify`` prints them), and compare the log with the note:
    ``verify --count N --head HASH``.

    Threads that append at the same time share a write and a sync. Several processes may append to one log.
    The files are opened for each write, so there is nothing to close. To begin a new log, move both files
    away while no process writes.

    Args:
        path: The log; it is created if it is missing, its folder must exist.
        timeout_s: How long to wait while another process writes, in seconds.

    Raises:
        InputError: The timeout is negative or not a number.
        AuditError: The log cannot be created or written, or the file is not an audit log.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = 5.0) -> None:
        if not isinstance(timeout_s, (int, float)) or not timeout_s >= 0:
            raise InputError(f"timeout_s must be 0 or more, got {shown(timeout_s)}")
        self.path = Path(path)
        self._timeout_s = float(timeout_s)
        self._reset_queue()
        with _opened(self.path, self._timeout_s) as (_, log, _):
            _find_end(log, self.path)

    def _reset_queue(self) -> None:
        self._process = os.getpid()
        self._turn = threading.Condition()
        self._queue: list[_Pending] = []
        self._writing = False

    def append(
        self,
        verb: str,
        *,
        key_id: str | None = None,
        subject_id: str | None = None,
        decision: str | None = None,
        score: float | None = None,
        threshold: float | None = None,
        model_digest: str = "",
        reason: str | None = None,
    ) -> AuditEntry:
        """Add an entry; when this returns, the entry is on the disk.

        Args:
            verb: What was done: ``verify``, ``enroll``, ...
            key_id: The API key that was used.
            subject_id: The subject, 1 to 255 bytes of UTF-8.
            decision: ``match``, ``no_match``, ...
            score: Cosine similarity in [-1, 1].
            threshold: The threshold that the score was compared with.
            model_digest: Digest of the model's specification.
            reason: Reason code of a refusal or an error.

        Returns:
            The entry, with its number, time and hash.

        Raises:
            InputError: A value is not a short string or a finite number; nothing was logged.
            AuditError: The disk is full or fails, or another process holds the lock; nothing was logged.
        """
        fields = {
            "verb": verb,
            "key_id": key_id,
            "subject_id": subject_id,
            "decision": decision,
            "score": score,
            "threshold": threshold,
            "model_digest": model_digest,
            "reason": reason,
        }
        pending, entry = validate_fields(fields), Future[AuditEntry]()
        if self._process != os.getpid():
            self._reset_queue()  # forked: a thread that was writing is not in this process
        with self._turn:
            self._queue.append((pending, entry))
            while not entry.done() and self._writing:
                self._turn.wait()
            leads = not entry.done()
            if leads:
                self._writing, batch, self._queue = True, self._queue, []
        if leads:
            self._lead(batch)
        if failure := entry.exception():
            # A new error: one that several threads raise would collect the tracebacks of all.
            raise AuditError(str(failure)) from failure.__cause__
        return entry.result()

    def _lead(self, batch: list[_Pending]) -> None:
        """Write for all threads that wait; those that come meanwhile are the next batch."""
        entries: list[AuditEntry] = []
        failure = AuditError(
            f"audit log {shortened(self.path)}: the write was interrupted"
        )  # as by Ctrl-C
        try:
            entries = self._write([fields for fields, _ in batch])
        except AuditError as error:
            failure = error
        finally:
            for (_, pending), entry in zip_longest(batch, entries):
                pending.set_result(entry) if entry else pending.set_exception(failure)
            with self._turn:
                self._writing = False
                self._turn.notify_all()

    def _write(self, batch: list[dict[str, Any]]) -> list[AuditEntry]:
        with _opened(self.path, self._timeout_s) as (head_file, log, log_id):
            end, known = _find_end(log, self.path), read_head(head_file)
            notes = _notes(end, known, log_id)
            lines, entries = _chained(end, [*notes, *batch])
            head = Head(log_id, entries[-1].sequence, entries[-1].hash)
            start = end.size_bytes - end.torn_bytes
            try:
                if end.torn_bytes:
                    os.ftruncate(log, start)
                full_write(log, b"".join(lines))
                sync(log)
                write_head(head_file, head)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(log, start)
                raise
            if known is None:
                with contextlib.suppress(OSError):  # if it is lost again, the log will say so again
                    sync(head_file)
        return entries[len(notes) :]


def log_path(gallery: str) -> Path:
    """Return where the audit log of a gallery's file is, unless another place was chosen."""
    return Path(f"{gallery}.audit.jsonl")


def head_path(log: Path) -> Path:
    """Return the path of a log's head file."""
    return log.with_name(log.name + ".head")


def read_head(handle: int) -> Head | None:
    """Return the head in an open head file, None if it is empty or damaged."""
    os.lseek(handle, 0, os.SEEK_SET)
    body, sound = decode_line(os.read(handle, _SECTOR_BYTES).rstrip() + b"\n")
    if body is None or not sound or not isinstance(body.get("log_id"), str):
        return None
    return Head(body["log_id"], body["sequence"], body["previous"])


def write_head(handle: int, head: Head) -> None:
    """Overwrite an open head file; the system decides when it reaches the disk."""
    line, _ = encode_line({"log_id": head.log_id, "previous": head.hash, "sequence": head.sequence})
    os.lseek(handle, 0, os.SEEK_SET)
    full_write(handle, line[:-1].ljust(_SECTOR_BYTES - 1) + b"\n")


@contextlib.contextmanager
def _opened(path: Path, timeout_s: float) -> Iterator[tuple[int, int, str]]:
    """Lock a log, created if it is missing; yield the descriptors of its head and itself, and its id."""
    try:
        _read_log_id(path)  # before a head is created next to a file that is not a log
        with FileLock(head_path(path), timeout_s=timeout_s) as head_file:
            log_id = _read_log_id(path) or _create(path, head_file)
            log = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
            try:
                yield head_file, log, log_id
            finally:
                os.close(log)
    except (LockHeldError, OSError) as error:
        advice = _advice(error)
        raise AuditError(f"audit log {shortened(path)}: {advice}") from shortened_path(error)


def _read_log_id(path: Path) -> str | None:
    """Return the id in a log's first line, None if the file is missing or empty."""
    try:
        with path.open("rb") as file:
            first = file.readline(MAX_LINE_BYTES)
    except FileNotFoundError:
        return None
    body, _ = decode_line(first.rstrip(b"\n") + b"\n")
    log_id = None if body is None or body.get("audit_log") != FORMAT else body.get("log_id")
    if first and not isinstance(log_id, str):
        raise AuditError(
            f"audit log {shortened(path)}: the file is not an audit log of format {FORMAT}, or its first "
            "line is damaged; nothing was written to it: choose another path, or move it away with its head"
        )
    return log_id


def _create(path: Path, head_file: int) -> str:
    """Create a log that has its first line, and its head; return its id."""
    log_id = secrets.token_hex(16)
    body = {"audit_log": FORMAT, "log_id": log_id, "previous": ORIGIN, "sequence": 1, "time": now()}
    line, digest = encode_line(body)
    atomic_write(path, line, mode=0o600)
    if read_head(head_file) is None:
        # Otherwise it belongs to a log that is gone, which the first entry will record.
        write_head(head_file, Head(log_id, 1, digest))
        sync(head_file)
    sync_folder(path.parent)
    return log_id


def _find_end(log: int, path: Path) -> _End:
    """Return the end of an open log, read from its end, however long it is."""
    size = os.fstat(log).st_size
    start = max(0, size - _END_BYTES)
    os.lseek(log, start, os.SEEK_SET)
    whole, _, torn = os.read(log, _END_BYTES).rpartition(b"\n")
    lines = whole.split(b"\n")[1 if start else 0 :]
    for damaged, line in enumerate(reversed(lines)):
        body, sound = decode_line(line + b"\n")
        if sound and body is not None:
            return _End(body["sequence"], body["hash"], damaged, len(torn), size)
    raise AuditError(
        f"audit log {shortened(path)}: its end is not an audit log, nothing was logged: run `verifykit "
        "audit verify`, and move it away with its head to begin a new one"
    )


def _notes(end: _End, known: Head | None, log_id: str) -> list[dict[str, Any]]:
    """Return the entries by which the log records damage before it continues."""
    reason = None
    if end.damaged_lines:
        reason = "damaged_lines"
    elif known is None:
        reason = "head_lost" if end.sequence > 1 else None
    elif known.log_id != log_id:
        reason = "another_log"
    elif known.sequence > end.sequence:
        reason = "lines_missing"
    elif known.sequence == end.sequence and known.hash != end.hash:
        reason = "last_line_changed"
    notes: list[dict[str, Any]] = []
    if reason:
        # A number that was used once is not used again.
        last = known.sequence if known and known.log_id == log_id else 0
        after = max(end.sequence + end.damaged_lines, last)
        notes.append({"verb": GAP, "reason": reason, "sequence": after + 1})
    if end.torn_bytes:
        notes.append({"verb": RECOVERED, "reason": "torn_line", "dropped_bytes": end.torn_bytes})
    return notes


def _chained(end: _End, batch: list[dict[str, Any]]) -> tuple[list[bytes], list[AuditEntry]]:
    """Return the lines and entries that follow the end of a log."""
    lines, entries, sequence, previous = [], [], end.sequence, end.hash
    for fields in batch:
        numbered = {"sequence": sequence + 1, **fields}
        entry = AuditEntry(time=now(), previous=previous, **numbered)
        body = entry.to_dict()
        del body["hash"]
        line, digest = encode_line(body)
        lines.append(line)
        entries.append(dataclasses.replace(entry, hash=digest))
        sequence, previous = entry.sequence, digest
    return lines, entries


def _advice(error: LockHeldError | OSError) -> str:
    if isinstance(error, LockHeldError):
        return f"{error}, nothing was logged: try again, or use a longer timeout"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({error.strerror}), nothing was logged: free space and try again"
    return (
        f"it cannot be written ({error.strerror}), nothing was logged: check that the path is a file, "
        "and the permissions of the file, its head and their folder"
    )
