"""Pages and frames behind the first are not read, and that is said wherever an image is."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

import verifykit as vk
from tests.helpers.batch_files import encode
from tests.helpers.model_specs import plain_spec
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.extraction import FURTHER_FRAMES, SampleExtractor
from verifykit.image import file_has_further_frames, load_image, read_image
from verifykit.modalities import SampleCheck

RED, GREEN = (255, 0, 0), (0, 255, 0)


def frames(file_format: str, count: int = 2) -> bytes:
    file = io.BytesIO()
    first, *others = (Picture.new("RGB", (8, 8), (RED, GREEN)[n % 2]) for n in range(count))
    if others:
        first.save(file, file_format, save_all=True, append_images=others)
    else:
        first.save(file, file_format.replace("MPO", "JPEG"))
    return file.getvalue()


@pytest.mark.parametrize("file_format", ["TIFF", "GIF", "WEBP", "PNG", "MPO"])
def test_one_frame_and_several(file_format: str) -> None:
    several = frames(file_format)
    assert read_image(several).has_further_frames
    assert load_image(several).shape == (8, 8, 3)
    assert not read_image(
        frames("JPEG" if file_format == "MPO" else file_format, 1)
    ).has_further_frames


def test_a_smaller_copy_of_the_first_page_is_no_further_page() -> None:
    file = io.BytesIO()
    small = Picture.new("RGB", (4, 4), RED)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Picture.new("RGB", (8, 8), RED).save(
        file, "TIFF", save_all=True, append_images=[small], tiffinfo={254: 0}
    )
    with Picture.open(file) as written:
        written.seek(1)
        assert written.tag_v2[254] == 1  # type: ignore[attr-defined]
    assert not read_image(file.getvalue()).has_further_frames


def test_a_damaged_second_page_is_mentioned_and_the_first_is_read() -> None:
    data = frames("TIFF")
    second = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[second : second + 2], "little")
    link = second + 2 + 12 * count
    at = int.from_bytes(data[link : link + 4], "little")
    broken = data[:at] + b"\xff" * 40 + data[at + 40 :]
    loaded = read_image(broken)
    assert loaded.has_further_frames
    assert tuple(loaded.pixels[0, 0]) == RED


@pytest.mark.parametrize("file_format", ["TIFF", "GIF", "WEBP", "PNG", "MPO"])
def test_a_pillow_image_and_bytes_say_so_without_decoding(file_format: str) -> None:
    several, one = frames(file_format), frames("JPEG" if file_format == "MPO" else file_format, 1)
    assert file_has_further_frames(several)
    assert not file_has_further_frames(one)
    assert not file_has_further_frames(several[:20] + b"no image")
    with Picture.open(io.BytesIO(several)) as opened, Picture.open(io.BytesIO(one)) as single:
        opened.load()
        opened.putpixel((0, 0), opened.getpixel((7, 7)))  # kept, as nothing seeks
        before = opened.tobytes()
        assert read_image(opened).has_further_frames
        assert opened.tobytes() == before
        assert not read_image(single).has_further_frames
        opened.seek(1)
        assert not read_image(opened).has_further_frames  # the caller chose this one


def extractor(**changes: Any) -> SampleExtractor:
    return SampleExtractor(plain_spec().crop, **changes)


def test_a_sample_is_taken_and_says_so() -> None:
    (sample,) = extractor().samples(frames("TIFF"))
    assert sample.reasons == (FURTHER_FRAMES,)
    (sample,) = extractor().samples(frames("TIFF", 1))
    assert sample.reasons == ()
    loaded = extractor().load(frames("GIF"))
    assert extractor().samples(loaded)[0].reasons == (FURTHER_FRAMES,)


def test_a_refusal_says_so_too() -> None:
    class Never(SampleCheck):
        reasons = {"never": "Never."}  # noqa: RUF012

        def measure(self, found: object) -> dict[str, float]:
            return {"never": 1.0}

        def judge(self, measured: object) -> tuple[str, ...]:
            return ("never",)

    strict = extractor(checks=[Never()])
    with pytest.raises(AcquisitionError, match="only the first page or frame") as caught:
        strict.samples(frames("TIFF"))
    assert (caught.value.reason, caught.value.warnings) == ("never", (FURTHER_FRAMES,))
    assert copy.copy(caught.value).warnings == (FURTHER_FRAMES,)
    with pytest.raises(AcquisitionError) as caught:
        strict.samples(frames("TIFF", 1))
    assert caught.value.warnings == ()
    assert "page" not in str(caught.value)


def test_enrollment_and_decisions_warn() -> None:
    verifier = vk.Verifier(Encoder(plain_spec(), encode, extractor()))
    report = verifier.enroll("red", [frames("GIF"), frames("TIFF", 1)])
    assert [each for each in report.warnings if FURTHER_FRAMES in each] == [
        "image 1: further_frames"
    ]
    plain = np.full((8, 8, 3), RED, np.uint8)
    assert FURTHER_FRAMES in verifier.verify("red", frames("WEBP")).warnings
    assert FURTHER_FRAMES in verifier.compare(plain, frames("TIFF")).warnings
    assert FURTHER_FRAMES not in verifier.compare(plain, plain).warnings
    (candidate,) = verifier.identify(frames("TIFF"))
    assert FURTHER_FRAMES in candidate.warnings
