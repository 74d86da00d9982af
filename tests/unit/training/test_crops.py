"""The crop cache: the runtime's own crops, made once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.training.drawing import draw_folder, small_config
from verifykit.errors import ModelNotFoundError
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import load_image
from verifykit.modalities import crop
from verifykit_training.config import CropConfig
from verifykit_training.crop_cache import CropCache, build_extractor
from verifykit_training.dataset import Record, read_records
from verifykit_training.errors import DataError


def _unexpected() -> SampleExtractor:
    raise AssertionError("everything was cropped before")


def test_crops_are_those_of_the_runtime_and_made_once(tmp_path: Path) -> None:
    records = read_records(draw_folder(tmp_path / "data", 2, 2))
    extractor = build_extractor(CropConfig(kind="plain", height_px=20, width_px=24, fit="cover"))
    cache = CropCache(tmp_path / "cache", extractor.spec)
    assert cache.fill(records, lambda: extractor) == {}
    for record in records:
        expected = crop(load_image(record.path), extractor.spec)
        np.testing.assert_array_equal(cache.crop(record.path), expected)
    assert CropCache(tmp_path / "cache", extractor.spec).fill(records, _unexpected) == {}
    assert not list(cache.folder.rglob("tmp*"))


def test_a_changed_image_is_cropped_again(tmp_path: Path) -> None:
    records = read_records(draw_folder(tmp_path / "data", 1, 1))
    path = records[0].path
    extractor = build_extractor(small_config().crop)
    cache = CropCache(tmp_path / "cache", extractor.spec)
    cache.fill(records, lambda: extractor)
    before = cache.crop(path)
    cv2.imwrite(str(path), 255 - before)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="changed since"):
        cache.crop(path)
    cache.fill(records, lambda: extractor)
    np.testing.assert_array_equal(cache.crop(path), 255 - before[..., ::-1])


def test_another_crop_has_another_cache(tmp_path: Path) -> None:
    small, large = (CropConfig(kind="plain", height_px=size, width_px=32) for size in (16, 32))
    folders = {CropCache(tmp_path, build_extractor(c).spec).folder for c in (small, large)}
    assert len(folders) == 2


def test_refused_images_are_remembered_with_the_reason(tmp_path: Path) -> None:
    records = read_records(draw_folder(tmp_path / "data", 1, 2))
    records[0].path.write_bytes(b"text")
    records.append(Record(tmp_path / "data" / "missing.png", "s00"))
    extractor = build_extractor(small_config().crop)
    cache = CropCache(tmp_path / "cache", extractor.spec)
    first = cache.fill(records, lambda: extractor)
    assert set(first) == {records[0].path, records[2].path}
    assert "not an image" in first[records[0].path]
    assert cache.fill(records, _unexpected) == first


def test_a_face_is_found_aligned_and_scaled(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    extractor = build_extractor(CropConfig(height_px=56, width_px=56, detector=str(face_model)))
    cache = CropCache(tmp_path, extractor.spec)
    record = Record(portraits["person_a_1"], "a")
    assert cache.fill([record], lambda: extractor) == {}
    whole = build_extractor(CropConfig(detector=str(face_model)))
    expected = whole.samples(record.path, SampleOptions("largest", "warn"))[0].crop
    halved = cv2.resize(expected, (56, 56), interpolation=cv2.INTER_AREA)
    # The same face at half the size: the template is scaled, not cut.
    difference = np.abs(cache.crop(record.path).astype(int) - halved).mean()
    assert difference < 6.0


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="no-such"):
        build_extractor(CropConfig(detector="no-such/model.onnx"))
