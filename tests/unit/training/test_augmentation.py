"""Augmentation: presets, strictness, and that a seed decides everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.training.drawing import drawn
from verifykit_training.augmentation import PRESETS, Augmentation, resolve_augmentation
from verifykit_training.config import AugmentationConfig
from verifykit_training.errors import ConfigError

CROPS = [drawn(subject, 0) for subject in range(6)]


def _augmentation(*transforms: dict[str, Any], preset: Any = "none") -> Augmentation:
    return Augmentation(AugmentationConfig(preset=preset, transforms=list(transforms)))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_decides_everything(preset: str) -> None:
    augmentation = _augmentation(preset=preset)
    first, other = augmentation(CROPS, 1), augmentation(CROPS, 2)
    again = _augmentation(preset=preset)(CROPS, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    changed = any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert changed is (preset != "none")
    assert all(
        a.shape == b.shape and a.dtype == np.uint8 for a, b in zip(first, CROPS, strict=True)
    )


def test_a_batch_is_not_changed_in_one_way_throughout() -> None:
    same = [CROPS[0]] * 12
    changed = _augmentation(preset="face")(same, 3)
    assert len({crop.tobytes() for crop in changed}) > 6


def test_signatures_are_never_mirrored() -> None:
    assert not [t for t in PRESETS["signature"] if "Flip" in t["transform"]]


def test_a_preset_is_written_out() -> None:
    extra = {"transform": "ToGray", "p": 1.0}
    resolved = resolve_augmentation(AugmentationConfig(preset="face", transforms=[extra]))
    assert resolved == AugmentationConfig(transforms=[*PRESETS["face"], extra])


def test_a_further_transform_is_applied() -> None:
    grey = _augmentation({"transform": "ToGray", "p": 1.0})(CROPS, 0)
    assert all((crop[..., 0] == crop[..., 1]).all() for crop in grey)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"transform": "HorizontalFlp"}, "did you mean 'HorizontalFlip'"),
        ({"transform": "Affine", "rotat": 3}, "Affine takes no 'rotat': did you mean 'rotate'"),
        ({"transform": "GaussianBlur", "p": 7}, "GaussianBlur: "),
        ({"p": 0.5}, "no transform of albumentations is named None"),
    ],
)
def test_what_albumentations_does_not_know_is_an_error(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _augmentation(table)


def test_the_size_of_a_crop_must_stay() -> None:
    shrunk = _augmentation({"transform": "Resize", "height": 8, "width": 8})
    with pytest.raises(ConfigError, match="size and type must stay"):
        shrunk(CROPS, 0)
