"""Changes of handwriting: one for a subject, one for an image, and nothing lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from verifykit.types import Image
from verifykit_training.augmentation import change_handwriting
from verifykit_training.config import Config, HandwritingConfig

STILL = dict.fromkeys(HandwritingConfig.model_fields, 0.0)


def _hand(**changed: float) -> HandwritingConfig:
    return HandwritingConfig(**{**STILL, **changed})


def _crop(seed: int) -> Image:
    random = np.random.default_rng(seed)
    grey = np.zeros((96, 288), np.uint8)
    points = np.stack([np.linspace(60, 220, 9), 48 + random.uniform(-25, 25, 9)], axis=1)
    cv2.polylines(grey, [points.round().astype(np.int32)], False, 255, 3, cv2.LINE_AA)
    return np.repeat(grey[:, :, None], 3, axis=2)


CROPS = [_crop(i) for i in range(6)]
SUBJECTS = [0, 0, 0, 1, 1, 1]


def _centre(crop: Image) -> NDArray[np.float64]:
    rows, columns = np.nonzero(crop[:, :, 0] > 127)
    return np.array([columns.mean(), rows.mean()])


def test_nothing_asked_for_changes_nothing() -> None:
    for before, after in zip(CROPS, change_handwriting(CROPS, SUBJECTS, _hand(), 1), strict=True):
        assert np.array_equal(before, after)


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    first, again = (change_handwriting(CROPS, SUBJECTS, HandwritingConfig(), 5) for _ in range(2))
    other = change_handwriting(CROPS, SUBJECTS, HandwritingConfig(), 6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_subject_is_changed_as_one() -> None:
    same = [CROPS[0]] * 4
    config = _hand(mirror=0.5, subject_shear=0.3, subject_stretch=0.25, subject_warp_share=0.05)
    a, b, c, d = change_handwriting(same, [0, 0, 1, 1], config, 2)
    assert np.array_equal(a, b)
    assert np.array_equal(c, d)
    assert not np.array_equal(a, c)


def test_images_of_a_subject_are_changed_apart() -> None:
    config = _hand(rotate_deg=7.0, shift_share=0.04, warp_share=0.012)
    changed = change_handwriting([CROPS[0]] * 5, [3] * 5, config, 4)
    assert len({crop.tobytes() for crop in changed}) == 5


def test_a_mirror_is_one_of_three_to_the_pixel() -> None:
    crop = CROPS[0]
    mirrors = [crop[:, ::-1], crop[::-1], crop[::-1, ::-1]]
    found = set()
    for seed in range(12):
        (changed,) = change_handwriting([crop], [0], _hand(mirror=1.0), seed)
        matching = [i for i, mirror in enumerate(mirrors) if np.array_equal(mirror, changed)]
        assert len(matching) == 1
        found.add(matching[0])
    assert found == {0, 1, 2}


def test_a_rotation_turns_about_the_middle() -> None:
    turned = [
        change_handwriting([CROPS[1]], [0], _hand(subject_rotate_deg=20.0), seed)[0]
        for seed in range(8)
    ]
    middle = np.array([143.5, 47.5])
    lengths = [np.linalg.norm(_centre(crop) - middle) for crop in turned]
    assert np.allclose(lengths, np.linalg.norm(_centre(CROPS[1]) - middle), atol=0.6)


@pytest.mark.parametrize("seed", range(5))
def test_ink_stays_inside_however_much_it_grows(seed: int) -> None:
    config = _hand(subject_stretch=1.0, scale=1.0, subject_rotate_deg=45.0)
    for crop in change_handwriting(CROPS, SUBJECTS, config, seed):
        border = np.concatenate([crop[0], crop[-1], crop[:, 0], crop[:, -1]])
        # It may touch the rim: what fits is looked for on every fourth pixel.
        assert (border > 127).mean() < 0.03
        assert (crop > 127).sum() > 300


def test_strokes_grow_and_shrink() -> None:
    before = int((CROPS[0] > 127).sum())
    sizes = [
        int(
            (change_handwriting([CROPS[0]], [0], _hand(subject_stroke_px=1.0), seed)[0] > 127).sum()
        )
        for seed in range(12)
    ]
    assert min(sizes) < 0.8 * before
    assert max(sizes) > 1.3 * before


def test_an_empty_crop_stays_empty() -> None:
    empty = np.zeros((96, 288, 3), np.uint8)
    assert not change_handwriting([empty], [0], HandwritingConfig(), 0)[0].any()


def _config(**sections: object) -> Config:
    base = {
        "name": "x",
        "modality": "signature",
        "licence": "none",
        "training_data": "drawn",
        "crop": {"kind": "signature"},
        "encoder": {"name": "cnn5", "weights": "none"},
        "augmentation": {"hand": {}},
        "loss": {"name": "decision"},
        "run": {"epochs": 1},
    }
    return Config.model_validate({**base, **sections})


def test_mirrors_do_not_go_with_a_class_a_subject() -> None:
    assert _config().augmentation.hand == HandwritingConfig()
    with pytest.raises(ValidationError, match="mirror = 0"):
        _config(loss={"name": "cosface"})
    with pytest.raises(ValidationError, match="mirror = 0"):
        _config(softmax_stage={"epochs": 2})
    _config(softmax_stage={"epochs": 2}, augmentation={"hand": {"mirror": 0.0}})
    with pytest.raises(ValidationError, match='not "signature"'):
        _config(crop={"kind": "plain"})
