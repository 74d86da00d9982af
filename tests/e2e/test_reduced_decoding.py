"""Large JPEGs are decoded at a reduced scale, and every answer is in the pixels of the whole image."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from PIL import Image as PilImage

import verifykit as vk
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import load_image, read_image
from verifykit.modalities import FoundSample, SampleCheck, checks_of

LONG_PX = 2720
LARGEST = SampleOptions("largest", "warn")


def enlarged(path: Path, long_px: int = LONG_PX) -> PilImage.Image:
    with PilImage.open(path) as opened:
        image = opened.convert("RGB")
    scale = long_px / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, PilImage.Resampling.LANCZOS)


def jpeg(image: PilImage.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90, **options)
    return data.getvalue()


@pytest.fixture(scope="module")
def large(portraits: Mapping[str, Path]) -> PilImage.Image:
    return enlarged(portraits["person_a_2"])


@pytest.fixture(scope="module")
def data(large: PilImage.Image) -> bytes:
    return jpeg(large)


def test_the_longer_side_keeps_1280_pixels(encoder: Encoder, large: PilImage.Image) -> None:
    for side_px, reduction in ((2559, 1), (2560, 2), (5119, 2), (5120, 4), (10240, 8)):
        image = large.resize((1000, side_px))
        loaded = encoder.extractor.load(jpeg(image))
        assert (loaded.reduction, loaded.size_px) == (reduction, (side_px, 1000))
        assert loaded.pixels.shape == (-(-side_px // reduction), -(-1000 // reduction), 3)
        assert (loaded.whole() is loaded) == (reduction == 1)
        assert loaded.whole().pixels.shape == (side_px, 1000, 3)


def test_only_jpegs_are_reduced(encoder: Encoder, large: PilImage.Image) -> None:
    png = io.BytesIO()
    large.save(png, "PNG", compress_level=1)
    assert encoder.extractor.load(png.getvalue()).reduction == 1
    assert encoder.extractor.load(np.asarray(large)).reduction == 1


def test_an_image_that_is_asked_for_is_whole(data: bytes, large: PilImage.Image) -> None:
    assert load_image(data).shape == (large.height, large.width, 3)


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "PIL"])
def test_boxes_landmarks_and_eye_distance_are_in_the_pixels_of_the_file(
    encoder: Encoder, data: bytes, large: PilImage.Image, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(data)
    with PilImage.open(path) as opened:
        sources: dict[str, vk.ImageLike] = {
            "path": path,
            "bytes": data,
            "file": io.BytesIO(data),
            "PIL": opened,
        }
        assert encoder.extractor.load(sources[kind]).reduction == 2
        (sample,) = encoder.extractor.samples(sources[kind], LARGEST)
    (whole,) = encoder.extractor.samples(load_image(data), LARGEST)
    assert sample.detection is not None
    assert whole.detection is not None
    assert sample.detection.box_px == pytest.approx(whole.detection.box_px, abs=8)
    np.testing.assert_allclose(sample.detection.landmarks_px, whole.detection.landmarks_px, atol=8)
    for name, value in whole.quality.items():
        assert sample.quality[name] == pytest.approx(value, rel=0.05, abs=1.5), name
    assert np.abs(sample.crop.astype(int) - whole.crop).mean() < 4
    scores = encoder.encode([sample.crop, whole.crop])
    assert float(scores[0] @ scores[1]) > 0.98


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_orientation_is_undone_on_the_reduced_image(
    encoder: Encoder, large: PilImage.Image, orientation: int
) -> None:
    exif = PilImage.Exif()
    exif[274] = orientation
    stored = large.rotate({3: 180, 6: 90, 8: 270}[orientation], expand=True)
    loaded = encoder.extractor.load(jpeg(stored, exif=exif))
    assert loaded.reduction == 2
    assert loaded.size_px == (large.height, large.width)
    upright = np.asarray(large.reduce(2), int)
    rows, columns = upright.shape[:2]
    assert np.abs(loaded.pixels[:rows, :columns].astype(int) - upright).mean() < 4


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_colors_are_those_of_the_whole_image(
    encoder: Encoder, large: PilImage.Image, mode: Literal["CMYK", "L"]
) -> None:
    stored = jpeg(large.convert(mode))
    loaded = encoder.extractor.load(stored)
    assert loaded.reduction == 2
    whole = PilImage.fromarray(load_image(stored)).reduce(2)
    rows, columns = whole.height, whole.width
    assert np.abs(loaded.pixels[:rows, :columns].astype(int) - np.asarray(whole, int)).mean() < 4


def test_a_cut_file_and_one_with_too_many_pixels_are_refused(
    encoder: Encoder, data: bytes, large: PilImage.Image
) -> None:
    for refused, why in ((data[:-2], "truncated"), (data[: len(data) // 2], "truncated")):
        with pytest.raises(vk.ImageError, match=why):
            encoder.extractor.samples(refused, LARGEST)
    limit = large.height * large.width - 1
    with pytest.raises(vk.ImageError, match="more than"):
        encoder.extractor.limited(limit).samples(data, LARGEST)


def test_an_open_pillow_image_stays_as_it_was(encoder: Encoder, data: bytes) -> None:
    with PilImage.open(io.BytesIO(data)) as opened:
        size = opened.size
        encoder.extractor.samples(opened, LARGEST)
        assert opened.size == size
        assert np.asarray(opened).shape == (size[1], size[0], 3)
        assert encoder.extractor.load(opened).reduction == 1  # it is decoded now
    with PilImage.open(io.BytesIO(data)) as opened:
        opened.draft("L", (opened.width // 2, opened.height // 2))
        assert encoder.extractor.load(opened).pixels.shape[:2] == opened.size[::-1]


def test_a_small_face_is_looked_for_again_at_the_full_size(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    face = enlarged(portraits["person_a_2"], 210)
    canvas = PilImage.new("RGB", (LONG_PX, 1600), "white")
    canvas.paste(face, (1200, 700))
    data = jpeg(canvas)
    assert encoder.extractor.load(data).reduction == 2
    (sample,) = encoder.extractor.samples(data, LARGEST)
    (whole,) = encoder.extractor.samples(load_image(data), LARGEST)
    assert sample.quality["eye_distance_px"] < 70
    np.testing.assert_array_equal(sample.crop, whole.crop)
    assert sample.detection == whole.detection


class OfPixels(SampleCheck):
    name = "pixels"
    reasons: ClassVar[Mapping[str, str]] = {}

    def measure(self, sample: FoundSample) -> Mapping[str, float]:
        return {"rows": float(sample.image.shape[0])}

    def judge(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        return ()


def test_a_check_that_does_not_reckon_with_it_sees_the_whole_image(
    encoder: Encoder, data: bytes, large: PilImage.Image
) -> None:
    old = encoder.extractor
    checks = (*checks_of(old.modality), OfPixels())
    extractor = SampleExtractor(old.spec, old.detector, checks=checks)
    (sample,) = extractor.samples(data, LARGEST)
    assert sample.quality["rows"] == large.height


def test_without_a_least_side_nothing_is_reduced(data: bytes) -> None:
    assert read_image(data).reduction == 1
