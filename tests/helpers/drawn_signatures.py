"""Drawn signatures as files, for commands that measure on a user's own images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2

from demo.drawn import Writer

__all__ = ["FORGED", "GENUINE", "WRITERS", "as_csv", "genuine", "write_signers"]

WRITERS, GENUINE, FORGED = 6, 4, 3


def write_signers(folder: Path) -> Path:
    """Write ``people/w0/w0_0001.png`` and so on of six writers, and ``forged/w0_0.png``."""
    for number in range(WRITERS):
        writer = Writer(number)
        for place in range(GENUINE):
            _write(folder / genuine(number, place), writer.genuine(place))
        for place in range(FORGED):
            _write(folder / f"forged/w{number}_{place}.png", writer.forgery(place, place))
    return folder


def genuine(writer: int, place: int = 0) -> str:
    """Return the path of a genuine signature."""
    return f"people/w{writer}/w{writer}_{place + 1:04d}.png"


def as_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> Path:
    """Write a CSV file of rows."""
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _write(path: Path, image: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)  # type: ignore[call-overload]  # grey either way
