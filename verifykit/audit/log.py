"""An audit log that is being written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

from verifykit.audit.end import LogEnd, find_end
from verifykit.audit.entry import GAP, RECOVERED, AuditEntry, checked_fields, now, sealed
from verifykit.audit.files import log_id_of, opened_log, require_log
from verifykit.audit.head import Head, full_write, read_head, sync, write_head
from verifykit.errors import AuditError, InputError


class _Waiting:
    """An entry on its way to the disk."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.entry: AuditEntry | None = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.entry is not None or self.error is not None


class AuditLog:
    """Who did what to whom, and how it came out: a file that grows, each line sealed to the one before.

    A line holds the SHA-256 of its own content and of the line before, so that no line can be changed,
    taken out, put in or moved without a trace (:func:`~verifykit.audit.verify_log`). The head file beside
    it, ``<log>.head``, says how far the log goes, so that lines missing at its end are found too.

    What this does not do: there is no secret in it. Whoever may write both files can make the log anew
    from any line on, with a head to fit, and nothing inside the two files tells. Against that, note the
    last line's number and hash elsewhere from time to time (``verifykit audit verify`` prints them), and
    hold the log against them: ``verify --count N --head HASH``.

    Threads that append at once share a write and a sync. Several processes may append to one log. The
    files are opened for each write, so there is nothing to close; move both away, while nobody writes, to
    begin a new log.

    Args:
        path: The log, made if it is not there; its folder exists.
        timeout_s: How long to wait while another process writes, in seconds.

    Raises:
        InputError: The time-out is negative or not a number.
        AuditError: It cannot be made or written, or the file is something else.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = 5.0) -> None:
        if not isinstance(timeout_s, (int, float)) or not timeout_s >= 0:
            raise InputError(f"timeout_s must be 0 or more, got {timeout_s!r}")
        self.path = Path(path)
        self._timeout_s = float(timeout_s)
        self._queue: list[_Waiting] = []
        self._writing = False
        self._begin_queue()
        require_log(self.path)  # before a head is put beside a file that is something else
        with opened_log(self.path, self._timeout_s) as (_, log):
            find_end(log, self.path)

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
        """Add an entry; when this returns it is on the disk.

        Args:
            verb: What was done: ``verify``, ``enroll``, ...
            key_id: Which API key acted.
            subject_id: Whom it was about; 1 to 255 bytes of UTF-8.
            decision: ``match``, ``no_match``, ...
            score: Cosine similarity in [-1, 1].
            threshold: What the score was held against.
            model_digest: Digest of the model's specification.
            reason: Reason code of a refusal or an error.

        Returns:
            The entry, with its number, time and hash.

        Raises:
            InputError: Not a short string or a finite number where one belongs; nothing was logged.
            AuditError: The disk is full or refuses, or another process holds the lock; nothing was logged.
        """
        told = {
            "verb": verb,
            "key_id": key_id,
            "subject_id": subject_id,
            "decision": decision,
            "score": score,
            "threshold": threshold,
            "model_digest": model_digest,
            "reason": reason,
        }
        mine = _Waiting(checked_fields(told))
        if self._process != os.getpid():
            self._begin_queue()  # forked: whoever was writing then is not in this process
        with self._turn:
            self._queue.append(mine)
            while not mine.done and self._writing:
                self._turn.wait()
            leads = not mine.done
            if leads:
                self._writing, batch, self._queue = True, self._queue, []
        if leads:
            self._lead(batch)
        if mine.entry is None:
            raise _own(mine.error)
        return mine.entry

    def _begin_queue(self) -> None:
        self._process = os.getpid()
        self._turn = threading.Condition()
        self._queue = []
        self._writing = False

    def _lead(self, batch: list[_Waiting]) -> None:
        """Write for all who wait; those who come meanwhile are the next batch."""
        try:
            entries = self._write([waiting.fields for waiting in batch])
            for waiting, entry in zip(batch, entries, strict=True):
                waiting.entry = entry
        except AuditError as error:
            for waiting in batch:
                waiting.error = error
        finally:
            for waiting in batch:
                if not waiting.done:  # something that is no error of ours, such as Ctrl-C
                    waiting.error = AuditError(f"audit log {self.path}: the write was interrupted")
            with self._turn:
                self._writing = False
                self._turn.notify_all()

    def _write(self, batch: list[dict[str, Any]]) -> list[AuditEntry]:
        with opened_log(self.path, self._timeout_s) as (beside, log):
            log_id = log_id_of(log, self.path)
            end, known = find_end(log, self.path), read_head(beside)
            notes = _notes(end, known, log_id)
            lines, entries = _chained(end, [*notes, *batch])
            head = Head(log_id, entries[-1].sequence, entries[-1].hash)
            start = end.size_bytes - end.torn_bytes
            try:
                if end.torn_bytes:
                    os.ftruncate(log, start)
                full_write(log, b"".join(lines))
                sync(log)
                write_head(beside, head)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(log, start)
                raise
            if known is None:
                with contextlib.suppress(
                    OSError
                ):  # a head that is lost once more is said once more
                    sync(beside)
        return entries[len(notes) :]


def _notes(end: LogEnd, known: Head | None, log_id: str) -> list[dict[str, Any]]:
    """What the log has to say of itself before it goes on."""
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
        # Numbers that were given once are not given again.
        last = known.sequence if known and known.log_id == log_id else 0
        after = max(end.sequence + end.damaged_lines, last)
        notes.append({"verb": GAP, "reason": reason, "sequence": after + 1})
    if end.torn_bytes:
        notes.append({"verb": RECOVERED, "reason": "torn_line", "dropped_bytes": end.torn_bytes})
    return notes


def _chained(end: LogEnd, batch: list[dict[str, Any]]) -> tuple[list[bytes], list[AuditEntry]]:
    lines, entries, sequence, previous = [], [], end.sequence, end.hash
    for fields in batch:
        told = {"sequence": sequence + 1, **fields}
        entry = AuditEntry(time=now(), previous=previous, **told)
        body = entry.to_dict()
        del body["hash"]
        line, digest = sealed(body)
        lines.append(line)
        entries.append(dataclasses.replace(entry, hash=digest))
        sequence, previous = entry.sequence, digest
    return lines, entries


def _own(error: BaseException | None) -> AuditError:
    """An error of this thread's own: one that several raise would collect all their tracebacks."""
    own = AuditError(str(error))
    own.__cause__ = error.__cause__ if error else None
    return own
