"""JSON lines on disk: locked, checked, and continued after the last whole line.

A line is an image's row, whatever form the output takes in the end. What was written outlives the
process; of a line that was cut short when the process was killed, nothing is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from verifykit._files import FileLock, LockHeldError, require_possible
from verifykit.errors import InputError, shortened_path, shown

FORMAT_KEY = "verifykit_batch"
"""The key that only the first line has; its value is the format's number."""


@contextmanager
def open_output(out: Path) -> Iterator[BinaryIO]:
    """Open an output for this process alone until it ends, however it ends.

    Args:
        out: Where it lies, or will lie.

    Yields:
        The file, open for reading and writing.

    Raises:
        InputError: It is not a file, or another process is writing to it.
        OSError: It cannot be made or opened.
    """
    require_possible(out)
    if out.exists() and not out.is_file():
        raise InputError(f"{shown(str(out))} is not a file: give the path of one as output")
    try:
        with (
            FileLock(out, mode=0o666) as handle,
            os.fdopen(handle, "r+b", closefd=False) as file,
        ):
            yield file
    except LockHeldError as error:
        raise InputError(f"{shown(str(out))}: another process is writing to it") from error
    except OSError as error:
        shortened_path(error)
        raise


def begin(file: BinaryIO, out: Path, header: dict[str, Any]) -> None:
    """Check that a file is an output of this run; give an empty one its first line."""
    file.seek(0)
    first = file.readline()
    if first.endswith(b"\n"):
        found = _parsed(first, out, 1)
        if FORMAT_KEY not in found:
            raise InputError(not_ours(out))
        require_settings(found, header, out)
        return
    if not _dump(header).startswith(first):
        raise InputError(not_ours(out))
    file.seek(0)
    file.truncate()
    write_rows(file, [header])


def require_settings(found: dict[str, Any], header: dict[str, Any], out: Path) -> None:
    """Refuse to continue what was begun with other settings."""
    changed = [key for key in header if found.get(key) != header[key]]
    if changed:
        was = ", ".join(
            f"{key} was {shown(found.get(key))}, is {shown(header[key])}" for key in changed
        )
        raise InputError(
            f"{shown(str(out))} was begun with other settings ({was}): its answers would be mixed; "
            "give them again, or another output"
        )


def read_rows(file: BinaryIO, out: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows after the first line; at the end the file is positioned after the last whole line."""
    file.seek(0)
    end = len(file.readline())
    # Counted here, since a caller may move the file in between.
    number = 1
    while (line := file.readline()).endswith(b"\n"):
        number += 1
        end += len(line)
        row = _parsed(line, out, number)
        if not isinstance(row.get("image"), str):
            raise InputError(f"{not_ours(out)}: line {number} names no image")
        yield row
    file.seek(end)


def write_rows(file: BinaryIO, rows: Sequence[dict[str, Any]]) -> None:
    """Append lines, and hand them to the system: they outlive this process."""
    file.write(b"".join(map(_dump, rows)))
    file.flush()


def not_ours(out: Path) -> str:
    """Return the message about a file that is something else."""
    return f"{shown(str(out))} exists and is not an output of identify-batch; nothing was written to it"


def _parsed(line: bytes, out: Path, number: int) -> dict[str, Any]:
    try:
        body = json.loads(line)
    except ValueError as error:
        raise InputError(f"{not_ours(out)}: line {number} is not JSON") from error
    if not isinstance(body, dict):
        raise InputError(f"{not_ours(out)}: line {number} is not a JSON object")
    return body


def _dump(body: dict[str, Any]) -> bytes:
    # ASCII, so that file names which are not UTF-8 survive too.
    return json.dumps(body, allow_nan=False).encode("ascii") + b"\n"
