"""Enrollment crops: the surroundings of the face, lossless, reduced to a maximum size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PilImage

from verifykit.enrollment import FACE_SIDE_PX, WHOLE_SIDE_PX, enrollment_crop
from verifykit.image import load_image
from verifykit.types import Detection, Image

Box = tuple[float, float, float, float]


def _noise(height: int, width: int) -> Image:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _face(*box: float) -> Detection:
    return Detection((box[0], box[1], box[2], box[3]), ((0.0, 0.0),) * 5, 1.0)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((100.0, 80.0, 40.0, 60.0), (20, 200), (60, 180)),  # its own size on each side
        ((10.0, 5.0, 40.0, 60.0), (0, 125), (0, 90)),  # clipped to the image
        ((270.0, 200.0, 50.0, 60.0), (140, 240), (220, 300)),
        ((-20.0, -30.0, 40.0, 60.0), (0, 90), (0, 60)),  # a box may reach beyond the image
        ((99.5, 79.25, 40.0, 60.0), (19, 200), (59, 180)),  # whole pixels, rather more than fewer
    ],
)
def test_a_face_is_kept_with_its_surroundings(
    box: Box, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = _noise(240, 300)
    kept = load_image(enrollment_crop(image, _face(*box)))
    assert np.array_equal(kept, image[slice(*rows), slice(*columns)])


def test_without_a_face_the_whole_image_is_kept() -> None:
    image = _noise(70, 300)
    assert np.array_equal(load_image(enrollment_crop(image, None)), image)


def test_a_large_crop_is_reduced_and_keeps_its_aspect_ratio() -> None:
    image = np.full((1000, 3000, 3), (200, 30, 90), np.uint8)
    face = load_image(enrollment_crop(image, _face(1200.0, 400.0, 500.0, 250.0)))
    assert face.shape == (FACE_SIDE_PX // 2, FACE_SIDE_PX, 3)
    whole = load_image(enrollment_crop(image, None))
    assert whole.shape == (round(WHOLE_SIDE_PX / 3), WHOLE_SIDE_PX, 3)
    assert (whole == (200, 30, 90)).all()  # and RGB


def test_a_crop_is_a_png_without_metadata() -> None:
    kept = enrollment_crop(_noise(20, 30), None)
    assert kept.startswith(b"\x89PNG\r\n\x1a\n")
    with PilImage.open(io.BytesIO(kept)) as opened:
        assert (opened.format, opened.mode, opened.info) == ("PNG", "RGB", {})
