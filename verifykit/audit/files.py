"""The two files of a log: begun, and opened for writing by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from verifykit.audit.entry import FORMAT, MAX_LINE_BYTES, ORIGIN, now, sealed, unsealed
from verifykit.audit.head import Head, head_path, held, read_head, sync, write_head
from verifykit.errors import AuditError
from verifykit.writing import write_whole


@contextlib.contextmanager
def opened_log(path: Path, timeout_s: float) -> Iterator[tuple[int, int]]:
    """Open a log and its head, made if there is none, for this thread of this process alone.

    Args:
        path: The log.
        timeout_s: How long to wait for another process.

    Yields:
        File descriptors of the head and of the log; what is written to the log goes to its end.

    Raises:
        AuditError: Another process holds them for longer, or any failure of the disk meanwhile.
    """
    try:
        with held(head_path(path), timeout_s) as beside:
            if not path.exists() or (path.is_file() and not path.stat().st_size):
                _create(path, beside)
            log = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0))
            try:
                yield beside, log
            finally:
                os.close(log)
    except OSError as error:
        raise AuditError(f"audit log {path}: {_advice(error)}") from error


def require_log(path: Path) -> None:
    """Refuse a path where something else is than an audit log or nothing.

    Args:
        path: Where the log is, or will be.

    Raises:
        AuditError: A folder, another file, or not to be read.
    """
    if path.is_dir():
        raise AuditError(f"audit log {path}: this is a folder; give the path of a file in it")
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                log_id_of(file.fileno(), path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditError(f"audit log {path}: {_advice(error)}") from error


def log_id_of(log: int, path: Path) -> str:
    """The id in a log's first line.

    Args:
        log: File descriptor of the log.
        path: Its path, for messages.

    Raises:
        AuditError: It is no audit log.
    """
    os.lseek(log, 0, os.SEEK_SET)
    first = os.read(log, MAX_LINE_BYTES).partition(b"\n")[0]
    body, _ = unsealed(first + b"\n")
    if body is None or body.get("audit_log") != FORMAT or not isinstance(body.get("log_id"), str):
        raise AuditError(
            f"audit log {path}: the file is no audit log of format {FORMAT}, or its first line is damaged; "
            "nothing was written to it: give another path, or move it away with its head"
        )
    return str(body["log_id"])


def _create(path: Path, beside: int) -> None:
    body = {
        "audit_log": FORMAT,
        "log_id": secrets.token_hex(16),
        "previous": ORIGIN,
        "sequence": 1,
        "time": now(),
    }
    line, digest = sealed(body)
    write_whole(path, line)
    path.chmod(0o600)
    if read_head(beside) is None:
        # Else it belongs to a log that is gone, which the first entry will say.
        write_head(beside, Head(str(body["log_id"]), 1, digest))
        sync(beside)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({error.strerror}), nothing was logged: free space and try again"
    return (
        f"it cannot be written ({error.strerror}), nothing was logged: check that the path is a file, "
        "and the permissions of the file, its head and their folder"
    )
