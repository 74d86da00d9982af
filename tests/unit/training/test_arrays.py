"""Images from arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verifykit.image import load_image
from verifykit_training.dataset import read_records
from verifykit_training.errors import DataError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("shape", [(6, 28, 28), (6, 28, 28, 1), (6, 9, 7, 3)])
def test_arrays_are_unpacked_once_without_loss(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=[0, 0, 1, 1, 12, 12])
    records = read_records(tmp_path / "a.npz")
    assert [record.subject for record in records] == ["0", "0", "1", "1", "12", "12"]
    for record, image in zip(records, images, strict=True):
        color = image if image.ndim == 3 and image.shape[2] == 3 else image.reshape(28, 28, 1)
        assert np.array_equal(
            load_image(record.path), np.broadcast_to(color, (*color.shape[:2], 3))
        )
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    assert read_records(tmp_path / "b.npz") == records


def test_any_name_of_a_subject_is_kept(tmp_path: Path) -> None:
    names = ["Anna", "Brown, Jr.", 'the "Rock"', "王小明", "می‌خواهم", "back\\slash", "a  b", "=1+1"]
    images = np.arange(len(names) * 64, dtype=np.uint16).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(tmp_path / "a.npz", images=images, labels=names)
    assert [record.subject for record in read_records(tmp_path / "a.npz")] == names


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(3)}, "holds x; required are images"),
        ({"images": np.zeros((2, 8, 8)), "labels": [0, 1]}, "holds images float64"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": [0]}, r"labels int64 \(1,\)"),
        ({"images": np.zeros((0, 8, 8), np.uint8), "labels": np.zeros(0, int)}, "holds images"),
        ({"images": np.zeros((2, 8, 8, 4), np.uint8), "labels": [0, 1]}, "holds images"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": ["a", "b "]}, "the label 'b ' is"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": ["a", ""]}, "the label '' is empty"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": ["a", "b\nc"]}, "control character"),
        ({"images": np.array([None]), "labels": [0]}, "without objects"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        read_records(tmp_path / "a.npz")


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="No such file"):
        read_records(path)
    np.savez(path, images=np.zeros((2, 8, 8), np.uint8), labels=[0, 1])
    for data in (b"", b"x" * 99, path.read_bytes()[:80]):
        path.write_bytes(data)
        with pytest.raises(DataError, match="is not an"):
            read_records(path)
