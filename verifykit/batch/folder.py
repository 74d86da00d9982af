"""The images below a folder, told by their suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from verifykit.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "find_images", "walk_images"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)


def find_images(folder: Path) -> list[str]:
    """Images below a folder as sorted paths relative to it.

    Args:
        folder: Where to look; links to folders are not followed.

    Returns:
        Paths with ``/`` between their parts, in the order of their parts.

    Raises:
        InputError: It is not a folder, or a folder in it cannot be read.
    """
    return list(walk_images(folder))


def walk_images(folder: Path) -> Iterator[str]:
    """Like :func:`find_images`, one by one: no more than one folder's names are held at a time.

    Args:
        folder: Where to look; links to folders are not followed.

    Yields:
        Paths with ``/`` between their parts, in the order of their parts.

    Raises:
        InputError: It is not a folder, or a folder in it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder")
    yield from _walk(str(folder), "")


def _walk(folder: str, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
    except OSError as error:
        raise InputError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    for name, is_folder, is_link in found:
        if is_folder and not is_link:
            yield from _walk(os.path.join(folder, name), f"{prefix}{name}/")  # noqa: PTH118 - a million
        elif not is_folder and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
            yield prefix + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere is an image that cannot be read
        return False
