"""Where the images of a run come from: a folder, a list, a table or a video.

A source is read twice, once to count and check it and once to work on it, and is never held as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from verifykit._files import require_possible
from verifykit.datasets import VIDEO_SUFFIXES, FolderImages, optional_library, read_paths
from verifykit.errors import InputError, shortened_path, shown
from verifykit.types import ImageLike

_COUNTED = frozenset({".avi", ".m4v", ".mov", ".mp4"})
"""Videos whose header has the number of frames; of others it is estimated from the duration."""

_GIVEN_UP = 1000  # frames in a row that cannot be decoded: what follows is not read
_SILENT_END_S = 0.5  # sound may go on for so long behind the last frame


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of a source.

    Attributes:
        name: What the output calls it; within a source it distinguishes one image from another.
        image: A path, or the pixels of a video's frame.
        problem: Why there are no pixels; empty for every other image.
    """

    name: str
    image: ImageLike
    problem: str = ""


class Source(Protocol):
    """Images in a fixed order.

    Attributes:
        identity: What distinguishes this source from another, JSON-ready.
        left_out: What a folder holds besides images, by reason; complete after :meth:`count`.
        left_out_names: The first names of each reason.
        notes: What else is to be known about the source, in sentences; complete after :meth:`count`.
    """

    identity: dict[str, Any]
    left_out: dict[str, int]
    left_out_names: dict[str, list[str]]
    notes: list[str]

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


@dataclass
class _Described:
    """What every source says about itself."""

    identity: dict[str, Any]
    left_out: dict[str, int] = field(default_factory=dict)
    left_out_names: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Folder(_Described):
    def __init__(self, path: Path) -> None:
        super().__init__({"path": str(path.resolve())})
        self._path = path

    def count(self) -> int:
        found = FolderImages(self._path)
        number = sum(1 for _ in found)
        self.left_out = dict(sorted(found.left_out.items()))
        self.left_out_names = dict(sorted(found.names.items()))
        return number

    def images(self) -> Iterator[SourceImage]:
        for name in FolderImages(self._path):
            yield SourceImage(name, os.path.join(self._path, name))  # noqa: PTH118 - a million


class _Listed(_Described):
    """Names in a file."""

    def __init__(self, path: Path, names: Callable[[Path], Iterator[str]]) -> None:
        super().__init__({"path": str(path.resolve())})
        self._path, self._names = path, names

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


class _Video(_Described):
    """Frames in order, up to the number in the header; those that cannot be decoded have a problem."""

    def __init__(self, path: Path, every: int) -> None:
        super().__init__({"path": str(path.resolve()), "every": every})
        self._path, self._every = path, every
        self._times: tuple[float | None, float, float] = None, 0.0, 0.0

    def count(self) -> int:
        frames = self._frame_count()
        if self._path.suffix.lower() not in _COUNTED or not frames:
            self.notes = [
                f"{self._path.name} does not state how many frames it has: it was read to its end."
            ]
        return -(-frames // self._every)

    def _frame_count(self) -> int:
        import cv2

        capture = self._open()
        try:
            return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        finally:
            capture.release()

    def images(self) -> Iterator[SourceImage]:
        import cv2

        stated = self._frame_count()
        is_exact = self._path.suffix.lower() in _COUNTED
        lost: list[int] = []
        for number, frame in self._frames(stated):
            if frame is None:
                lost.append(number)
                continue
            # Only now is it known that they were not behind the end.
            yield from self._problems(lost, "the video is damaged there")
            lost = []
            if number % self._every == 0:
                pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                yield SourceImage(f"frame {number}", np.asarray(pixels, dtype=np.uint8))
        lost = [number for number in lost if is_exact and number < stated]
        if lost:
            where = (
                f"the video states {stated} frames, and is damaged or cut short from {lost[0]} on"
            )
            yield from self._problems(lost, where)
            self._note_rest(range(lost[-1] + 1, stated))
        elif not is_exact or not stated:
            self._note_early_end()

    def _problems(self, numbers: list[int], where: str) -> Iterator[SourceImage]:
        for number in numbers:
            if number % self._every == 0:
                yield SourceImage(
                    f"frame {number}", b"", f"frame {number} cannot be decoded: {where}"
                )

    def _note_rest(self, rest: range) -> None:
        numbers = [number for number in (rest.start, rest.stop - 1) if rest]
        if numbers:
            self.left_out = {
                "lost_frames": len(range(-rest.start % self._every, len(rest), self._every))
            }
            self.left_out_names = {"lost_frames": ["frame {} to frame {}".format(*numbers)]}

    def _note_early_end(self) -> None:
        """Count what a video without a number of frames lacks of the duration that its header states."""
        end_s, stated_s, rate = self._times
        if end_s is None:
            self.left_out = {"lost_frames": max(1, -(-round(stated_s * rate) // self._every))}
            self.left_out_names = {"lost_frames": ["no frame can be decoded"]}
        elif stated_s - end_s > max(_SILENT_END_S, 2 / rate if rate else 0):
            missing = max(1, round((stated_s - end_s) * rate))
            self.left_out = {"lost_frames": -(-missing // self._every)}
            self.left_out_names = {
                "lost_frames": [
                    f"from {end_s:.1f} s to {stated_s:.1f} s (a number by the duration)"
                ]
            }

    def _frames(self, stated: int) -> Iterator[tuple[int, Any]]:
        """Yield each frame in order, None for one that cannot be decoded.

        It ends at the first of those past the stated number, or after `_GIVEN_UP` of them in a row.
        """
        import cv2

        capture = self._open()
        try:
            number = failed = 0
            rate = max(0.0, capture.get(cv2.CAP_PROP_FPS))
            end_s, stated_s = None, stated / rate if rate else 0.0
            while failed < _GIVEN_UP and (number < stated or not failed or not stated):
                frame: Any = capture.grab() or None
                if frame and number % self._every == 0:
                    frame = capture.retrieve()[1]
                failed = failed + 1 if frame is None else 0
                if not failed:
                    began_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    end_s = began_s + 1 / rate if rate else stated_s
                yield number, frame
                number += 1
            self._times = end_s, stated_s, rate
        finally:
            capture.release()

    def _open(self) -> Any:
        import cv2

        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise InputError(f"{shown(str(self._path))} cannot be opened as a video by OpenCV")
        return capture
