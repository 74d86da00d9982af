"""Images in arrays: an ``.npz`` with ``images`` and ``labels``, unpacked once into files."""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from verifykit.errors import shortened, shortened_path, shown
from verifykit_training.errors import DataError, first_line

_FORM = "images (N, H, W) or (N, H, W, 1 or 3) uint8, labels (N,) of whole numbers or texts"


def unpack(path: Path, cache: Path) -> Path:
    """Return a table of images with the content of an ``.npz``; it is unpacked below ``cache`` once.

    The files are PNG, which loses nothing, and named by the content of the ``.npz``, so that crops and
    digests stay valid when the file is moved.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        raise DataError(f"cannot read {shortened(path)}: {reason}") from shortened_path(error)
    folder = cache / "arrays" / hashlib.sha256(data).hexdigest()[:32]
    table = folder / "images.csv"
    if not table.is_file():
        images, labels = _read(path, data)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as part:
            _write(Path(part) / "new", images, labels)
            if not folder.exists():  # another process may have been faster
                (Path(part) / "new").rename(folder)
    return table


def is_subject(name: str) -> bool:
    """Return whether a table gives a subject's name back: cells lose spaces around them."""
    has_control = any(unicodedata.category(each) in ("Cc", "Cs") for each in name)
    return bool(name) and name == name.strip() and not has_control


def _read(path: Path, data: bytes) -> tuple[NDArray[np.uint8], list[str]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if not {"images", "labels"} <= set(file.files):
                names = shortened(", ".join(file.files))
                raise DataError(
                    f"{shortened(path)} holds {names or 'nothing'}; required are {_FORM}"
                )
            images, labels = file["images"], file["labels"]
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{shortened(path)} is not an .npz of arrays without objects ({first_line(error)}); required are "
            f"{_FORM}"
        ) from error
    grey_or_color = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    right = images.dtype == np.uint8 and grey_or_color and images.size > 0
    if not right or labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{shortened(path)} holds images {images.dtype} {images.shape} and labels {labels.dtype} "
            f"{labels.shape}; required are {_FORM}"
        )
    subjects = [str(label) for label in labels.tolist()]
    if wrong := [name for name in subjects if not is_subject(name)]:
        raise DataError(
            f"{shortened(path)}: the label {shown(wrong[0])} is empty, has a space at an end, or holds a "
            "control character: give the subject's name"
        )
    return images.reshape(*images.shape[:3], -1), subjects


def _write(folder: Path, images: NDArray[np.uint8], labels: list[str]) -> None:
    folder.mkdir()
    rows = [("path", "subject")]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        done, data = cv2.imencode(".png", image if image.shape[2] == 1 else image[:, :, ::-1])
        if not done:
            raise DataError(f"image {number} of shape {image.shape} cannot be stored as PNG")
        (folder / f"{number:07}.png").write_bytes(data.tobytes())
        rows.append((f"{number:07}.png", label))
    with (folder / "images.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
