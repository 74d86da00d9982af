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
    """Refuse to continue what was begun with other settings, or with another state of the gallery."""
    # Only outputs in bfloat16 name a precision.
    keys = dict.fromkeys((*header, "precision"))
    changed = [key for key in keys if found.get(key) != header.get(key)]
    if "gallery" in changed and "model" not in changed:
        raise InputError(
            f"{shown(str(out))} was begun with {_state(found.get('gallery'))}, and there is "
            f"{_state(header['gallery'])} now: rows about both would be mixed, nothing was written; give "
            "another output to search for all images again, or keep this one, write the paths that have "
            "no row in it to a .txt, and give that as a source with an output of its own"
        )
    if changed:
        was = ", ".join(
            f"{key} was {shown(found.get(key))}, is {shown(header.get(key))}" for key in changed
        )
        raise InputError(
            f"{shown(str(out))} was begun with other settings ({was}): its answers would be mixed; "
            "give them again, or another output"
        )


def _state(gallery: Any) -> str:
    state = gallery if isinstance(gallery, dict) else {}
    counts = f"{state.get('subject_count')} subject(s), {state.get('template_count')} template(s)"
    if "revision" not in state:
        return f"a gallery of {counts}"
    return f"revision {state['revision']} of the gallery made {state.get('created')} ({counts})"


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
