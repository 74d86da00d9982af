"""Formats that plugins decode, and which decoders may see bytes at all."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageFile

from tests.helpers.encoded_images import encoded
from verifykit import formats
from verifykit.errors import ImageError, InputError
from verifykit.formats import allow_format, jxl_header, readable_formats
from verifykit.image import load_image
from verifykit.types import Image

NEEDS = {"AVIF": "PIL", "HEIF": "pillow_heif", "JXL": "pillow_jxl"}
LOSSLESS = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
    "JXL": {"lossless": True},
}


@pytest.fixture(params=NEEDS)
def modern(request: pytest.FixtureRequest) -> str:
    """A format whose plugin is here, registered as the first file of it does."""
    name = str(request.param)
    pytest.importorskip(NEEDS[name])
    if not formats.readable_formats()[{"HEIF": "HEIC", "JXL": "JPEG XL"}.get(name, name)]:
        pytest.skip(f"{name} cannot be read here")
    return name


def test_modern_formats_are_read(portrait: PilImage.Image, upright: Image, modern: str) -> None:
    loaded = load_image(encoded(portrait, modern, **LOSSLESS[modern]))
    assert np.abs(loaded.astype(int) - upright).max() <= (3 if modern == "AVIF" else 0)
    assert loaded.flags.c_contiguous


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_modern_formats_grey_and_transparent(
    portrait: PilImage.Image, modern: str, mode: str
) -> None:
    image = portrait.convert(mode)
    if mode == "RGBA":
        image.putalpha(PilImage.linear_gradient("L").resize(portrait.size))
    loaded = load_image(encoded(image, modern, **LOSSLESS[modern])).astype(int)
    assert np.abs(loaded - load_image(image)).mean() < 2


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_orientation_of_modern_formats(
    portrait: PilImage.Image, upright: Image, modern: str, orientation: int
) -> None:
    turns = {
        3: PilImage.Transpose.ROTATE_180,
        6: PilImage.Transpose.ROTATE_90,
        8: PilImage.Transpose.ROTATE_270,
    }
    stored = portrait.transpose(turns[orientation]) if orientation in turns else portrait
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    file = encoded(stored, modern, exif=exif.tobytes(), **LOSSLESS[modern])
    assert np.abs(load_image(file).astype(int) - upright).mean() < 2
    opened = PilImage.open(io.BytesIO(file))
    assert np.abs(load_image(opened).astype(int) - upright).mean() < 2


def test_damaged_modern_formats(portrait: PilImage.Image, modern: str) -> None:
    file = encoded(portrait, modern)
    for cut in (1, 10, 100, len(file) // 2, len(file) - 60):
        with pytest.raises(ImageError, match="damaged or truncated"):
            load_image(file[:-cut])


def test_modern_formats_of_too_many_pixels_are_not_decoded(
    portrait: PilImage.Image, modern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encoded(portrait, modern)
    if modern == "JXL":  # its plugin decodes as it opens
        monkeypatch.setitem(PilImage.OPEN, "JXL", (_must_not_open, PilImage.OPEN["JXL"][1]))
    monkeypatch.setattr(ImageFile.ImageFile, "load", _must_not_open)
    with pytest.raises(ImageError, match="max_pixels"):
        load_image(file, max_pixels=portrait.width * portrait.height - 1)


def _must_not_open(*_: object) -> ImageFile.ImageFile:
    raise AssertionError("bytes were decoded")


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (256, 256), (257, 3), (512, 600), (1024, 768), (40, 30), (9000, 2)]
)
def test_the_header_of_jpeg_xl(size: tuple[int, int]) -> None:
    pytest.importorskip("pillow_jxl")
    formats.readable_formats()
    width, height = size
    for container in (False, True):
        file = encoded(PilImage.new("L", size), "JXL", use_container=container)
        assert jxl_header(file) == (height, width, 1)


MISSING = """
import sys
from verifykit.errors import ImageError
from verifykit.formats import readable_formats
from verifykit.image import load_image
for module in ("pillow_heif", "_pillow_heif", "pillow_jxl", "PIL.AvifImagePlugin"):
    sys.modules[module] = None
for path in sys.argv[1:]:
    try:
        load_image(path)
    except ImageError as error:
        print(error)
print([name for name, readable in readable_formats().items() if not readable])
"""


def test_a_missing_plugin_is_named_with_what_to_install(
    portrait: PilImage.Image, tmp_path: Path
) -> None:
    pytest.importorskip("pillow_heif")
    pytest.importorskip("pillow_jxl")
    formats.readable_formats()
    paths = []
    for name in ("AVIF", "HEIF", "JXL"):
        if name in PilImage.SAVE:
            paths.append(tmp_path / f"a.{name}")
            paths[-1].write_bytes(encoded(portrait, name))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", MISSING, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *lines, unreadable = run.stdout.splitlines()
    assert unreadable == "['AVIF', 'HEIC', 'JPEG XL']"
    told = {path.suffix: line for path, line in zip(paths, lines, strict=True)}
    assert "HEIC" in told[".HEIF"]
    assert 'pip install "verifykit-sdk[heif]"' in told[".HEIF"]
    assert "JPEG XL" in told[".JXL"]
    assert "pip install pillow-jxl-plugin" in told[".JXL"]
    assert "pillow>=11.3" in told.get(".AVIF", "pillow>=11.3")


@pytest.fixture
def no_format_stays_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "allowed_formats", ())


@pytest.mark.usefixtures("no_format_stays_allowed")
def test_only_allowed_decoders_see_bytes(
    portrait: PilImage.Image, upright: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plugin(ImageFile.ImageFile):
        format = "MADE"

        def _open(self) -> None:
            assert self.fp is not None
            seen.append(self.fp.read(4))
            self._size, self._mode = (2, 1), "L"
            self.tile = [("raw", (0, 0, 2, 1), 4, ("L", 0, 1))]

    seen: list[bytes] = []
    for table, value in ((PilImage.OPEN, (Plugin, lambda head: head[:4] == b"MADE")),):
        monkeypatch.setitem(table, "MADE", value)
    file = b"MADE\x07\x09"
    icon = encoded(portrait, "ICO", sizes=[portrait.size])
    for data in (file, icon):
        with pytest.raises(ImageError, match="not an image"):
            load_image(data)
    assert seen == []
    allow_format("made")
    allow_format("MADE")
    allow_format("JPEG")
    assert load_image(file)[..., 0].tolist() == [[7, 9]]
    assert readable_formats()["MADE"]
    with pytest.raises(ImageError, match="not an image"):
        load_image(icon)
    allow_format("ICO")
    np.testing.assert_array_equal(load_image(icon), upright)


@pytest.mark.parametrize("name", ["EPS", "wmf", "NOTHING", "", 3])
def test_formats_that_cannot_be_allowed(name: str) -> None:
    with pytest.raises(InputError, match=r"not allowed|no plugin"):
        allow_format(name)


def test_pillow_s_own_limit_of_pixels_has_no_part(
    portrait: PilImage.Image, upright: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it `PIL.Image.open` warns, and beyond twice of it refuses."""
    for limit in (portrait.width * portrait.height // 3, portrait.width * portrait.height - 1):
        monkeypatch.setattr(PilImage, "MAX_IMAGE_PIXELS", limit)
        for file_format in ("PNG", "BMP", "JPEG2000"):
            file = encoded(portrait, file_format)
            np.testing.assert_array_equal(load_image(file), upright)
            with pytest.raises(ImageError, match="max_pixels"):
                load_image(file, max_pixels=limit)


def test_where_pillow_s_limit_has_a_part_the_message_says_so(
    portrait: PilImage.Image, upright: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bomb(*_: object) -> None:
        raise PilImage.DecompressionBombError("exceeds limit")

    file = encoded(portrait, "PNG")
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", bomb)
        with pytest.raises(ImageError, match=r"raise PIL\.Image\.MAX_IMAGE_PIXELS too"):
            load_image(file)
    tiff = encoded(portrait, "TIFF")
    monkeypatch.setattr(PilImage, "MAX_IMAGE_PIXELS", None)  # the advice
    np.testing.assert_array_equal(load_image(tiff), upright)


@pytest.mark.slow
def test_a_photograph_of_200_megapixels() -> None:
    file = encoded(PilImage.new("L", (16_320, 12_240), 200), "JPEG")
    with pytest.raises(ImageError, match=r"12240 x 16320 pixels \(height x width\)"):
        load_image(file)
    loaded = load_image(file, max_pixels=200_000_000)
    assert loaded.shape == (12_240, 16_320, 3)
    assert load_image(loaded, max_pixels=200_000_000) is loaded
