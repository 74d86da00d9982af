"""Inputs that load_image accepts and refuses; it changes nothing global."""

from __future__ import annotations

import errno
import io
import os
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageFile

from tests.helpers.encoded_images import encoded
from tests.helpers.privileges import without_privileges
from verifykit.errors import ImageError, InputError
from verifykit.image import image_name, load_image
from verifykit.types import Image


def test_path_bytes_file_object_and_array_are_the_same_image(
    portraits: Mapping[str, Path],
) -> None:
    path = portraits["person_b_1"]
    loaded = load_image(path)
    reference = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(loaded.astype(int) - reference).max() <= 3  # two builds of libjpeg
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable
    with path.open("rb") as file:
        for same in (str(path), path.read_bytes(), bytearray(path.read_bytes()), file, loaded):
            np.testing.assert_array_equal(load_image(same), loaded)
        assert not file.closed
    assert load_image(loaded) is loaded


def test_one_pixel_loads() -> None:
    pixel = np.array([[[1, 2, 3]]], np.uint8)
    np.testing.assert_array_equal(load_image(encoded(PilImage.fromarray(pixel), "PNG")), pixel)


def test_arrays_grey_and_of_one_channel(upright: Image) -> None:
    grey = upright[..., 1]
    expected = grey[..., None].repeat(3, 2)
    for array in (grey, grey[..., None], np.asfortranarray(grey)):
        loaded = load_image(array)
        np.testing.assert_array_equal(loaded, expected)
        assert loaded.flags.c_contiguous
    flipped = load_image(upright[:, ::-1])
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(flipped, upright[:, ::-1])


def test_image_name(tmp_path: Path) -> None:
    assert image_name(Path("b.jpg"), 3) == image_name("b.jpg", 3) == "b.jpg"
    assert image_name(b"\xff\xd8", 3) == "image 3"
    assert image_name(np.zeros((2, 2), np.uint8), 1) == "image 1"
    assert image_name(io.BytesIO(), 2) == "image 2"
    path = tmp_path / "c.jpg"
    path.touch()
    with path.open("rb") as file:
        assert image_name(file, 1) == str(path)


def refused(image: object, *words: str, **limits: int) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(image, **limits)  # type: ignore[arg-type]
    assert isinstance(caught.value, InputError)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


def test_paths_that_are_not_image_files(tmp_path: Path) -> None:
    refused(tmp_path / "missing.jpg", "missing.jpg", "does not exist")
    assert "cannot be read" not in refused(tmp_path, str(tmp_path), "is a directory")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    refused(empty, "empty.jpg", "0 bytes")
    text = tmp_path / "text.jpg"
    text.write_text("this is no picture\n" * 40)
    refused(text, "text.jpg", "not an image", "convert it to JPEG or PNG")
    refused("", "does not exist")
    refused("a\0b.jpg", "cannot be read")
    refused("x" * 5000, "cannot be read")


@pytest.mark.parametrize("url", ["https://example.org/a.jpg", "FILE:///a.jpg"])
def test_urls_are_not_fetched(url: str) -> None:
    refused(url, "download the image first")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_file_without_permission() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "secret.jpg"
        path.write_bytes(b"1")
        path.chmod(0)
        with without_privileges():
            refused(path, "secret.jpg", "Permission denied")


def test_operating_system_errors_carry_their_reason(tmp_path: Path) -> None:
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    refused(loop, "loop.jpg", os.strerror(errno.ELOOP))


def png_header(height: int, width: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def huge_headers(portrait: PilImage.Image) -> dict[str, bytes]:
    jpeg = bytearray(encoded(portrait, "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    gif = bytearray(encoded(portrait, "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    bmp = bytearray(encoded(portrait, "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    webp = bytearray(encoded(portrait, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    webp[24:30] = (59_999).to_bytes(3, "little") * 2
    return {
        "png": png_header(60_000, 60_000),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "ppm": b"P6 60000 60000 255\n" + bytes(100),
        "webp": bytes(webp),
    }


def test_huge_headers_are_refused_before_memory_is_allocated(
    portrait: PilImage.Image, tmp_path: Path
) -> None:
    """In a process that cannot have 256 MB more: decoding would need 10 GB."""
    pytest.importorskip("resource")
    for name, file in huge_headers(portrait).items():
        (tmp_path / f"huge.{name}").write_bytes(file)
    (tmp_path / "warm.png").write_bytes(encoded(portrait, "PNG"))
    script = """
import resource, sys
from pathlib import Path
from verifykit.errors import ImageError
from verifykit.image import load_image
folder = Path(sys.argv[1])
load_image(folder / "warm.png")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 256_000_000,) * 2)
for path in sorted(folder.glob("huge.*")):
    try:
        load_image(path)
    except ImageError as error:
        print(path.suffix, error)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 6, run
    assert all("pixels" in line or ".webp" in line for line in lines), run.stdout
    assert run.stderr == ""


def test_limits_can_be_changed(portrait: PilImage.Image, upright: Image, tmp_path: Path) -> None:
    file = encoded(portrait, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(file)
    pixels = portrait.width * portrait.height
    load_image(file, max_pixels=pixels, max_bytes=len(file))
    refused(file, "60 x 48", "max_pixels", max_pixels=pixels - 1)
    refused(upright, "60 x 48", "max_pixels", max_pixels=pixels - 1)
    refused(file, "max_bytes", max_bytes=len(file) - 1)
    refused(io.BytesIO(file), "max_bytes", max_bytes=len(file) - 1)
    refused(path, "a.png", "max_bytes", max_bytes=len(file) - 1)
    # A little over Pillow's own limit it only warns: refused by ours, and in silence.
    refused(png_header(10_000, 10_001), "10000 x 10001", "max_pixels")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4, 3), np.nan, np.float32), ("float32", "(4, 4, 3)", "NaN", "uint8")),
        (np.ones((4, 4, 3)), ("float64", "scale them to 0..255")),
        (np.ones((4, 4, 3), np.uint16), ("uint16", "257")),
        (np.ones((4, 4, 3), np.int64), ("int64", "uint8")),
        (np.ones((4, 4), bool), ("bool", "255")),
        (np.array([["a"]]), ("<U1",)),
        (np.array(None), ("object",)),
        (np.ones((4, 4, 4), np.uint8), ("(4, 4, 4)", "fromarray", "image_from_bgr")),
        (np.ones((4, 4, 2), np.uint8), ("(4, 4, 2)", "fromarray")),
        (np.ones((3, 4, 5), np.uint8), ("(3, 4, 5)", "transpose")),
        (np.ones((2, 4, 4, 3), np.uint8), ("(2, 4, 4, 3)", "one image at a time")),
        (np.ones(12, np.uint8), ("(12,)",)),
        (np.ones((0, 4, 3), np.uint8), ("no pixels",)),
        (np.ones((4, 0), np.uint8), ("no pixels",)),
    ],
)
def test_arrays_that_are_not_images(array: np.ndarray, words: tuple[str, ...]) -> None:
    refused(array, *words)


def test_objects_that_are_not_images(portrait: PilImage.Image, tmp_path: Path) -> None:
    refused(None, "None", "cv2.imread")
    refused([1, 2], "list", "one by one")
    refused(3, "builtins.int", "PIL.Image")
    refused(b"", "0 bytes")
    refused(io.BytesIO(), "0 bytes")
    with io.BytesIO(b"1") as closed:
        pass
    refused(closed, "closed")


def test_nothing_global_changes(portrait: PilImage.Image) -> None:
    before = (list(warnings.filters), PilImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    load_image(encoded(portrait, "PNG"))
    refused(png_header(60_000, 60_000))
    assert before == (
        list(warnings.filters),
        PilImage.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
    )


def test_warnings_already_shown_are_not_shown_again(portrait: PilImage.Image) -> None:
    script = """
import sys, warnings
from verifykit.image import load_image
image = sys.stdin.buffer.read()
for _ in range(3):
    warnings.warn("once")
    load_image(image)
"""
    run = subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        input=encoded(portrait, "PNG"),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert run.stderr.count(b"UserWarning: once") == 1


def test_the_limit_is_independent_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PilImage, "MAX_IMAGE_PIXELS", None)
    refused(png_header(60_000, 60_000), "60000 x 60000", "max_pixels")


def test_threads_do_not_disturb_each_other(portrait: PilImage.Image, upright: Image) -> None:
    good = encoded(portrait, "PNG")
    bomb = png_header(10_000, 10_001)
    before = list(warnings.filters)

    def load(number: int) -> bool:
        if number % 2:
            return bool((load_image(good) == upright).all())
        with pytest.raises(ImageError, match="max_pixels"):
            load_image(bomb)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(load, range(400)))
    assert list(warnings.filters) == before
