from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.model_specs import FACE_INPUT
from verifykit.errors import ImageError
from verifykit.modalities import golden_image, to_tensor
from verifykit.modalities.ops import inverse_rotation, similarity_transform, warp
from verifykit.spec import InputSpec


def _image(height: int, width: int) -> np.ndarray:
    return golden_image(height, width)


def test_to_tensor_is_the_plain_loop() -> None:
    spec = InputSpec(5, 4, "bgr", 1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    crops = [_image(5, 4), _image(5, 4)[::-1]]
    tensor = to_tensor(crops, spec)
    assert tensor.dtype == np.float32
    assert tensor.shape == (2, 3, 5, 4)
    assert tensor.flags.c_contiguous
    for n, crop in enumerate(crops):
        for c in range(3):
            for y in range(5):
                for x in range(4):
                    expected = (crop[y, x, 2 - c] / 255 - spec.mean[c]) / spec.std[c]
                    assert tensor[n, c, y, x] == pytest.approx(expected, abs=1e-6)


def test_rgb_without_scaling_keeps_the_values() -> None:
    crop = _image(112, 112)
    assert np.array_equal(to_tensor([crop], FACE_INPUT)[0], crop.transpose(2, 0, 1))


def test_grey_is_opencv_luma() -> None:
    crop = _image(40, 30)
    tensor = to_tensor([crop], InputSpec(40, 30, "grey", 1.0, (0.0,), (1.0,)))
    assert np.abs(tensor[0, 0] - cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)).max() <= 0.51


def test_no_crops_give_an_empty_batch() -> None:
    assert to_tensor([], FACE_INPUT).shape == (0, 3, 112, 112)


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((112, 112), np.uint8),
        np.zeros((112, 112, 4), np.uint8),
        np.zeros((112, 112, 3), np.float32),
        np.zeros((96, 112, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
)
def test_anything_but_a_crop_is_refused(crop: np.ndarray) -> None:
    with pytest.raises(ImageError):
        to_tensor([crop], FACE_INPUT)


@given(
    angle=st.floats(-math.pi, math.pi),
    scale=st.floats(0.05, 20.0),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_similarity_transform_recovers_the_one_applied(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    source = np.array([[38.0, 51], [73, 51], [56, 71], [41, 92], [70, 92]])
    linear = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    matrix = similarity_transform(source, source @ linear.T + shift)
    assert np.allclose(matrix, np.column_stack([linear, shift]), atol=1e-7)


def test_similarity_transform_agrees_with_opencv_on_noisy_points() -> None:
    rng = np.random.default_rng(7)
    source = rng.uniform(0, 200, (5, 2))
    target = source * 0.7 + rng.normal(0, 0.5, (5, 2)) + 11
    matrix = similarity_transform(source, target)
    # Without outliers OpenCV's robust estimate refines to the same least squares.
    other, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=50)
    assert inliers.all()
    assert np.allclose(matrix, other, atol=1e-3)


def test_similarity_transform_is_that_of_the_paper() -> None:
    """Umeyama 1991, equations 40 to 43, with the singular value decomposition written out."""
    rng = np.random.default_rng(8)
    for mirror in (1.0, -1.0):
        source = rng.uniform(0, 200, (5, 2))
        target = source * [0.7 * mirror, 0.7] + rng.normal(0, 9.0, (5, 2))
        centred, aim = source - source.mean(axis=0), target - target.mean(axis=0)
        u, singular, vt = np.linalg.svd(aim.T @ centred / len(source))
        sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
        linear = (u * sign) @ vt * (singular @ sign) / (centred**2).sum(axis=1).mean()
        matrix = similarity_transform(source, target)
        assert np.allclose(matrix[:, :2], linear, atol=1e-12)
        assert np.allclose(matrix[:, 2], target.mean(axis=0) - linear @ source.mean(axis=0))


def test_the_inverse_of_a_similarity() -> None:
    matrix = similarity_transform([[0.0, 0], [4, 1], [2, 9]], [[7.0, 3], [6, 1], [1, 2]])
    assert np.allclose(inverse_rotation(matrix) @ matrix[:, :2], np.eye(2))


def test_similarity_transform_never_mirrors() -> None:
    source = np.array([[0.0, 0], [10, 0], [5, 5], [2, 9], [8, 9]])
    matrix = similarity_transform(source, source * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("points", [[[3.0, 3.0]] * 5, [[math.nan, 1.0]] * 5])
def test_similarity_transform_refuses_points_that_coincide(points: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="coincide or are not finite"):
        similarity_transform(points, [[0.0, 1]] * 5)


def test_warp_at_scale_one_is_opencv() -> None:
    image = _image(200, 180)
    matrix = np.array([[0.9, -0.1, 4.0], [0.1, 0.9, -8.0]])
    assert np.array_equal(warp(image, matrix, 112, 112), cv2.warpAffine(image, matrix, (112, 112)))


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_a_strong_reduction_does_not_alias(factor: int) -> None:
    """A fine chequerboard reduced must be its mean, wherever the sampling points fall."""
    board = (np.indices((900, 900)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    matrix = np.array([[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]])
    inside = warp(image, matrix, 100, 100)[5:-5, 5:-5].astype(float)
    assert np.abs(inside - 127.5).max() < 45 if factor % 2 else np.abs(inside - 127.5).max() < 2


def test_reduction_keeps_the_geometry() -> None:
    """The same image, four times larger and reduced four times as much, gives the same pixels."""
    small = cv2.GaussianBlur(_image(150, 150), (0, 0), 2)
    large = np.repeat(np.repeat(small, 4, axis=0), 4, axis=1)
    matrix = np.array([[0.8, 0.05, -3.0], [-0.05, 0.8, 2.0]])
    # The centre x of a pixel of the small image is at 4 x + 1.5 of the large one.
    enlarged = np.column_stack([matrix[:, :2] / 4, matrix[:, 2] - matrix[:, :2] @ [1.5, 1.5] / 4])
    difference = np.abs(
        warp(small, matrix, 96, 96).astype(int) - warp(large, enlarged, 96, 96).astype(int)
    )
    assert np.percentile(difference, 99) <= 3


def test_the_golden_image_does_not_change() -> None:
    image = golden_image(112, 112)
    assert image.shape == (112, 112, 3)
    assert image.dtype == np.uint8
    assert image[56, 56].tolist() == [198, 144, 99]
    assert int(image.astype(np.int64).sum()) == 4681416
    means = image.reshape(-1, 3).mean(axis=0)
    assert np.ptp(means) > 20


def test_mirror_is_part_of_the_input() -> None:
    assert replace(FACE_INPUT, mirror=True) != FACE_INPUT
