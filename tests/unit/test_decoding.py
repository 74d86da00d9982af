"""Decoding of every kind of image file; damaged files are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageFile

from tests.helpers.encoded_images import encoded
from verifykit.errors import ImageError, InputError
from verifykit.image import load_image
from verifykit.types import Image

STORED = {  # EXIF orientation -> how an upright image is rotated before it is stored
    1: None,
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_90,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_270,
}


def cv2_encoded(extension: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(extension, pixels)[1].tobytes()


# ------------------------------------------------------------------ what is read


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_are_pixel_equal(
    portrait: PilImage.Image, upright: Image, file_format: str
) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(load_image(encoded(portrait, file_format, **options)), upright)


def test_an_image_of_many_strips_is_pixel_equal(portraits: Mapping[str, Path]) -> None:
    with PilImage.open(portraits["person_b_1"]) as opened:
        large = opened.convert("RGB").resize((1100, 901))
    np.testing.assert_array_equal(load_image(encoded(large, "BMP")), np.asarray(large))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_bilevel(portrait: PilImage.Image, mode: str) -> None:
    grey = portrait.convert(mode)
    loaded = load_image(encoded(grey, "PNG"))
    np.testing.assert_array_equal(loaded, np.asarray(grey.convert("L"))[..., None].repeat(3, 2))


def test_palette_is_looked_up(portrait: PilImage.Image) -> None:
    palette = portrait.quantize(16)
    loaded = load_image(encoded(palette, "PNG"))
    np.testing.assert_array_equal(loaded, np.asarray(palette.convert("RGB")))


def test_transparent_palette_entry_becomes_white(portrait: PilImage.Image) -> None:
    palette = portrait.quantize(16)
    hidden = int(np.asarray(palette)[0, 0])
    for file_format in ("PNG", "GIF"):
        loaded = load_image(encoded(palette, file_format, transparency=hidden))
        where = np.asarray(palette) == hidden
        assert where.any()
        assert (loaded[where] == 255).all()
        assert (loaded[~where] == np.asarray(palette.convert("RGB"))[~where]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(portrait: PilImage.Image, mode: str) -> None:
    height, width = portrait.height, portrait.width
    alpha = np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))
    with_alpha = portrait.convert(mode)
    with_alpha.putalpha(PilImage.fromarray(alpha))
    colour = np.asarray(with_alpha.convert("RGBA"))[..., :3].astype(float)
    share = alpha[..., None] / 255
    expected = colour * share + 255 * (1 - share)
    for file_format in ("PNG", "TIFF"):
        loaded = load_image(encoded(with_alpha, file_format)).astype(float)
        assert np.abs(loaded - expected).max() <= 1


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_not_clipped(extension: str, channels: int) -> None:
    values = np.linspace(0, 65535, 64 * 48).round().astype(np.uint16).reshape(64, 48)
    stored = values if channels == 1 else np.stack([values, values[::-1], values[:, ::-1]], 2)
    loaded = load_image(cv2_encoded(extension, stored))
    expected = stored / 257
    # OpenCV stores BGR
    expected = expected[..., None].repeat(3, 2) if channels == 1 else expected[..., ::-1]
    assert np.abs(loaded - expected).max() <= 1
    assert loaded.min() == 0
    assert loaded.max() == 255


def test_cmyk_jpeg_of_adobe_and_of_others(portrait: PilImage.Image, upright: Image) -> None:
    adobe = encoded(portrait.convert("CMYK"), "JPEG", quality=100, subsampling=0)
    at = adobe.index(b"\xff\xee")
    plain = adobe[:at] + adobe[at + 2 + int.from_bytes(adobe[at + 2 : at + 4], "big") :]
    assert b"Adobe" in adobe
    assert b"Adobe" not in plain
    assert np.abs(load_image(adobe).astype(int) - upright).mean() < 2
    # Without Adobe's marker the stored values are not inverted: the same bytes are a negative.
    assert np.abs(255 - load_image(plain).astype(int) - load_image(adobe)).mean() > 20
    inverted = PilImage.fromarray(255 - np.asarray(portrait.convert("CMYK")), "CMYK")
    other = encoded(inverted, "JPEG", quality=100, subsampling=0)
    at = other.index(b"\xff\xee")
    other = other[:at] + other[at + 2 + int.from_bytes(other[at + 2 : at + 4], "big") :]
    assert np.abs(load_image(other).astype(int) - upright).mean() < 2


def test_the_first_frame_is_used(portrait: PilImage.Image) -> None:
    second = portrait.transpose(PilImage.Transpose.FLIP_TOP_BOTTOM)
    for file_format in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        file = encoded(portrait, file_format, save_all=True, append_images=[second], **options)
        first = load_image(file).astype(int)
        assert np.abs(first - np.asarray(portrait)).mean() < 4  # GIF has 256 colors
        assert np.abs(first - np.asarray(second)).mean() > 20


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG", "MPO"])
def test_every_exif_orientation_is_undone(
    portrait: PilImage.Image, upright: Image, file_format: str, orientation: int
) -> None:
    turn = STORED[orientation]
    stored = portrait if turn is None else portrait.transpose(turn)
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"exif": exif}
    lossy = file_format in {"JPEG", "MPO"}
    if lossy:
        options |= {"quality": 100, "subsampling": 0}
    if file_format == "MPO":
        options |= {"save_all": True, "append_images": [stored]}
    if file_format == "WEBP":
        options |= {"lossless": True}
    loaded = load_image(encoded(stored, file_format, **options))
    assert loaded.shape == upright.shape
    assert loaded.flags.c_contiguous
    assert np.abs(loaded.astype(int) - upright).max() <= (6 if lossy else 0)


def test_damaged_exif_is_ignored(portrait: PilImage.Image, upright: Image) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\xff" * 40
    file = encoded(portrait, "JPEG", quality=100, subsampling=0, exif=exif)
    assert np.abs(load_image(file).astype(int) - upright).max() <= 6


# ------------------------------------------------------------------ what is refused


def refused(image: object, *words: str, **limits: int) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(image, **limits)  # type: ignore[arg-type]
    assert isinstance(caught.value, InputError)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("file_format", ["JPEG", "progressive", "PNG"])
def test_every_truncation_is_refused(
    portrait: PilImage.Image, monkeypatch: pytest.MonkeyPatch, file_format: str, tolerant: bool
) -> None:
    """Also in an application that sets Pillow to decode truncated images."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    if file_format == "progressive":
        file = encoded(portrait, "JPEG", progressive=True)
    else:
        file = encoded(portrait, file_format)
    load_image(file)
    # A PNG is complete once IEND is named; its last four bytes are a checksum of nothing.
    cuts = [1, 2, 3, 5, 8, 12, 13, 20, 100, len(file) // 2, len(file) - 30, len(file) - 3]
    for cut in cuts[2 * (file_format == "PNG") :]:
        refused(file[:-cut])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant


def test_truncated_other_formats(portrait: PilImage.Image) -> None:
    for file_format in ("BMP", "TIFF", "PPM", "WEBP", "GIF"):
        file = encoded(portrait, file_format)
        for cut in (len(file) // 3, len(file) // 2, len(file) - 20):
            refused(file[:-cut])


def test_values_without_a_known_range_are_refused(upright: Image) -> None:
    values = upright[..., 0].astype(np.float32) / 255
    refused(encoded(PilImage.fromarray(values), "TIFF"), "floating-point", "8 or 16 bits")
    refused(encoded(PilImage.fromarray(values.astype(np.int32)), "TIFF"), "32-bit")


# ------------------------------------------------------------------ global state, threads, damage


@pytest.fixture(scope="module")
def seeds(portrait: PilImage.Image) -> list[bytes]:
    small = portrait.resize((24, 30))
    exif = PilImage.Exif()
    exif[0x0112] = 6
    return [
        encoded(small, "JPEG", exif=exif),
        encoded(small, "JPEG", progressive=True),
        encoded(small.convert("CMYK"), "JPEG"),
        encoded(small, "PNG", exif=exif),
        encoded(small.quantize(16), "PNG", transparency=3),
        encoded(small.convert("I;16"), "PNG"),
        encoded(small, "GIF"),
        encoded(small, "BMP"),
        encoded(small, "TIFF", exif=exif),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(small, "WEBP"),
        encoded(small, "PPM"),
        encoded(small, "JPEG2000"),
        encoded(small, "MPO", save_all=True, append_images=[small]),
    ]


@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_damaged_files_give_an_image_or_an_image_error(
    seeds: list[bytes], data: st.DataObject
) -> None:
    file = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(file) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "insert", "delete", "copy"]))
        some = data.draw(st.binary(min_size=1, max_size=8))
        if kind == "byte":
            file[at : at + len(some)] = some
        elif kind == "insert":
            file[at:at] = some
        elif kind == "delete":
            del file[at : at + len(some)]
        elif kind == "copy":
            file[at:at] = file[at // 2 : at // 2 + 30]
        else:
            del file[max(at, 1) :]
        if not file:
            file = bytearray(b"\0")
    try:
        loaded = load_image(bytes(file), max_pixels=1_000_000)
    except ImageError:
        return
    assert loaded.dtype == np.uint8
    assert loaded.ndim == 3
    assert loaded.shape[2] == 3
    assert loaded.size
