"""The output of a run: locked, checked, and continued behind its last whole line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from verifykit.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["FORMAT_KEY", "open_output", "resume", "write_line"]

FORMAT_KEY = "verifykit_batch"
"""The key that only the first line has; its value is the format's number."""


@contextmanager
def open_output(out: Path) -> Iterator[BinaryIO]:
    """Open an output for this process alone until it ends, however it ends.

    Raises:
        InputError: It is not a file, or another process is writing to it.
        OSError: It cannot be made or opened.
    """
    if out.exists() and not out.is_file():
        raise InputError(f"{str(out)!r} is not a file: give the path of one as output")
    # Neither mode "r+b", which makes no file, nor "a+b", which cannot cut a torn line.
    with os.fdopen(
        os.open(out, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)), "r+b"
    ) as file:
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{str(out)!r}: another process is writing to it") from error
        yield file


def resume(file: BinaryIO, out: Path, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Cut a torn last line, check that the output is of this run, and leave the file at its end.

    Args:
        file: The output, at its beginning.
        out: Its path, for messages.
        header: What the first line must be; it is written into an empty output.

    Returns:
        The lines that are there, by image.

    Raises:
        InputError: It is something else, or was begun with other settings; it is left as it was.
    """
    whole = file.read()
    kept = whole[: whole.rfind(b"\n") + 1]
    lines = list(_parsed(kept, out))
    if not lines:
        if len(whole) > 0 and not _dump(header).startswith(whole):
            raise InputError(_not_ours(out))
        file.seek(0)
        file.truncate()
        write_line(file, header)
        return {}
    if FORMAT_KEY not in lines[0]:
        raise InputError(_not_ours(out))
    changed = [key for key in header if lines[0].get(key) != header[key]]
    if changed:
        was = ", ".join(f"{key} was {lines[0].get(key)!r}, is {header[key]!r}" for key in changed)
        raise InputError(
            f"{str(out)!r} was begun with other settings ({was}): its answers would be mixed; "
            "give them again, or another output"
        )
    file.seek(len(kept))
    file.truncate()
    return {line["image"]: line for line in lines[1:]}


def _parsed(text: bytes, out: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            body = json.loads(line)
        except ValueError as error:
            raise InputError(f"{_not_ours(out)}: line {number} is not JSON") from error
        if not isinstance(body, dict) or not (number == 1 or isinstance(body.get("image"), str)):
            raise InputError(f"{_not_ours(out)}: line {number} names no image")
        yield body


def _not_ours(out: Path) -> str:
    return f"{str(out)!r} exists and is not an output of identify-batch; nothing was written to it"


def _dump(body: dict[str, Any]) -> bytes:
    # ASCII, so that file names which are not UTF-8 survive too.
    return json.dumps(body, allow_nan=False).encode("ascii") + b"\n"


def write_line(file: BinaryIO, body: dict[str, Any]) -> None:
    """Append one line, and hand it to the system: it outlives this process."""
    file.write(_dump(body))
    file.flush()
