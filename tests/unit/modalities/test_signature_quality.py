"""Each reason to refuse a signature, just above and just below its limit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.drawn import Writer
from verifykit.errors import AcquisitionError
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.modalities.signature.ink import find_ink
from verifykit.modalities.signature.quality import (
    SignatureLimits,
    SignatureQuality,
    measure_signature,
    signature_reasons,
)
from verifykit.spec import SignatureCrop
from verifykit.types import Image

SPEC = SignatureCrop(96, 288)
EXTRACTOR = SampleExtractor(SPEC)
SIGNED = Writer(3).genuine(0)


def _page(height: int = 220, width: int = 480) -> Image:
    return np.full((height, width, 3), 255, np.uint8)


def _reason(image: Image) -> str | None:
    try:
        EXTRACTOR.samples(image)
    except AcquisitionError as error:
        return error.reason
    return None


def _line(page: Image, *points: tuple[int, int], width: int = 4) -> Image:
    cv2.polylines(page, [np.array(points, np.int32)], False, (0, 0, 0), width, cv2.LINE_AA)
    return page


@pytest.mark.parametrize("writer", range(8))
def test_signatures_are_accepted(writer: int) -> None:
    (sample,) = EXTRACTOR.samples(Writer(writer).genuine(1))
    assert sample.reasons == ()
    assert sample.crop.shape == (96, 288, 3)
    assert sample.quality["side_px"] > 100


def test_paper_is_blank_under_any_quality_option() -> None:
    noisy = np.random.default_rng(0).normal(220, 5, (220, 480, 3)).clip(0, 255).astype(np.uint8)
    for paper in (_page(), noisy, np.full((64, 64, 3), 90, np.uint8)):
        assert _reason(paper) == "blank"
        with pytest.raises(AcquisitionError, match="no ink was found"):
            EXTRACTOR.samples(paper, SampleOptions(quality="warn"))


def test_a_dot_a_dash_and_a_line_are_too_little_ink() -> None:
    dot = cv2.circle(_page(), (240, 110), 50, (0, 0, 0), 4)
    assert _reason(cv2.circle(_page(), (240, 110), 4, (0, 0, 0), -1)) is not None
    assert _reason(_line(_page(), (150, 100), (290, 104))) is not None
    assert "too_little_ink" in _codes(_line(_page(), (20, 100), (460, 180)))
    assert _reason(dot) is None  # a ring is drawn with a purpose


def _codes(image: Image) -> tuple[str, ...]:
    return signature_reasons(measure_signature(find_ink(image, SPEC)), SignatureLimits())


def test_other_images_are_too_dense(portraits: Mapping[str, Path]) -> None:
    page = _page(800, 600)
    for y in range(40, 780, 28):
        cv2.putText(page, "the quick brown fox jumps over it", (20, y), 0, 0.75, (0, 0, 0), 2)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert _reason(page) == "too_dense"
    assert _reason(noise) == "too_dense"
    assert _reason(np.zeros((200, 300, 3), np.uint8)) is not None
    refused = [_refused(path) for path in portraits.values()]
    assert sum(refused) >= 0.7 * len(refused)


def _refused(path: Path) -> bool:
    try:
        EXTRACTOR.samples(path)
    except AcquisitionError:
        return True
    return False


def test_a_signature_of_a_few_pixels_is_too_small() -> None:
    def scaled(side_px: float) -> Image:
        factor = side_px / measure_signature(find_ink(SIGNED, SPEC))["side_px"]
        size = (round(SIGNED.shape[1] * factor), round(SIGNED.shape[0] * factor))
        return cv2.resize(SIGNED, size, interpolation=cv2.INTER_AREA)

    assert "too_small" in _codes(scaled(75))
    assert "too_small" not in _codes(scaled(110))


def test_a_signature_cut_by_the_border_is_clipped() -> None:
    rows, columns = np.nonzero(SIGNED[:, :, 0] < 128)
    whole = SIGNED[:, columns.min() - 1 :]
    cut = SIGNED[int(np.percentile(rows, 60)) :]
    assert "clipped" not in _codes(whole)
    assert "clipped" in _codes(cut)
    with pytest.raises(AcquisitionError, match=r"not usable \(clipped\); measured: contrast"):
        EXTRACTOR.samples(cut)


def test_warn_accepts_and_reports() -> None:
    rows = np.nonzero(SIGNED[:, :, 0] < 128)[0]
    (sample,) = EXTRACTOR.samples(
        SIGNED[int(np.percentile(rows, 60)) :], SampleOptions(quality="warn")
    )
    assert "clipped" in sample.reasons
    assert sample.quality["cut_share"] > SignatureLimits().max_cut_share


def test_limits_can_be_changed() -> None:
    strict = SampleExtractor(SPEC, checks=[SignatureQuality(SignatureLimits(min_side_px=10_000.0))])
    with pytest.raises(AcquisitionError) as caught:
        strict.samples(SIGNED)
    assert caught.value.reason == "too_small"
