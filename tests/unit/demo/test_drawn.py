"""Drawn signatures: reproducible, similar for one writer, and different between writers."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from demo.drawn import Image, Writer
from demo.photographed import photographed, transparent

WRITERS = range(10)
NUMBERS = range(3)
FORGERS = (1, 2, 3)


@cache
def genuine(seed: int, number: int = 0) -> Image:
    return Writer(seed).genuine(number)


@cache
def forgery(seed: int, forger: int, number: int = 0) -> Image:
    return Writer(seed).forgery(number, forger)


class InkDistance:
    """Centred ink of an image, and the distance of every pixel from it."""

    def __init__(self, image: Image) -> None:
        y, x = np.nonzero(image[:, :, 0] < 128)
        self.ink = np.rint(y - y.mean()).astype(int) + 250, np.rint(x - x.mean()).astype(int) + 450
        background = np.ones((500, 900), np.uint8)
        background[self.ink] = 0
        self.distance = cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def chamfer(one: InkDistance, other: InkDistance) -> float:
    """Return the mean distance in pixels between the ink of two images."""
    return float(one.distance[other.ink].mean() + other.distance[one.ink].mean()) / 2


def _all() -> list[Image]:
    return [
        *(genuine(*pair) for pair in itertools.product(WRITERS, NUMBERS)),
        *(forgery(*pair) for pair in itertools.product(WRITERS, FORGERS)),
    ]


def test_a_seed_draws_the_same_in_any_order() -> None:
    writer = Writer(3)
    images = [writer.genuine(number) for number in (2, 1, 0)][::-1]
    for number, image in enumerate(images):
        np.testing.assert_array_equal(image, Writer(3).genuine(number))
    np.testing.assert_array_equal(writer.forgery(1, 7), Writer(3).forgery(1, 7))


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    Writer(3).forgery(1, 7)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_no_two_images_are_equal() -> None:
    images = [*_all(), forgery(0, 1, 1)]
    assert len({(image.shape, image.tobytes()) for image in images}) == len(images)
    assert len({image.shape for image in images}) > len(images) // 2


def test_images_are_rgb_of_a_common_size_with_dark_ink_off_the_border() -> None:
    for image in _all():
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert 90 <= image.shape[0] <= 330
        assert 200 <= image.shape[1] <= 650
        inside = image[5:-5, 5:-5]
        assert image.sum(dtype=np.int64) - inside.sum(dtype=np.int64) == 255 * (
            image.size - inside.size
        )
        assert image.min() < 64


def test_the_background_is_exactly_white_and_the_ink_is_anti_aliased() -> None:
    for image in _all():
        assert (image == 255).mean() > 0.85
        steps = np.unique(image)
        assert len(steps) > 8


def test_a_writer_is_nearer_to_itself_than_to_forgeries_and_to_those_than_to_others() -> None:
    mated, skilled, random = [], [], []
    writers = [[InkDistance(genuine(seed, number)) for number in NUMBERS] for seed in WRITERS]
    for seed, own in zip(WRITERS, writers, strict=True):
        others = [writer[0] for writer in writers if writer is not own]
        copies = [InkDistance(forgery(seed, forger)) for forger in FORGERS]
        mated.append(np.median([chamfer(*pair) for pair in itertools.combinations(own, 2)]))
        skilled.append(np.median([chamfer(*pair) for pair in itertools.product(own, copies)]))
        random.append(np.median([chamfer(own[0], other) for other in others]))
    assert 1.25 * np.median(mated) < np.median(skilled) < 0.75 * np.median(random)
    assert np.mean(np.less(mated, skilled)) >= 0.9
    assert np.mean(np.less(skilled, random)) >= 0.9


def test_forgeries_of_a_forger_are_similar() -> None:
    same, other = [], []
    for seed in WRITERS:
        first = InkDistance(forgery(seed, 1, 0))
        same.append(chamfer(first, InkDistance(forgery(seed, 1, 1))))
        other.append(chamfer(first, InkDistance(forgery(seed, 2, 1))))
    assert np.median(same) < 0.8 * np.median(other)


def test_forgeries_have_tremor_and_even_width() -> None:
    own = [[measure(genuine(seed, n)) for n in NUMBERS] for seed in WRITERS]
    copied = [[measure(forgery(seed, f)) for f in FORGERS] for seed in WRITERS]
    wobble, spread = np.moveaxis(np.median(copied, axis=1) / np.median(own, axis=1), -1, 0)
    assert (wobble > 1.1).mean() >= 0.9
    assert (spread < 0.9).mean() >= 0.9


def measure(image: Image) -> tuple[float, float]:
    """Return the median distance of the outline from its smoothed course, and the spread of the width."""
    large = cv2.resize(image[:, :, 0], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    ink = (large < 128).astype(np.uint8)
    outlines, _ = cv2.findContours(ink, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    residuals = []
    for outline in outlines:
        if len(outline) > 400:
            course = np.concatenate([outline[-100:], outline, outline[:100]]).astype(float)
            fine, coarse = (cv2.GaussianBlur(course, (0, 0), 0.01, sigmaY=s) for s in (4.0, 20.0))
            residuals.append(np.linalg.norm(fine - coarse, axis=2)[100:-100])
    depth = cv2.distanceTransform(ink, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ridge = depth[(depth > 1.5) & (depth == cv2.dilate(depth, np.ones((3, 3))))]
    low, middle, high = np.percentile(ridge, (10, 50, 90))
    return float(np.median(np.concatenate(residuals))), float((high - low) / middle)


@pytest.mark.parametrize("arguments", [(-1,), (0, -1)])
def test_negative_numbers_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        genuine(*arguments)


def test_without_a_flaw_the_photo_is_the_scan() -> None:
    image = genuine(4)
    np.testing.assert_array_equal(photographed(image, seed=9), image)


def test_a_photo_depends_on_its_seed_only() -> None:
    flaws: dict[str, Any] = {
        "ink": (30, 50, 150),
        "tint": (245, 238, 220),
        "ruled_px": 30,
        "paper_edge": ("left", "bottom"),
        "rotation_deg": 4.0,
        "gradient": 0.4,
        "shadow": 0.3,
        "blur_px": 0.8,
        "noise": 4.0,
        "jpeg_quality": 60,
    }
    photo = photographed(genuine(4), seed=1, **flaws)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, photographed(genuine(4), seed=1, **flaws))
    assert not np.array_equal(photo, photographed(genuine(4), seed=2, **flaws))


def test_ink_and_tint_set_the_colors() -> None:
    image = genuine(4)
    photo = photographed(image, ink=(20, 40, 160), tint=(240, 230, 200))
    darkest = np.unravel_index(image[:, :, 0].argmin(), image.shape[:2])
    np.testing.assert_array_equal(photo[darkest], (20, 40, 160))
    np.testing.assert_array_equal(photo[0, 0], (240, 230, 200))
    only_paper = photographed(image, tint=(240, 230, 200))
    np.testing.assert_allclose(only_paper, image / 255.0 * (240, 230, 200), atol=0.51)


def test_ruled_lines_are_evenly_spaced_rows_and_bluish() -> None:
    column = photographed(genuine(4), ruled_px=25)[:, 2]
    rows = np.flatnonzero((column < 255).any(axis=1))
    starts = rows[np.diff(rows, prepend=-10) > 1]
    assert len(starts) >= 4
    assert set(np.diff(starts)) == {25}
    assert (column[rows, 2] > column[rows, 0]).all()


@pytest.mark.parametrize(
    ("side", "where"),
    [
        ("left", np.s_[:, :10]),
        ("right", np.s_[:, -10:]),
        ("top", np.s_[:10]),
        ("bottom", np.s_[-10:]),
    ],
)
def test_the_table_is_visible_at_the_requested_edge(side: str, where: Any) -> None:
    image = genuine(4)
    photo = photographed(image, paper_edge=[side])
    assert photo[where].max() < 60
    added = np.subtract(photo.shape, image.shape)
    upright = side in ("left", "right")
    assert added[int(upright)] >= 15
    assert added[int(not upright)] == 0
    height, width = image.shape[:2]
    y, x = added[0] * (side == "top"), added[1] * (side == "left")
    np.testing.assert_array_equal(photo[y : y + height, x : x + width], image)


def test_an_unknown_side_is_refused() -> None:
    with pytest.raises(ValueError, match="middle"):
        photographed(genuine(4), paper_edge=("left", "middle"))


@pytest.mark.parametrize("degrees", [-7.0, 5.0])
def test_rotation_turns_the_principal_axis_anticlockwise_and_cuts_nothing(degrees: float) -> None:
    def axis_deg(image: Image) -> float:
        y, x = np.nonzero(image[:, :, 0] < 128)
        _, vectors = np.linalg.eigh(np.cov(x, -y))
        return float(np.degrees(np.arctan(vectors[1, 1] / vectors[0, 1])))

    image = genuine(1)
    photo = photographed(image, rotation_deg=degrees)
    assert axis_deg(photo) - axis_deg(image) == pytest.approx(degrees, abs=0.5)
    assert (255.0 - photo).sum() == pytest.approx((255.0 - image).sum(), rel=0.01)
    assert photo[0].min() == photo[-1].min() == photo[:, 0].min() == photo[:, -1].min() == 255


@pytest.mark.parametrize("flaw", ["gradient", "shadow"])
def test_uneven_light_darkens_one_corner_by_its_share(flaw: str) -> None:
    photo = photographed(genuine(4), seed=5, **{flaw: 0.4})
    y, x = (np.array([0, length - 8]) for length in photo.shape[:2])
    corners = [photo[a : a + 8, b : b + 8].mean() for a in y for b in x]
    assert max(corners) > 0.95 * 255
    assert min(corners) == pytest.approx(0.6 * 255, rel=0.05)
    assert photo[:, :, 0].tolist() == photo[:, :, 2].tolist()  # light is neutral


def test_blur_lowers_the_sharpness_and_keeps_the_ink() -> None:
    image = genuine(4)
    photo = photographed(image, blur_px=1.5)
    sharpness = [cv2.Laplacian(each, cv2.CV_64F).var() for each in (image, photo)]
    assert sharpness[1] < 0.2 * sharpness[0]
    assert (255.0 - photo).sum() == pytest.approx((255.0 - image).sum(), rel=0.02)


def test_noise_has_the_requested_deviation() -> None:
    image = genuine(4)
    noise = photographed(image, noise=6.0, tint=(128, 128, 128))[image == 255]
    assert noise.std() == pytest.approx(6.0, rel=0.02)
    assert noise.mean() == pytest.approx(128.0, abs=0.2)


def test_a_lower_jpeg_quality_is_further_from_the_scan() -> None:
    image = genuine(4)
    errors = [
        np.abs(photographed(image, jpeg_quality=quality) - image.astype(float)).mean()
        for quality in (90, 20)
    ]
    assert 0 < errors[0] < errors[1] < 10


def test_transparent_over_white_is_the_scan_and_pixels_without_ink_are_zero() -> None:
    image = photographed(genuine(4), ink=(20, 40, 160))
    pad = transparent(image)
    assert pad.dtype == np.uint8
    assert pad.shape == (*image.shape[:2], 4)
    alpha = pad[:, :, 3:] / 255.0
    np.testing.assert_allclose(alpha * pad[:, :, :3] + (1.0 - alpha) * 255.0, image, atol=1.5)
    assert not pad[(image == 255).all(axis=2)].any()
    assert pad[:, :, 3].max() == 255
