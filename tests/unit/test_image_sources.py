"""Pillow images, arrays of OpenCV, data URLs and file objects: the same pixels as the file."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import socket
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageCms, ImageOps

import verifykit
from tests.helpers.encoded_images import encoded
from verifykit.enrollment import as_images
from verifykit.errors import ImageError
from verifykit.image import (
    MAX_BYTES,
    base64_bytes,
    encoded_image,
    image_from_bgr,
    image_name,
    is_pillow,
    load_image,
)
from verifykit.types import Image


def refused(image: object, *words: str, load: Callable[[Any], Image] = load_image) -> str:
    with pytest.raises(ImageError) as caught:
        load(image)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


# ------------------------------------------------------------------ Pillow images

MODES = {  # mode -> a format that keeps it without loss
    "1": "PNG",
    "L": "PNG",
    "LA": "PNG",
    "P": "PNG",
    "RGB": "PNG",
    "RGBA": "PNG",
    "I;16": "PNG",
    "CMYK": "TIFF",
    "YCbCr": "TIFF",
}


@st.composite
def pillow_images(draw: st.DrawFn) -> tuple[PilImage.Image, str]:
    mode = draw(st.sampled_from(sorted(MODES)))
    size = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (size[1], size[0])
    if mode == "I;16":
        image = PilImage.fromarray(rng.integers(0, 65536, shape).astype(np.uint16))
    elif mode == "P":
        image = PilImage.fromarray(rng.integers(0, 256, (*shape, 3)).astype(np.uint8)).quantize(8)
        if draw(st.booleans()):
            image.info["transparency"] = draw(
                st.one_of(st.integers(0, 3), st.binary(min_size=1, max_size=4))
            )
    else:
        bands = len(PilImage.new(mode, (1, 1)).getbands())
        values = rng.integers(0, 256, (*shape, bands)).astype(np.uint8)
        grey = [PilImage.fromarray(values[..., band]) for band in range(bands)]
        image = grey[0].convert("1") if mode == "1" else PilImage.merge(mode, grey)
        if mode in {"L", "RGB"} and draw(st.booleans()):
            hidden = values[0, 0].tolist()
            image.info["transparency"] = hidden[0] if mode == "L" else tuple(hidden)
    if draw(st.booleans()):
        exif = PilImage.Exif()
        exif[0x0112] = draw(st.integers(1, 8))
        image.info["exif"] = exif.tobytes()
    return image, MODES[mode]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pillow_images())
def test_a_pillow_image_is_the_same_image_saved_and_loaded(
    drawn: tuple[PilImage.Image, str],
) -> None:
    image, file_format = drawn
    options = {name: image.info[name] for name in ("exif", "transparency") if name in image.info}
    file = encoded(image, file_format, **options)
    expected = load_image(file)
    loaded = load_image(image)
    np.testing.assert_array_equal(loaded, expected)
    assert loaded.flags.c_contiguous
    opened = PilImage.open(io.BytesIO(file))  # not yet decoded
    np.testing.assert_array_equal(load_image(opened), expected)
    assert not np.shares_memory(loaded, load_image(image))


def test_every_orientation_and_format_of_an_opened_image(portrait: PilImage.Image) -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 6
    sideways = portrait.convert("CMYK").transpose(PilImage.Transpose.ROTATE_90)
    for file_format in ("JPEG", "TIFF"):
        file = encoded(sideways, file_format, exif=exif)
        opened = PilImage.open(io.BytesIO(file))
        loaded = load_image(opened)
        np.testing.assert_array_equal(loaded, load_image(file))
        assert loaded.shape[:2] == (portrait.height, portrait.width)
        # Turned by the application, which Pillow notes.
        np.testing.assert_array_equal(load_image(ImageOps.exif_transpose(opened)), loaded)


def test_pillow_images_that_are_refused(portrait: PilImage.Image, tmp_path: Path) -> None:
    refused(PilImage.new("F", (4, 4)), "floating-point", "8 or 16 bits")
    refused(PilImage.new("I", (4, 4)), "32-bit", "8 or 16 bits")
    refused(PilImage.new("RGB", (0, 4)), "no pixels")
    with pytest.raises(ImageError, match="max_pixels"):
        load_image(portrait, max_pixels=portrait.width * portrait.height - 1)
    cut = io.BytesIO(encoded(portrait, "PNG")[:-2000])
    refused(PilImage.open(cut), "cannot be decoded")
    path = tmp_path / "a.png"
    portrait.save(path)
    with PilImage.open(path) as closed:
        pass
    refused(closed, "cannot be decoded", "open the file again")


def test_lab_is_refused_and_its_advice_works(portrait: PilImage.Image) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    in_lab = ImageCms.applyTransform(portrait, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    assert in_lab is not None
    for image in (in_lab, encoded(in_lab, "TIFF")):
        refused(image, "Lab", "PIL.ImageCms")
    back = ImageCms.applyTransform(in_lab, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    assert np.abs(load_image(back).astype(int) - np.asarray(portrait)).mean() < 3  # type: ignore[arg-type]


def test_the_name_and_number_of_pillow_images(portrait: PilImage.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    portrait.save(path)
    with PilImage.open(path) as opened:
        assert image_name(opened, 2) == str(path)
    assert image_name(portrait, 2) == "image 2"
    assert as_images(portrait) == [portrait]
    assert as_images([portrait, None]) == [portrait, None]  # type: ignore[list-item]
    assert as_images(None) == [None]  # type: ignore[arg-type]


# ------------------------------------------------------------------ arrays


def test_arrays_of_opencv(portrait: PilImage.Image, upright: Image, tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    portrait.save(path)
    bgr = cv2.imread(path)
    np.testing.assert_array_equal(image_from_bgr(bgr), upright)
    np.testing.assert_array_equal(image_from_bgr(bgr[:, ::-1]), upright[:, ::-1])
    with_alpha = portrait.convert("RGBA")
    with_alpha.putalpha(PilImage.linear_gradient("L").resize(portrait.size))
    with_alpha.save(path)
    bgra = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert bgra.shape[2] == 4
    np.testing.assert_array_equal(image_from_bgr(bgra), load_image(path))
    portrait.convert("L").save(path)
    np.testing.assert_array_equal(
        image_from_bgr(cv2.imread(path, cv2.IMREAD_GRAYSCALE)), load_image(path)
    )
    for made in (image_from_bgr(bgr), image_from_bgr(bgra)):
        assert made.flags.c_contiguous
        assert load_image(made) is made
    refused(cv2.imread(str(tmp_path / "missing.png")), "cv2.imread", load=image_from_bgr)
    refused(bgr.astype(np.float32), "float32", load=image_from_bgr)
    refused(bgr[..., :2], "two channels", load=image_from_bgr)
    with pytest.raises(ImageError, match="max_pixels"):
        image_from_bgr(bgr, max_pixels=10)


def layouts(array: np.ndarray) -> Iterator[np.ndarray]:
    yield array
    yield np.asfortranarray(array)
    yield np.repeat(array, 2, axis=1)[:, ::2]
    yield array[::-1][::-1]
    frozen = array.copy()
    frozen.flags.writeable = False
    yield frozen


def test_any_layout_of_an_array_in_memory(upright: Image) -> None:
    for array in layouts(upright):
        np.testing.assert_array_equal(load_image(array), upright)
        np.testing.assert_array_equal(image_from_bgr(array), upright[..., ::-1])
        assert load_image(array).flags.c_contiguous


ADVICE: dict[str, tuple[Callable[[Image], np.ndarray], str, Callable[[np.ndarray], Any]]] = {
    "float": (
        lambda image: image / 255,
        "scale them to 0..255, round, and convert with .astype(numpy.uint8)",
        lambda array: (array * 255).round().astype(np.uint8),
    ),
    "uint16": (
        lambda image: image.astype(np.uint16) * 257,
        "pass (array // 257).astype(numpy.uint8)",
        lambda array: (array // 257).astype(np.uint8),
    ),
    "int64": (
        lambda image: image.astype(np.int64),
        "pass array.astype(numpy.uint8)",
        lambda array: array.astype(np.uint8),
    ),
    "bool": (
        lambda image: image > 127,
        "pass array.astype(numpy.uint8) * 255",
        lambda array: array.astype(np.uint8) * 255,
    ),
    "RGBA": (
        lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
        "PIL.Image.fromarray(array)",
        PIL.Image.fromarray,
    ),
    "BGRA": (
        lambda image: np.dstack([image[..., ::-1], np.full(image.shape[:2], 255, np.uint8)]),
        "verifykit.image_from_bgr(array)",
        lambda array: verifykit.image_from_bgr(array),
    ),
    "grey and alpha": (
        lambda image: np.dstack([image[..., 0], np.full(image.shape[:2], 255, np.uint8)]),
        "pass PIL.Image.fromarray(array)",
        PIL.Image.fromarray,
    ),
    "channels first": (
        lambda image: image.transpose(2, 0, 1),
        "array.transpose(1, 2, 0)",
        lambda array: array.transpose(1, 2, 0),
    ),
    "several": (lambda image: image[None], "one image at a time", lambda array: array[0]),
}


@pytest.mark.parametrize("kind", ADVICE)
def test_the_advice_about_an_array_leads_to_the_image(upright: Image, kind: str) -> None:
    change, advice, follow = ADVICE[kind]
    array = change(upright)
    message = refused(array, advice)
    assert ":3]" not in message
    expected = upright
    if kind == "bool":
        expected = np.where(upright > 127, 255, 0).astype(np.uint8)
    if kind == "grey and alpha":
        expected = upright[..., :1].repeat(3, 2)
    np.testing.assert_array_equal(load_image(follow(array)), expected)


def test_the_advice_about_objects_leads_to_the_image(
    portrait: PilImage.Image, upright: Image, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    portrait.save(path)
    refused(None, "pass the path itself")
    refused(object(), "save the image to a file, and pass its path")
    refused([path], "one by one")
    np.testing.assert_array_equal(load_image(path), upright)


# ------------------------------------------------------------------ data URLs and base64


def test_data_urls(portrait: PilImage.Image, upright: Image) -> None:
    file = encoded(portrait, "PNG")
    plain = base64.b64encode(file).decode()
    for text in (
        plain,
        plain.rstrip("="),
        "\n".join(textwrap.wrap(plain, 76)),
        base64.urlsafe_b64encode(file).decode(),
        quote(plain, safe=""),
    ):
        for head in ("data:image/png;base64,", "DATA:;BASE64,", "data:image/png;name=a;base64,"):
            np.testing.assert_array_equal(load_image(head + text), upright)
    assert image_name("data:image/png;base64," + plain, 3) == "image 3"


def test_data_urls_that_are_refused(portrait: PilImage.Image) -> None:
    plain = base64.b64encode(encoded(portrait, "PNG")).decode()
    for url, words in (
        ("data:image/png," + plain, "begins with data:image/jpeg;base64,"),
        ("data:image/png;base64," + plain + "!", "characters that base64 does not have"),
        ("data:image/png;base64,\N{LATIN SMALL LETTER A WITH DIAERESIS}" + plain, "does not have"),
        ("data:image/png;base64,abcde", "5 characters"),
        ("data:image/png;base64,", "empty (0 bytes)"),
        ("data:image/png;base64," + plain[:400], "truncated"),
    ):
        message = refused(url, "the data URL", words)
        assert plain[:40] not in message
    with pytest.raises(ImageError, match="larger than 100 bytes"):
        load_image("data:image/png;base64," + plain, max_bytes=100)
    message = refused(plain, "data:image/jpeg;base64,...")  # base64 without its head is no path
    assert max(map(len, message.split())) <= 80


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.integers(1, 80))
def test_base64_of_every_kind(data: bytes, safe: bool, padded: bool, width: int) -> None:
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    text = "\r\n".join(textwrap.wrap(text if padded else text.rstrip("="), width))
    assert base64_bytes(text) == data


# ------------------------------------------------------------------ file objects


class Stream(io.RawIOBase):
    """A stream that cannot be rewound and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._left.read(min(len(buffer), 100))
        buffer[: len(part)] = part
        return len(part)


class Wrapper:
    """An upload of a web framework: it has read, seek and tell, and no seekable."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


def test_a_file_object_that_was_read_before(portrait: PilImage.Image, upright: Image) -> None:
    file = encoded(portrait, "PNG")
    for begin in (1, 8, 33, len(file) // 2, len(file)):
        opened = io.BytesIO(file)
        opened.seek(begin)
        np.testing.assert_array_equal(load_image(opened), upright)
        assert opened.tell() == begin
        np.testing.assert_array_equal(load_image(opened), upright)
    seen = io.BytesIO(file)
    PilImage.open(seen).verify()
    np.testing.assert_array_equal(load_image(seen), upright)
    saved = io.BytesIO()
    portrait.save(saved, "PNG")
    np.testing.assert_array_equal(load_image(saved), upright)
    with tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(file)
        np.testing.assert_array_equal(load_image(spooled), upright)


def test_the_image_at_the_position_of_a_file_object(
    portrait: PilImage.Image, upright: Image
) -> None:
    other = portrait.transpose(PilImage.Transpose.FLIP_TOP_BOTTOM)
    for head in (b"header", encoded(other, "PNG")):
        opened = io.BytesIO(head + encoded(portrait, "PNG"))
        opened.seek(len(head))
        np.testing.assert_array_equal(load_image(opened), upright)
        assert opened.tell() == len(head)
    # A damaged image at the position is not replaced by the one before it.
    opened = io.BytesIO(encoded(other, "PNG") + encoded(portrait, "PNG")[:-2000])
    opened.seek(len(encoded(other, "PNG")))
    refused(opened, "truncated")


def test_streams_that_cannot_be_rewound(portrait: PilImage.Image, upright: Image) -> None:
    file = encoded(portrait, "PNG")
    stream = Stream(file)
    np.testing.assert_array_equal(load_image(stream), upright)
    refused(stream, "cannot be rewound", "pass the bytes")
    half = Stream(file)
    half.read(50)
    refused(half, "not an image")


def test_uploads_without_seekable(portrait: PilImage.Image, upright: Image) -> None:
    upload = Wrapper(encoded(portrait, "PNG"))
    upload.read()
    np.testing.assert_array_equal(load_image(upload), upright)  # type: ignore[arg-type]


def test_files_open_as_text(portrait: PilImage.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    portrait.save(path)
    refused(io.StringIO("text"), "mode 'rb'")
    with path.open(encoding="utf-8") as file:
        refused(file, "a.jpg", "open as text", "mode 'rb'")
    with path.open("rb") as file:
        load_image(file)
    with tempfile.NamedTemporaryFile("w+") as temporary:
        refused(temporary, "open as text")


def test_asynchronous_uploads(portrait: PilImage.Image) -> None:
    class Upload:
        async def read(self, size: int = -1) -> bytes:
            return encoded(portrait, "PNG")

    refused(Upload(), "await file.read()")
    load_image(asyncio.run(Upload().read()))


def test_large_and_empty_file_objects() -> None:
    refused(io.BytesIO(), "0 bytes")
    with pytest.raises(ImageError, match="max_bytes"):
        load_image(Stream(bytes(1000)), max_bytes=999)  # type: ignore[arg-type]
    assert MAX_BYTES >= 10**8


def test_pillow_that_another_thread_is_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", ModuleType("PIL.Image"))
    assert not is_pillow("a.jpg")


def test_data_urls_with_space_before_them_and_as_bytes(
    portrait: PilImage.Image, upright: Image
) -> None:
    text = base64.b64encode(encoded(portrait, "PNG")).decode()
    for url in (f" data:image/png;base64,{text}", f"\n data:;base64,{text}"):
        np.testing.assert_array_equal(load_image(url), upright)
        np.testing.assert_array_equal(load_image(url.encode()), upright)
        np.testing.assert_array_equal(load_image(io.BytesIO(url.encode())), upright)
        assert image_name(url, 2) == "image 2"
    refused(text.encode(), "looks like base64", "decode it first")
    refused(b"data:image/png," + text.encode(), "begins with data:image/jpeg;base64,")


def test_a_file_open_for_writing_only(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        refused(file, "not open for reading", "mode 'rb'")


def test_only_regular_files_are_read_by_path(tmp_path: Path) -> None:
    """A named pipe would block until it has a writer, a device may have no end."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    link = tmp_path / "link.jpg"
    link.symlink_to(pipe)
    for path in (pipe, str(pipe), link):
        refused(path, "is a named pipe", "open it")
    refused("/dev/zero", "is a device")
    name = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(name))
        refused(name, "is a socket")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
def test_a_pipe_that_a_shell_opened_is_read() -> None:
    """``verifykit compare <(command) reference.jpg`` gives such a path."""
    encoded = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    reading, writing = os.pipe()
    try:
        os.write(writing, encoded)
        os.close(writing)
        assert load_image(f"/dev/fd/{reading}").shape == (4, 4, 3)
    finally:
        os.close(reading)


def test_base64_that_a_form_has_decoded_is_refused_as_such() -> None:
    text = base64.b64encode(bytes(range(62, 256)) * 9).decode()
    assert "+" in text
    refused(f"data:image/png;base64,{text.replace('+', ' ')}", "spaces", "encodeURIComponent")
    with pytest.raises(ValueError, match="encodeURIComponent"):
        encoded_image(text.replace("+", " "))
    for width in (60, 64, 76):  # lines whose ends became spaces
        lines = " ".join(text[at : at + width] for at in range(0, len(text), width))
        assert encoded_image(lines) == base64.b64decode(text)
