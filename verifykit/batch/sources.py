"""Where the images of a run come from: a folder, a list, a manifest or a video.

A source is read twice, once to count and check it and once to work on it, and is never held as a whole.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from verifykit.batch._extra import batch_library
from verifykit.datasets import walk_images
from verifykit.errors import InputError
from verifykit.types import ImageLike

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_COLUMNS = ("path", "image")


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of a source.

    Attributes:
        name: What the output calls it; within a source it tells one image from another.
        image: A path, or the pixels of a video's frame.
    """

    name: str
    image: ImageLike


class Source(Protocol):
    """Images in a fixed order.

    Attributes:
        identity: What tells this source from another, JSON-ready.
    """

    identity: dict[str, Any]

    def count(self) -> int:
        """How many images there are; for a video what its header says, which may be wrong.

        Raises:
            InputError: The source cannot be read, or a part of it names no image.
        """

    def images(self) -> Iterator[SourceImage]:
        """The images, in order, read as they are asked for.

        Raises:
            InputError: As :meth:`count`.
        """


def open_source(source: str | os.PathLike[str], every: int | None = None) -> Source:
    """The source that a path stands for, told by its ending.

    Args:
        source: A folder; a ``.txt`` with a path a line; a ``.csv`` or ``.parquet`` with a column ``path``
            or ``image``; or a video. Paths in a list are relative to the folder that it lies in.
        every: Of a video, every n-th frame; None takes each.

    Raises:
        InputError: There is no such file, it is of no known kind, or ``every`` is no positive integer or
            given for something else than a video.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise InputError(f"every is a positive integer, got {every!r}")
    if every is not None and (path.is_dir() or suffix not in VIDEO_SUFFIXES):
        raise InputError(f"every={every} is for a video, and {str(path)!r} is none: leave it out")
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist: check the path")
    if suffix in VIDEO_SUFFIXES:
        return _Video(path, every or 1)
    kinds = {".txt": _TextList, ".csv": _CsvManifest, ".parquet": _ParquetManifest}
    if suffix not in kinds:
        raise InputError(
            f"{str(path)!r} is not a folder, and its ending tells no list (.txt), manifest (.csv, "
            f".parquet) or video ({', '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return kinds[suffix](path)


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.identity = {"path": str(path.resolve())}

    def count(self) -> int:
        return sum(1 for _ in walk_images(self._path))

    def images(self) -> Iterator[SourceImage]:
        for name in walk_images(self._path):
            yield SourceImage(name, os.path.join(self._path, name))  # noqa: PTH118 - a million


class _Listed:
    """Names in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.identity = {"path": str(path.resolve())}

    def count(self) -> int:
        try:
            return sum(1 for _ in self._names())
        except OSError as error:
            raise InputError(f"{str(self._path)!r} cannot be read: {error.strerror}") from error

    def images(self) -> Iterator[SourceImage]:
        for name in self._names():
            yield SourceImage(name, os.path.join(self._path.parent, name))  # noqa: PTH118 - a million

    def _names(self) -> Iterator[str]:
        raise AssertionError

    def _column(self, names: list[str]) -> str:
        found = [name for name in _COLUMNS if name in names]
        if len(found) != 1:
            raise InputError(
                f"{str(self._path)!r}: one column named path or image is wanted, its columns are "
                f"{', '.join(names) or 'none'}"
            )
        return found[0]


class _TextList(_Listed):
    def _names(self) -> Iterator[str]:
        # Names of files may be no UTF-8, and are kept as they are.
        with self._path.open(encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if name := line.strip("\r\n"):
                    yield name


class _CsvManifest(_Listed):
    def _names(self) -> Iterator[str]:
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, strict=True)
            try:
                columns = next(rows, [])
                place = columns.index(self._column(columns))
                for row in rows:
                    if not row:
                        continue
                    if len(row) != len(columns) or not row[place]:
                        raise InputError(
                            f"{str(self._path)!r}, line {rows.line_num}: {len(columns)} cells and a "
                            f"path are wanted, got {row!r}"
                        )
                    yield row[place]
            except csv.Error as error:
                raise InputError(
                    f"{str(self._path)!r}, line {rows.line_num}: no CSV: {error}"
                ) from error


class _ParquetManifest(_Listed):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._parquet = batch_library("pyarrow.parquet", str(path))

    def _names(self) -> Iterator[str]:
        try:
            with self._parquet.ParquetFile(self._path) as file:
                column = self._column(file.schema_arrow.names)
                row = 0
                for batch in file.iter_batches(batch_size=4096, columns=[column]):
                    for name in batch.column(0).to_pylist():
                        row += 1
                        if not isinstance(name, str) or not name:
                            raise InputError(
                                f"{str(self._path)!r}, row {row}: {column} is {name!r}, a path is wanted"
                            )
                        yield name
        except (ValueError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{str(self._path)!r} is not a Parquet file: {error}") from error


class _Video:
    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self.identity = {"path": str(path.resolve()), "every": every}

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
            raise InputError(f"{str(self._path)!r} cannot be opened as a video by OpenCV")
        return capture
