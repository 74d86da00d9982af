"""A folder with a folder of images for each subject."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from verifykit.batch import IMAGE_SUFFIXES, find_images
from verifykit.errors import InputError
from verifykit.evaluation.records import EvaluationImage

__all__ = ["read_folder"]


def read_folder(folder: Path) -> tuple[EvaluationImage, ...]:
    """Images below a folder, their subjects named by its first-level folders.

    Images may lie deeper than the subject's own folder. Files without an image's ending are left out,
    and so is what is hidden (a name that begins with a dot).

    Args:
        folder: The folder.

    Returns:
        At least one image, in the order of their paths.

    Raises:
        InputError: No images, images beside the subjects' folders, a link to a folder, or a folder that
            cannot be read.
    """
    images = []
    for name in find_images(folder):
        parts = name.split("/")
        if _is_hidden(parts):
            continue
        if len(parts) == 1:
            raise InputError(
                f"{str(folder)!r} holds the image {name!r} itself, so nothing says whose it is: a "
                "folder for each subject is wanted, with the subject's images in it"
            )
        images.append(EvaluationImage(folder / name, name, parts[0]))
    if link := _linked_folder(folder):
        # find_images does not follow it, and a subject would be lost without a word.
        raise InputError(
            f"{link!r} in {str(folder)!r} is a link to a folder, and links are not followed: put the "
            "folder itself there, or name the images in a CSV file path,subject"
        )
    if not images:
        raise InputError(
            f"{str(folder)!r} holds no images: a folder for each subject is wanted, with the subject's "
            "images (.jpg, .png, ...) in it"
        )
    return tuple(images)


def count_others(folder: Path) -> int:
    """Files below a folder that are no images by their ending, hidden ones aside.

    Args:
        folder: The folder.
    """
    return sum(
        not path.name.startswith(".") and path.suffix.lower() not in IMAGE_SUFFIXES
        for path in folder.rglob("*")
        if path.is_file() and not _is_hidden(path.relative_to(folder).parts)
    )


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _linked_folder(folder: Path) -> str | None:
    for parent, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if not _is_hidden([name]))
        for name in names:
            if (path := Path(parent, name)).is_symlink():
                return path.relative_to(folder).as_posix()
    return None
