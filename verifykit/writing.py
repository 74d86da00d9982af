"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Fill a file of another name beside ``path``, bring it to the disk, then put it in place.

    Another process sees the old file, if there was one, or the new one; of two that write at once the
    last stays.

    Args:
        path: Where it goes; its folder exists.
        data: All of its bytes.
        private: Only its owner may read it.

    Raises:
        OSError: The folder is missing, cannot be written or is full.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o600 if private else 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
