"""Tell a write-ahead log that a crash has cut from one that was emptied, cut or damaged afterwards.

SQLite takes a log up to its first frame that is not sound, in silence: after a crash that frame is part of a
transaction which was never acknowledged. Two findings cannot come from a crash. A log in use is never empty
and its header is sound, since the header was on the disk before the file was marked (log_mark.py). And frames
after a commit are written once that commit is on the disk, so sound frames that go on beyond a commit show
that all frames up to that commit were sound once.

The format is that of https://www.sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER, _FRAME_HEADER = 32, 24
_MAGIC = {0x377F0682: "<u4", 0x377F0683: ">u4"}  # the byte order of the checksums

Sums = NDArray[np.uint32]


def log_problem(path: Path, is_in_use: Callable[[], bool]) -> str | None:
    """Return what of a log cannot come from a crash, None if nothing; is_in_use: by the gallery's file."""
    try:
        header, frames = _read(path)
    except FileNotFoundError:
        return "is missing" if is_in_use() else None
    except OSError:
        return None  # opening the gallery reports that
    order = _MAGIC.get(int.from_bytes(header[:4], "big"))
    if order is None or _checksum(header[:24], order) != tuple(_words(header[24:], ">u4")):
        wrong = "has no sound header" if header else "is empty"
        return wrong if is_in_use() else None
    size = _FRAME_HEADER + int.from_bytes(header[8:12], "big")
    count = len(frames) // size
    if not frames:
        return "has only a header" if is_in_use() else None
    rows = np.frombuffer(frames, np.uint8, count * size).reshape(count, size)
    return "is damaged before its end" if _goes_on_beyond_damage(header, rows, order) else None


def _read(path: Path) -> tuple[bytes, bytes]:
    """Return the header and what follows, of one generation: a new one begins with its header."""
    while True:
        with path.open("rb") as file:
            header, frames = file.read(_HEADER), file.read()
            file.seek(0)
            if file.read(_HEADER) == header:
                return header, frames


def _goes_on_beyond_damage(header: bytes, rows: NDArray[np.uint8], order: str) -> bool:
    """Return whether sound frames follow a commit that is part of the damage or comes after it."""
    if not len(rows):
        return False
    stored = _words(rows[:, 16:24], ">u4")
    is_commit = _words(rows[:, 4:8], ">u4")[:, 0] != 0
    is_of_log = (rows[:, 8:16] == np.frombuffer(header[16:24], np.uint8)).all(axis=1)
    content = _words(np.concatenate([rows[:, :8], rows[:, _FRAME_HEADER:]], axis=1), order)
    before = np.concatenate([_words(header[24:], ">u4")[np.newaxis], stored[:-1]])
    follows = is_of_log & (_sums(before, content) == stored).all(axis=1)
    if follows.all():
        return False
    broken = int(np.argmin(follows))
    return bool((is_commit & is_of_log)[broken:-1][follows[broken + 1 :]].any())


def _sums(before: Sums, words: Sums) -> Sums:
    """Return the checksum of each row of words, begun with the checksum before it.

    For each pair of words x, y: s += x + t, t += y + s. That is linear, with Fibonacci numbers as factors.
    """
    count = words.shape[1]
    numbers = [0, 1]
    for _ in range(count):
        numbers.append((numbers[-1] + numbers[-2]) & 0xFFFFFFFF)
    fibonacci = np.array(numbers, np.uint32)
    # A word with n words from it to the end counts F(n) times in t, and F(n - 1) times in s.
    from_end = np.arange(count, 0, -1)
    seeds = np.array([[numbers[count - 1], numbers[count]], numbers[count:]], np.uint32)
    factors = np.stack([fibonacci[from_end - 1], fibonacci[from_end]])
    return np.asarray(before @ seeds.T + words @ factors.T, np.uint32)


def _checksum(data: bytes, order: str) -> tuple[np.uint32, ...]:
    return tuple(_sums(np.zeros((1, 2), np.uint32), _words(data, order)[np.newaxis])[0])


def _words(data: bytes | NDArray[np.uint8], order: str) -> Sums:
    raw = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(raw).view(order).astype(np.uint32)
