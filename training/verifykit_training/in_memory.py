"""Data of a Python program as image files: arrays, torch datasets and Hugging Face datasets.

Training, evaluation, export and a resumed run read files, so that all of them see the same images. Data in
memory are therefore written once, without loss, as PNG files with a CSV next to them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage

from verifykit._files import atomic_write
from verifykit.errors import VerifyKitError, shortened, shown
from verifykit.image import load_image
from verifykit.types import Image
from verifykit_training.arrays import is_subject
from verifykit_training.errors import DataError, first_line

LIST = "images.csv"

_IMAGE_COLUMNS = ("image", "img", "pixel_values")
_LABEL_COLUMNS = ("label", "labels", "subject", "identity", "fine_label", "target")
_CHANNELS = (1, 3)


def write_images(dataset: Any, folder: Path, columns: tuple[str, str] | None = None) -> Path:
    """Write the images of a dataset as PNG files; return the CSV ``path,subject`` that lists them.

    Raises:
        DataError: Not a dataset of (image, label), or without two items.
        OSError: The folder cannot be written.
    """
    found, names = _items(dataset, columns)
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "subject"))
    for number, (image, label) in enumerate(found):
        name = f"{number:07}.png"
        pixels = _pixels(image, number)
        buffer = io.BytesIO()
        PilImage.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        atomic_write(folder / name, buffer.getvalue(), durable=False)
        writer.writerow((name, _subject(label, names, number)))
    atomic_write(folder / LIST, text.getvalue())
    return folder / LIST


def _items(
    dataset: Any, columns: tuple[str, str] | None
) -> tuple[Iterator[tuple[Any, Any]], list[str] | None]:
    """Return (image, label) of each item, and the classes' names if the dataset has them."""
    if isinstance(dataset, Mapping):
        raise DataError(
            f"a mapping with {', '.join(shown(key) for key in list(dataset)[:4])} is given: give one of its "
            'parts, as in dataset["train"]'
        )
    if isinstance(dataset, tuple):
        if len(dataset) != 2:
            raise DataError(f"a tuple is (images, labels), got {len(dataset)} items")
        images, labels = dataset
        if len(images) != len(labels):
            raise DataError(f"there are {len(images)} images and {len(labels)} labels")
        return zip(images, labels, strict=True), None
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{type(dataset).__name__} is not a dataset with a length and items by number: give a path, "
            "(images, labels), a map-style torch dataset or a Hugging Face dataset"
        )
    if not len(dataset):
        raise DataError("the dataset has no images")
    if not isinstance(_item(dataset, 0), Mapping):
        names = getattr(dataset, "classes", None)
        return _pairs(dataset), list(names) if names is not None else None
    image, label = columns or _columns(_item(dataset, 0))
    features = getattr(dataset, "features", None) or {}
    names = getattr(features.get(label), "names", None)
    return _cells(dataset, image, label), list(names) if names else None


def _pairs(dataset: Any) -> Iterator[tuple[Any, Any]]:
    for number in range(len(dataset)):
        item = _item(dataset, number)
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise DataError(
                f"item {number} of the dataset is of type {type(item).__name__}: (image, label) is required"
            )
        yield item[0], item[1]


def _cells(dataset: Any, image: str, label: str) -> Iterator[tuple[Any, Any]]:
    for number in range(len(dataset)):
        item = _item(dataset, number)
        for column in (image, label):
            if column not in item:
                raise DataError(
                    f"item {number} of the dataset has no {shown(column)}, it has {_listed(item)}"
                )
        yield item[image], item[label]


def _item(dataset: Any, number: int) -> Any:
    try:
        return dataset[number]
    except Exception as error:  # whatever the dataset raises
        raise DataError(
            f"item {number} of the dataset cannot be read: {type(error).__name__}: "
            f"{shortened(first_line(error))}"
        ) from error


def _columns(item: Mapping[str, Any]) -> tuple[str, str]:
    image = next((name for name in _IMAGE_COLUMNS if name in item), None)
    label = next((name for name in _LABEL_COLUMNS if name in item), None)
    if image is None or label is None:
        raise DataError(
            f"which columns are image and subject is not clear from {_listed(item)}: give "
            'columns=("IMAGE", "SUBJECT")'
        )
    return image, label


def _listed(item: Mapping[str, Any]) -> str:
    return ", ".join(shown(str(key)) for key in list(item)[:8])


def _subject(label: Any, names: list[str] | None, number: int) -> str:
    if isinstance(label, (torch.Tensor, np.ndarray, np.generic)):
        if np.ndim(label):
            raise DataError(
                f"label {number} has shape {tuple(label.shape)}: one number or text is required"
            )
        label = label.item()
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, int) and names is not None and 0 <= label < len(names):
        label = str(names[label])
    if not isinstance(label, (int, str)) or not is_subject(str(label)):
        raise DataError(
            f"label {number} is {shown(str(label))}: a whole number or a text is required, without spaces "
            "around it and without control characters"
        )
    return str(label)


def _pixels(image: Any, number: int) -> Image:
    is_tensor = isinstance(image, torch.Tensor)
    if is_tensor:
        image = image.detach().cpu().numpy()
    try:
        if isinstance(image, np.ndarray):
            image = _channels_last(_bytes(image, number), prefers_first=is_tensor)
        return load_image(image)
    except DataError:
        raise
    except VerifyKitError as error:
        raise DataError(f"image {number}: {error}") from error


def _bytes(image: NDArray[Any], number: int) -> NDArray[Any]:
    """Return floats of 0 to 1 as uint8, which is exact for what torchvision's ToTensor made of uint8."""
    if image.dtype.kind != "f":
        return image
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if not (low >= 0.0 and high <= 1.0):
        raise DataError(
            f"image {number} has floats from {low:.3g} to {high:.3g}: give uint8, or floats from 0 to 1 "
            "that are not normalised; the encoder's input statistics are applied later"
        )
    return np.rint(image * 255.0).astype(np.uint8)


def _channels_last(image: NDArray[Any], *, prefers_first: bool) -> NDArray[Any]:
    if image.ndim != 3:
        return image
    is_first, is_last = image.shape[0] in _CHANNELS, image.shape[2] in _CHANNELS
    if is_first and (prefers_first or not is_last):
        image = image.transpose(1, 2, 0)
    return np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)
