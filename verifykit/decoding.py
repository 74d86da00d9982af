"""The bytes of an image file -> uint8 RGB (H, W, 3), upright.

What the pixels mean is settled here, once: EXIF orientation applied, alpha laid on white, 16 bits
scaled to 8, the first frame of several. Nothing is guessed: values without a known range (float,
32-bit integer) are refused. Colour profiles are not applied.

Safe under threads, and Pillow's global settings are neither changed nor trusted.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from verifykit.errors import ImageError
from verifykit.types import Image

if TYPE_CHECKING:
    from PIL import Image as PilImage

__all__ = ["decode", "require_pixels"]

# In the order in which they are tried; what calls other programs (EPS) or is rare is left out.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000")

_TIFF_BITS, _TIFF_PHOTOMETRIC, _ORIENTATION = 258, 262, 274

_STRIP_PX = 1 << 18

_quiet_lock = threading.Lock()
_quiet_count = 0
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def require_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    """Refuse an image of no pixels or of too many.

    Args:
        height: Rows.
        width: Columns.
        name: What the error calls the image.
        max_pixels: The limit.

    Raises:
        ImageError: There are none, or more than ``max_pixels``.
    """
    if height < 1 or width < 1:
        raise ImageError(f"{name} holds no pixels (height {height}, width {width})")
    if height * width > max_pixels:
        raise ImageError(
            f"{name} is {height} x {width} pixels (height x width), more than the {max_pixels} "
            "that are allowed: scale the image down, or raise max_pixels"
        )


def decode(data: bytes, name: str, max_pixels: int) -> Image:
    """Decode an image file held in memory.

    Args:
        data: The file's bytes.
        name: What the error calls the image.
        max_pixels: Refuse more pixels than this, before decoding.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous, upright.

    Raises:
        ImageError: Not an image, of an unsupported format or pixel type, damaged, cut short or
            too large.
    """
    from PIL import Image as PilImage
    from PIL import UnidentifiedImageError

    try:
        with _pillow_is_quiet(), PilImage.open(io.BytesIO(data), formats=_FORMATS) as opened:
            require_pixels(opened.height, opened.width, name, max_pixels)
            _require_complete(data, opened.format, name)
            opened.load()
            return _oriented(_to_rgb(opened, name), _orientation(opened))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not an image, or one of a format that is not read; it begins with "
            f"{data[:12]!r}: convert it to JPEG or PNG"
        ) from error
    except PilImage.DecompressionBombError as error:
        raise ImageError(
            f"{name} has more pixels than Pillow opens ({error}): scale the image down"
        ) from error
    # Pillow's decoders raise nearly anything on damaged bytes; all of it means the same.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{name} is damaged or cut short ({reason}): copy or export it again"
        ) from error


def _require_complete(data: bytes, file_format: str | None, name: str) -> None:
    """Find missing bytes that Pillow overlooks, or was told to overlook by the application."""
    if file_format in {"JPEG", "MPO"}:
        # The end marker; searched from the scan's start, since an EXIF thumbnail has its own.
        complete = data.find(b"\xff\xd9", max(_start_of_scan(data), 0)) >= 0
    elif file_format == "PNG":
        complete = _png_reaches_end(data)
    else:
        return
    if not complete:
        raise ImageError(f"{name} is cut short (its end is missing): copy or export it again")


def _start_of_scan(data: bytes) -> int:
    at = 2
    while 0 <= at < len(data) - 4:
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)
        elif data[at + 1] == 0xDA:
            return at
        elif data[at + 1] in {0x00, 0x01, 0xFF} or 0xD0 <= data[at + 1] <= 0xD8:
            at += 1 if data[at + 1] == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data)


def _png_reaches_end(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + size
    return False


def _to_rgb(opened: PilImage.Image, name: str) -> Image:
    """The decoded image as uint8 RGB, before its orientation is applied."""
    from PIL import Image as PilImage
    from PIL import ImageChops

    mode = opened.mode
    if mode == "F" or (mode == "I" and opened.format not in {"PNG", "PPM"}):
        kind = "floating-point" if mode == "F" else "signed or 32-bit"
        raise ImageError(
            f"{name} holds {kind} values, whose range is not known: export it with 8 or 16 bits"
        )
    if mode == "I" or mode.startswith("I;16"):
        return _from_16_bit(opened, name)
    if mode == "CMYK" and opened.format == "JPEG" and "adobe" not in opened.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, which are stored inverted.
        return _pixels(ImageChops.invert(opened).convert("RGB"))
    if mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in opened.info:
        straight = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
        picture = opened.convert(straight).convert("RGBA")
        white = PilImage.new("RGBA", picture.size, "white")
        return _pixels(PilImage.alpha_composite(white, picture).convert("RGB"))
    return _pixels(opened if mode == "RGB" else opened.convert("RGB"))


def _pixels(picture: PilImage.Image) -> Image:
    """An RGB picture as an array of its own.

    Large ones strip by strip: a strip's buffer stays in the processor's cache, where Pillow's
    copy of a whole photograph costs nearly as much time as decoding it.
    """
    rows = _STRIP_PX // picture.width
    if rows >= picture.height or rows == 0:
        return np.array(picture)
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, picture.width, bottom)))
    return pixels


def _from_16_bit(opened: PilImage.Image, name: str) -> Image:
    bits = getattr(opened, "tag_v2", {}).get(_TIFF_BITS, (16,))
    white_is_zero = getattr(opened, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
    if bits != (16,) or white_is_zero:
        stored = "white as zero" if white_is_zero else f"{bits} bits"
        raise ImageError(f"{name} is grey with {stored}, which is not read: export it with 8 bits")
    values = np.asarray(opened).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)
    hidden = opened.info.get("transparency")
    if isinstance(hidden, int):
        grey[values == hidden] = 255
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _orientation(opened: PilImage.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or the EXIF data are damaged."""
    try:
        value = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - the pixels are sound all the same
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _oriented(pixels: Image, orientation: int) -> Image:
    """Undo what the camera's position did: EXIF 2.32, tag 0x0112."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def _pillow_is_quiet() -> Iterator[None]:
    """Keep Pillow's warnings from callers, and from becoming errors under ``-W error``.

    ``warnings.catch_warnings`` is not safe under threads, and makes every warning of the
    application that was already shown once appear again. One filter more does neither.
    """
    global _quiet_count
    with _quiet_lock:
        _quiet_count += 1
        if _quiet_count == 1:
            warnings.filters.insert(0, _QUIET)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_count -= 1
            if _quiet_count == 0:
                with suppress(ValueError):
                    warnings.filters.remove(_QUIET)  # type: ignore[attr-defined]
