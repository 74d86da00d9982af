from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.helpers.model_specs import FACE_CROP
from verifykit.errors import ImageError
from verifykit.image import load_image
from verifykit.modalities import crop, golden_image
from verifykit.spec import PlainCrop
from verifykit_export.face import SFACE
from verifykit_export.foreign import import_encoder

# Eyes, nose and mouth corners of the portrait at 290x230 px, by eye.
LANDMARKS_PX = [(91.0, 118.0), (139.0, 116.0), (115.0, 146.0), (95.0, 170.0), (136.0, 169.0)]


def test_five_point_agrees_with_opencv_align_crop(
    portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    """cv2.FaceRecognizerSF.alignCrop is the reference; it reads landmarks from a detection row."""
    # alignCrop runs no network; every OpenCV from 4.10 on reads the imported one, not the carrier's.
    network = tmp_path / "sface.onnx"
    onnx.save(import_encoder(onnx.load_model_from_string(SFACE.read()), "sface"), network)
    reference = cv2.FaceRecognizerSF.create(str(network), "")
    image = cv2.resize(load_image(portraits["person_a_1"]), (230, 290))
    row = np.array([0, 0, 10, 10, *np.ravel(LANDMARKS_PX), 1.0], np.float32)[None]
    expected = reference.alignCrop(image, row)
    ours = crop(image, FACE_CROP, landmarks_px=LANDMARKS_PX)
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 2


def test_five_point_without_landmarks_is_an_error() -> None:
    with pytest.raises(ValueError, match="run the detector"):
        crop(golden_image(50, 50), FACE_CROP)


def test_plain_stretch_fills_the_crop() -> None:
    image = golden_image(60, 90)
    done = crop(image, PlainCrop(30, 30, "stretch"))
    assert done.shape == (30, 30, 3)
    assert np.array_equal(done, cv2.resize(image, (30, 30), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (10, 10), (1, 300), (30, 31)])
def test_plain_cover_keeps_the_centre(height: int, width: int) -> None:
    done = crop(golden_image(height, width), PlainCrop(30, 30, "cover"))
    assert done.shape == (30, 30, 3)
    if (height, width) == (60, 90):
        inside = golden_image(60, 90)[:, 15:75]
        assert np.array_equal(done, cv2.resize(inside, (30, 30), interpolation=cv2.INTER_AREA))


def test_an_image_of_the_right_size_is_kept() -> None:
    image = golden_image(30, 30)
    assert np.array_equal(crop(image, PlainCrop(30, 30, "cover")), image)


@pytest.mark.parametrize("shape", [(30, 30), (30, 30, 4), (0, 30, 3)])
def test_crop_refuses_other_arrays(shape: tuple[int, ...]) -> None:
    for spec in (PlainCrop(8, 8, "stretch"), FACE_CROP):
        with pytest.raises(ImageError):
            crop(np.zeros(shape, np.uint8), spec, landmarks_px=LANDMARKS_PX)
