"""Where the images of a run come from: a folder, a list, a table or a video.

A source is read twice, once to count and check it and once to work on it, and is never held as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from verifykit._files import require_possible
from verifykit.datasets import FolderImages, optional_library, read_paths
from verifykit.errors import InputError, shortened_path, shown
from verifykit.types import ImageLike

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of a source.

    Attributes:
        name: What the output calls it; within a source it distinguishes one image from another.
        image: A path, or the pixels of a video's frame.
    """

    name: str
    image: ImageLike


class Source(Protocol):
    """Images in a fixed order.

    Attributes:
        identity: What distinguishes this source from another, JSON-ready.
        left_out: What a folder holds besides images, by reason; complete after :meth:`count`.
    """

    identity: dict[str, Any]
    left_out: dict[str, int]

    def count(self) -> int:
        """Return how many images there are; for a video what its header says, which may be wrong.

        Raises:
            InputError: The source cannot be read, or a part of it names no image.
        """

    def images(self) -> Iterator[SourceImage]:
        """Yield the images, in order, read as they are taken.

        Raises:
            InputError: As :meth:`count`.
        """


def open_source(source: str | os.PathLike[str], every: int | None = None) -> Source:
    """Open the source at a path, whose suffix says what it is.

    Args:
        source: A folder; a ``.txt`` with a path a line; a ``.csv`` or ``.parquet`` with a column ``path``
            or ``image``; or a video. Paths in a file are relative to the folder that it is stored in.
        every: Of a video, every n-th frame; None takes each.

    Raises:
        InputError: There is no such file, its kind is unknown, or ``every`` is not a positive integer
            or given for something else than a video.
    """
    path = Path(source)
    require_possible(path)
    suffix = path.suffix.lower()
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise InputError(f"every must be a positive integer, got {shown(every)}")
    if every is not None and (path.is_dir() or suffix not in VIDEO_SUFFIXES):
        raise InputError(
            f"every={every} is for a video, and {shown(str(path))} is not one: leave it out"
        )
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise InputError(f"{shown(str(path))} does not exist: check the path")
    if suffix in VIDEO_SUFFIXES:
        return _Video(path, every or 1)
    if suffix == ".txt":
        return _Listed(path, _lines)
    if suffix not in (".csv", ".parquet"):
        raise InputError(
            f"{shown(str(path))} is neither a folder nor a list (.txt), a table (.csv, .parquet) or a video "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), by its suffix"
        )
    if suffix == ".parquet":
        optional_library("pyarrow.parquet", str(path))
    return _Listed(path, read_paths)


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.identity = {"path": str(path.resolve())}
        self.left_out: dict[str, int] = {}

    def count(self) -> int:
        found = FolderImages(self._path)
        number = sum(1 for _ in found)
        self.left_out = dict(sorted(found.left_out.items()))
        return number

    def images(self) -> Iterator[SourceImage]:
        for name in FolderImages(self._path):
            yield SourceImage(name, os.path.join(self._path, name))  # noqa: PTH118 - a million


class _Listed:
    """Names in a file."""

    def __init__(self, path: Path, names: Callable[[Path], Iterator[str]]) -> None:
        self._path, self._names = path, names
        self.identity = {"path": str(path.resolve())}
        self.left_out: dict[str, int] = {}

    def count(self) -> int:
        return sum(1 for _ in self._names(self._path))

    def images(self) -> Iterator[SourceImage]:
        for name in self._names(self._path):
            yield SourceImage(name, os.path.join(self._path.parent, name))  # noqa: PTH118 - a million


def _lines(path: Path) -> Iterator[str]:
    """Yield a name a line; names of files may not be UTF-8, and are kept as they are."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if name := line.strip("\r\n"):
                    yield name
    except OSError as error:
        raise InputError(
            f"{shown(str(path))} cannot be read: {error.strerror}"
        ) from shortened_path(error)


class _Video:
    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self.identity = {"path": str(path.resolve()), "every": every}
        self.left_out: dict[str, int] = {}

    def count(self) -> int:
        import cv2

        capture = self._open()
        try:
            return -(-max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) // self._every)
        finally:
            capture.release()

    def images(self) -> Iterator[SourceImage]:
        import cv2

        capture = self._open()
        try:
            number = 0
            while capture.grab():
                if number % self._every == 0:
                    _, frame = capture.retrieve()
                    pixels = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                    yield SourceImage(f"frame {number}", pixels)
                number += 1
        finally:
            capture.release()

    def _open(self) -> Any:
        import cv2

        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise InputError(f"{shown(str(self._path))} cannot be opened as a video by OpenCV")
        return capture
