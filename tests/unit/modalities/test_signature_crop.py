"""Ink of scans and photographs, and the crop that is made of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.drawn import Writer
from demo.photographed import photographed, transparent
from verifykit.errors import ImageError, ModelContractError
from verifykit.image import load_image
from verifykit.modalities import crop
from verifykit.modalities.signature.ink import find_ink
from verifykit.spec import SignatureCrop
from verifykit.types import Image

SPEC = SignatureCrop(96, 288)
SIGNED = [Writer(seed).genuine(0) for seed in range(8)]


def _with_margin(image: Image, px: int = 60) -> Image:
    return cv2.copyMakeBorder(image, px, px, px, px, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _overlap(first: Image, second: Image) -> float:
    """Return the intersection over union of the ink of two crops, tolerating one pixel."""
    a, b = first[:, :, 0] > 100, second[:, :, 0] > 100
    wide = [cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0 for mask in (a, b)]
    return float(((a & wide[1]).sum() + (b & wide[0]).sum()) / (a.sum() + b.sum()))


def test_the_centroid_is_in_the_middle_and_all_ink_inside() -> None:
    for image in SIGNED:
        cut = crop(image, SPEC)
        assert cut.shape == (96, 288, 3)
        assert (cut[:, :, 0] == cut[:, :, 1]).all()
        weights = (cut[:, :, 0] > 100).astype(float)
        rows, columns = np.indices(weights.shape)
        assert (weights * columns).sum() / weights.sum() == pytest.approx(143.5, abs=1.5)
        assert (weights * rows).sum() / weights.sum() == pytest.approx(47.5, abs=1.5)
        assert not cut[[0, -1]].any()
        assert not cut[:, [0, -1]].any()
        # As large as it fits: it comes near the rim on one of the two sides that are farthest.
        reach = [
            np.abs(np.nonzero(weights)[i] - middle).max() for i, middle in ((0, 47.5), (1, 143.5))
        ]
        assert reach[0] > 40 or reach[1] > 136


def test_paper_is_exactly_zero_and_a_quarter_of_the_ink_is_full() -> None:
    grey = photographed(SIGNED[0], seed=1, tint=(235, 228, 210), noise=3.0)
    ink = find_ink(grey, SPEC)
    assert not ink.darkness[~ink.mask].any()
    assert 0.15 < (ink.darkness[ink.mask] == 255).mean() < 0.5


def test_a_bilevel_scan_keeps_its_ink() -> None:
    """Otsu's level of a bilevel image is the value of the paper or of the ink itself."""
    for image in SIGNED:
        scan = np.where(image < 128, 0, 255).astype(np.uint8)
        found, inked = find_ink(scan, SPEC).mask, scan[:, :, 0] == 0
        assert not (found & ~inked).any()
        # What thresholding broke off a fading stroke is a speck.
        assert (inked & ~found).sum() < 0.01 * inked.sum()


def test_specks_far_away_do_not_stretch_the_box() -> None:
    clean = _with_margin(SIGNED[1], 100)
    dirty = clean.copy()
    random = np.random.default_rng(3)
    for row, column in random.integers(5, 90, (14, 2)):
        dirty[row : row + 2, column : column + 2] = 40
    assert find_ink(dirty, SPEC).box_px == find_ink(clean, SPEC).box_px
    assert np.array_equal(crop(dirty, SPEC), crop(clean, SPEC))


def test_a_scanner_line_along_the_border_is_not_ink() -> None:
    clean = _with_margin(SIGNED[2])
    lined = clean.copy()
    lined[20:-20, 3] = 0
    lined[4, 40:-40] = 0
    assert find_ink(lined, SPEC).box_px == find_ink(clean, SPEC).box_px


def test_a_stroke_that_reaches_the_border_is_kept() -> None:
    rows = np.nonzero(SIGNED[3][:, :, 0] < 128)[0]
    cut = SIGNED[3][rows.min() + 6 :]
    ink = find_ink(cut, SPEC)
    assert ink.cut_share > 0
    assert ink.mask.sum() > 0.9 * (cut[:, :, 0] < 100).sum()


PAPERS: dict[str, dict[str, Any]] = {
    "tinted": {"tint": (240, 222, 180)},
    "uneven light": {"gradient": 0.5, "shadow": 0.4},
    "blue ink": {"ink": (30, 50, 170)},
    "red ink": {"ink": (190, 40, 40)},
    "green ink": {"ink": (20, 120, 50)},
    "noise": {"noise": 5.0},
    "JPEG quality 30": {"jpeg_quality": 30},
    "a table at two sides": {"paper_edge": ("left", "bottom"), "gradient": 0.3},
    "ruled": {"ruled_px": 44, "noise": 2.0},
    "all of it": {
        "tint": (245, 235, 210),
        "gradient": 0.4,
        "shadow": 0.3,
        "ink": (25, 45, 150),
        "noise": 4.0,
        "jpeg_quality": 60,
        "paper_edge": ("right",),
    },
}


@pytest.mark.parametrize("paper", PAPERS)
def test_a_photograph_gives_the_crop_of_the_scan(paper: str) -> None:
    overlaps = []
    for seed, image in enumerate(SIGNED):
        page = _with_margin(image)
        photo = photographed(page, seed=seed, **PAPERS[paper])
        overlaps.append(_overlap(crop(page, SPEC), crop(photo, SPEC)))
    assert np.median(overlaps) > 0.9, overlaps
    assert min(overlaps) > 0.6, overlaps


def test_strokes_that_cross_a_ruled_line_are_kept() -> None:
    page = _with_margin(SIGNED[4])
    ruled = photographed(page, seed=1, ruled_px=44)
    inked = find_ink(page, SPEC).mask
    kept = find_ink(ruled, SPEC).mask
    assert (kept & inked).sum() > 0.97 * inked.sum()
    assert (kept & ~cv2.dilate(inked.astype(np.uint8), np.ones((5, 5))).astype(bool)).sum() < 50


def test_a_straight_flourish_is_ink_however_long() -> None:
    page = np.full((200, 500, 3), 255, np.uint8)
    cv2.putText(page, "Signed", (120, 90), cv2.FONT_HERSHEY_SCRIPT_COMPLEX, 2, (0, 0, 0), 3)
    cv2.line(page, (0, 150), (499, 135), (0, 0, 0), 3, cv2.LINE_AA)
    left, _, right, bottom = find_ink(page, SPEC).box_px or (0, 0, 0, 0)
    assert right - left > 490
    assert bottom > 148


def test_a_transparent_background_is_paper(tmp_path: Any) -> None:
    rgba = transparent(SIGNED[5])
    path = tmp_path / "pad.png"
    cv2.imwrite(str(path), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    assert _overlap(crop(load_image(path), SPEC), crop(SIGNED[5], SPEC)) > 0.97


def test_sixteen_bits_are_read(tmp_path: Any) -> None:
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), SIGNED[6].astype(np.uint16)[:, :, ::-1] * 257)
    assert np.array_equal(crop(load_image(path), SPEC), crop(SIGNED[6], SPEC))


@pytest.mark.parametrize("factor", [0.5, 1.5, 3.0, 8.0])
def test_the_crop_does_not_depend_on_the_size_of_the_image(factor: float) -> None:
    for image in SIGNED[:4]:
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        other = cv2.resize(image, size, interpolation=mode)
        assert _overlap(crop(other, SPEC), crop(image, SPEC)) > 0.9


def test_without_ink_the_crop_is_empty() -> None:
    ink = find_ink(np.full((50, 80, 3), 200, np.uint8), SPEC)
    assert ink.box_px is None
    assert not crop(np.full((50, 80, 3), 200, np.uint8), SPEC).any()


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 90),
    width=st.integers(1, 120),
    levels=st.sampled_from([1, 2, 3, 256]),
    dark=st.floats(0.0, 1.0),
)
def test_any_image_gives_a_crop(
    seed: int, height: int, width: int, levels: int, dark: float
) -> None:
    random = np.random.default_rng(seed)
    image = random.choice(random.integers(0, 256, levels), (height, width, 3)).astype(np.uint8)
    image[random.random((height, width)) >= dark] = 255
    cut = crop(image, SPEC)
    assert cut.shape == (96, 288, 3)
    assert cut.dtype == np.uint8


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ImageError):
        find_ink(np.zeros((4, 4), np.uint8), SPEC)


@pytest.mark.parametrize(
    "changed",
    [
        {"height_px": 0},
        {"working_side_px": -1},
        {"box_level": 0.0},
        {"margin_share": 0.5},
        {"min_contrast": 300.0},
    ],
)
def test_parameters_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ModelContractError):
        SignatureCrop(**{"height_px": 96, "width_px": 288, **changed})
