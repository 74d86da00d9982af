"""`verifykit_training.train` on arrays, torch datasets and Hugging Face datasets."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from safetensors.torch import load_file
from torch.utils.data import Dataset, TensorDataset

import verifykit_training
from tests.unit.training.drawing import draw_folder, drawn, small_config
from verifykit.image import load_image
from verifykit_training.dataset import read_records
from verifykit_training.errors import DataError, TrainingError
from verifykit_training.in_memory import write_images

SUBJECTS, IMAGES = 8, 4
PIXELS = np.stack([drawn(s, n) for s in range(SUBJECTS) for n in range(IMAGES)])
NUMBERS = np.repeat(np.arange(SUBJECTS), IMAGES)
NAMES = [f"s{number:02}" for number in range(SUBJECTS)]


class Pairs(Dataset[Any]):
    """As torchvision's: PIL images, class numbers, and the classes' names."""

    classes = NAMES

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, number: int) -> Any:
        return PilImage.fromarray(PIXELS[number]), int(NUMBERS[number])


class ClassLabel:
    names = NAMES


class HuggingFace:
    """As ``datasets.Dataset``: mappings by number, features by column."""

    features = {"label": ClassLabel(), "image": object()}  # noqa: RUF012

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, number: int) -> Any:
        return {"image": PilImage.fromarray(PIXELS[number]), "label": int(NUMBERS[number])}


def hugging_face() -> Any:
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    rows = {"image": [PilImage.fromarray(image) for image in PIXELS], "label": NUMBERS.tolist()}
    return datasets.Dataset.from_dict(rows, features=features)


def tensors() -> Any:
    """As torchvision's ToTensor gives them."""
    floats = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    return TensorDataset(floats, torch.from_numpy(NUMBERS))


@pytest.mark.parametrize(
    ("dataset", "has_names"),
    [
        ((PIXELS, [NAMES[number] for number in NUMBERS]), True),
        ((PIXELS, NUMBERS), False),
        ((list(PIXELS.astype(np.float64) / 255), NUMBERS.astype(np.float32)), False),
        (tensors(), False),
        (Pairs(), True),
        (HuggingFace(), True),
        pytest.param(
            None,
            True,
            marks=pytest.mark.skipif(not find_spec("datasets"), reason="needs datasets"),
            id="datasets",
        ),
    ],
)
def test_every_pixel_and_every_subject_arrives(
    dataset: Any, has_names: bool, tmp_path: Path
) -> None:
    listed = write_images(hugging_face() if dataset is None else dataset, tmp_path / "data")
    records = read_records(listed)
    expected = [NAMES[n] if has_names else str(n) for n in NUMBERS]
    assert [record.subject for record in records] == expected
    for record, pixels in zip(records, PIXELS, strict=True):
        assert np.array_equal(load_image(record.path), pixels)


@pytest.mark.parametrize("shape", ["hw", "hw1", "1hw"])
def test_grey_images_arrive(shape: str, tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    given = {"hw": grey, "hw1": grey[..., None], "1hw": grey[:, None]}[shape]
    records = read_records(write_images((given, NUMBERS), tmp_path / "data"))
    for record, pixels in zip(records, grey, strict=True):
        assert np.array_equal(load_image(record.path), np.repeat(pixels[..., None], 3, axis=2))


def test_named_columns_are_taken(tmp_path: Path) -> None:
    rows = [{"photo": image, "who": name} for image, name in zip(PIXELS, NUMBERS, strict=True)]
    with pytest.raises(DataError, match=r"'photo', 'who': give columns="):
        write_images(rows, tmp_path / "data")
    records = read_records(write_images(rows, tmp_path / "data", ("photo", "who")))
    assert [record.subject for record in records] == [str(number) for number in NUMBERS]
    with pytest.raises(DataError, match="has no 'whom', it has 'photo', 'who'"):
        write_images(rows, tmp_path / "data", ("photo", "whom"))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"train": [], "test": []}, r"'train', 'test' is given: give one of its parts"),
        ((PIXELS, NUMBERS[:-1]), "32 images and 31 labels"),
        ((PIXELS, NUMBERS, NUMBERS), "a tuple is"),
        (iter(()), "is not a dataset with a length"),
        ([], "has no images"),
        ([PIXELS[0]] * 4, "item 0 of the dataset is of type ndarray"),
        ((PIXELS.astype(np.float32), NUMBERS), r"floats from .* give uint8"),
        ((PIXELS.astype(np.int64), NUMBERS), "image 0: "),
        ((np.zeros((2, 4, 4, 7), np.uint8), [0, 1]), "image 0: "),
        ((PIXELS, [0.5] * len(PIXELS)), r"label 0 is '0\.5': a whole number or a text"),
        ((PIXELS, [" "] * len(PIXELS)), "label 0 is ' '"),
        ((PIXELS, ["anna "] * len(PIXELS)), "label 0 is 'anna '.*without spaces around it"),
        ((PIXELS, ["an\nna"] * len(PIXELS)), "without control characters"),
        ((PIXELS, np.zeros((len(PIXELS), 2))), r"label 0 has shape \(2,\)"),
    ],
)
def test_what_is_no_labelled_images_is_refused(dataset: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        write_images(dataset, tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_arrays_train_the_network_that_files_train(tmp_path: Path) -> None:
    body = small_config(run={"epochs": 1, "steps_per_epoch": 3}).model_dump(exclude_none=True)
    files = draw_folder(tmp_path / "people", SUBJECTS, IMAGES)
    options: dict[str, Any] = {"cache": tmp_path / "crops", "quiet": True}
    of_files = verifykit_training.train(files, body, run=tmp_path / "files", **options)
    labels = [NAMES[number] for number in NUMBERS]
    found = verifykit_training.train((PIXELS, labels), body, run=tmp_path / "arrays", **options)
    left, right = (load_file(run.folder / "weights.safetensors") for run in (of_files, found))
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert (found.epochs, found.best_epoch, found.ended) == (1, 1, True)
    assert found.metric == "eer"
    assert found.value == of_files.value
    assert (found.folder / "report" / "report.json").is_file()
    assert found.load_encoder()(torch.zeros(1, 3, 32, 32)).shape == (1, 16)

    with pytest.raises(TrainingError, match="already holds a run"):
        verifykit_training.train((PIXELS, labels), body, run=found.folder, **options)
    longer = verifykit_training.train(
        (PIXELS, labels), found.config, run=found.folder, extend=1, **options
    )
    assert longer.epochs == 2
    changed = PIXELS.copy()
    changed[0] = 0
    with pytest.raises(TrainingError, match="an image was added, removed, renamed or replaced"):
        verifykit_training.train(
            (changed, labels), longer.config, run=found.folder, extend=1, **options
        )


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        verifykit_training.fit  # noqa: B018
