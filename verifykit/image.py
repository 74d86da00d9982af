"""Load an image from any source (path, bytes, file object, array, ``PIL.Image``) as uint8 RGB, upright.

EXIF orientation is applied, transparency is composited on white, 16 bits are scaled to 8, and of several
frames the first is taken. Values without a known range (float, 32-bit integer) are refused. Color profiles
are not applied. Safe under threads; Pillow's global settings are neither changed nor trusted.
"""

from __future__ import annotations

import base64
import inspect
import io
import os
import re
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import ImageError, shortened, shortened_path, shown
from verifykit.formats import jxl_header, open_file
from verifykit.types import Image, ImageLike

if TYPE_CHECKING:
    from PIL import Image as PilImage

_TIFF_BITS, _TIFF_PHOTOMETRIC, _ORIENTATION = 258, 262, 274
_TIFF_SUBFILE = 254  # bit 0: a reduced copy of another page (TIFF 6.0, NewSubfileType)
_MOST_REDUCED = 100
_MPO_ENTRIES = 0xB002  # CIPA DC-007, 5.2.3

_STRIP_PX, _WHOLE_PX = 1 << 18, 1 << 20
_REDUCIBLE = frozenset({"JPEG", "MPO"})

_quiet_lock = threading.Lock()
_quiet_count = 0
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """The pixels of an image, and what its file holds besides.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous, upright.
        has_further_frames: Whether pages or frames follow the first, which were not read.
        reduction: Pixels of the file, in each direction, for each of ``pixels``: 1, 2, 4 or 8.
        size_px: Height and width of the whole image, upright.
        decode_whole: Decodes a reduced image again, at its full size; None for one that is whole.
    """

    pixels: Image
    has_further_frames: bool = False
    reduction: int = 1
    size_px: tuple[int, int] = (0, 0)
    decode_whole: Callable[[], LoadedImage] | None = None

    def __post_init__(self) -> None:
        if self.reduction == 1:
            object.__setattr__(self, "size_px", self.pixels.shape[:2])

    def whole(self) -> LoadedImage:
        """Return the image at its full size."""
        return self if self.decode_whole is None else self.decode_whole()


def require_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    """Raise :class:`ImageError` for an image without pixels or with more than ``max_pixels``."""
    if height < 1 or width < 1:
        raise ImageError(f"{name} has no pixels (height {height}, width {width})")
    if height * width > max_pixels:
        raise ImageError(
            f"{name} is {height} x {width} pixels (height x width), more than the {max_pixels} "
            "that are allowed: scale the image down, or raise max_pixels (--max-pixels)"
        )


def decode(
    data: bytes, name: str, max_pixels: int, least_side_px: int | None = None
) -> LoadedImage:
    """Return the first page or frame of an encoded file, upright, and whether more follow.

    A JPEG whose longer side is at least twice ``least_side_px`` is decoded at a half, a quarter or an eighth
    of its size, as long as that side keeps ``least_side_px``.

    Raises:
        ImageError: Not an image, of an unsupported format or pixel type, damaged, truncated or too large.
    """
    from PIL import Image as PilImage

    def allowed(height: int, width: int) -> None:
        require_pixels(height, width, name, max_pixels)

    try:
        with _pillow_is_quiet():
            opened = open_file(data, name, allowed)
            if opened is None:
                raise ImageError(  # noqa: TRY301
                    f"{name} is not an image, or has an unsupported format; it begins with "
                    f"{shown(data[:12])}: {_advice_for(data)}"
                )
            with opened:
                _require_complete(data, opened.format, name)
                size_px, reduction = opened.size, _reduce(opened, least_side_px)
                opened.load()
                orientation = _orientation(opened)
                # The decoder has undone that of the codestream, which goes before that of EXIF.
                if opened.format == "JXL" and jxl_header(data)[2] != 1:
                    orientation = 1
                pixels = _oriented(_to_rgb(opened, name), orientation)
                return LoadedImage(
                    pixels,
                    has_further_frames(opened),
                    reduction,
                    size_px if orientation >= 5 else size_px[::-1],
                    partial(decode, data, name, max_pixels) if reduction > 1 else None,
                )
    except ImageError:
        raise
    except PilImage.DecompressionBombError as error:
        raise ImageError(
            f"{name} has more pixels than Pillow decodes in this format ({shortened(str(error))}): scale the "
            "image down, convert it to JPEG or PNG, or raise PIL.Image.MAX_IMAGE_PIXELS too"
        ) from error
    # Pillow's decoders raise nearly any exception on damaged bytes.
    except Exception as error:
        reason = shortened(str(error).partition("\n")[0].strip()) or type(error).__name__
        raise ImageError(
            f"{name} is damaged or truncated ({reason}): copy or export it again"
        ) from error


def _advice_for(data: bytes) -> str:
    if _BASE64_BYTES.match(data):
        return "it looks like base64: decode it first, or pass it as a data URL"
    return "convert it to JPEG or PNG"


_BASE64_BYTES = re.compile(rb"\s*[A-Za-z0-9+/_-]{60}")


def has_further_frames(opened: PilImage.Image) -> bool:
    """Return whether pages or frames follow the first; smaller copies of it do not count."""
    try:
        if opened.format == "TIFF":
            return _has_further_pages(opened)
        if opened.format == "MPO":
            entries = opened.mpinfo[_MPO_ENTRIES][1:]  # type: ignore[attr-defined]
            kinds = [entry["Attribute"]["MPType"] for entry in entries]
            return not all(kind.startswith("Large Thumbnail") for kind in kinds)
        # Not the number of frames: it takes a walk over all of them.
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # noqa: BLE001 - the first is sound, and something that cannot be read follows
        return True


def _has_further_pages(opened: PilImage.Image) -> bool:
    for number in range(1, _MOST_REDUCED):
        try:
            opened.seek(number)
        except EOFError:
            return False
        if not int(getattr(opened, "tag_v2", {}).get(_TIFF_SUBFILE, 0)) & 1:
            return True
    return True


def file_has_further_frames(data: bytes) -> bool:
    """Return whether the file's bytes hold pages or frames behind the first; nothing is decoded."""
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):  # whose plugin decodes when it opens
        return False
    try:
        with _pillow_is_quiet():
            opened = open_file(data, "it", lambda _height, _width: None)
            return opened is not None and has_further_frames(opened)
    except Exception:  # noqa: BLE001 - decoding says what is wrong
        return False


def _reduce(opened: PilImage.Image, least_side_px: int | None) -> int:
    """Have a JPEG decoded at a reduced scale, if its longer side allows; return by how much it is reduced.

    The decoder leaves out the high frequencies (DCT scaling), which aliases no more than a reduction by area.
    """
    if least_side_px is None or opened.format not in _REDUCIBLE:
        return 1
    side_px = max(opened.size)
    reduction = next((by for by in (8, 4, 2) if side_px >= by * least_side_px), 1)
    size = (opened.width // reduction, opened.height // reduction)
    if reduction == 1 or min(size) < 1 or opened.draft(None, size) is None:
        return 1
    return round(side_px / max(opened.size))


def _from_pil(image: PilImage.Image, max_pixels: int, least_side_px: int | None) -> LoadedImage:
    """Return a Pillow image as a file of it is decoded; of several frames the current one is taken."""
    name = f"the Pillow image ({image.mode}, {image.height} x {image.width})"
    require_pixels(image.height, image.width, name, max_pixels)
    try:
        with _pillow_is_quiet():
            reduced = _reduced_pil(image, name, least_side_px)
            if reduced is not None:
                return reduced
            image.load()
            pixels = _oriented(_to_rgb(image, name), _orientation(image))
            return LoadedImage(pixels, _is_first_of_several(image))
    except ImageError:
        raise
    except Exception as error:
        reason = shortened(str(error).partition("\n")[0].strip()) or type(error).__name__
        raise ImageError(
            f"{name} cannot be decoded ({reason}): open the file again, or pass its path"
        ) from error


def _reduced_pil(image: PilImage.Image, name: str, least_side_px: int | None) -> LoadedImage | None:
    """Return a JPEG that was opened and not yet decoded at a reduced scale; the object itself stays so.

    None for any other image, and for one whose file does not agree with it, as after its ``draft``.
    """
    file = getattr(image, "fp", None)
    if least_side_px is None or image.format != "JPEG" or file is None or not image.tile:  # type: ignore[attr-defined]
        return None
    if max(image.size) < 2 * least_side_px:
        return None
    from PIL.JpegImagePlugin import JpegImageFile

    at = file.tell()
    try:
        file.seek(0)
        opened = JpegImageFile(io.BytesIO(file.read()), "")
    except (OSError, SyntaxError, ValueError):
        return None  # its bytes begin elsewhere in the file
    finally:
        file.seek(at)
    with opened:
        is_same = (opened.size, opened.mode) == (image.size, image.mode)
        if not is_same or (reduction := _reduce(opened, least_side_px)) == 1:
            return None
        opened.load()
        orientation = _orientation(image)
        return LoadedImage(
            _oriented(_to_rgb(opened, name), orientation),
            reduction=reduction,
            size_px=image.size if orientation >= 5 else image.size[::-1],
            decode_whole=partial(_from_pil, image, image.width * image.height, None),
        )


def _is_first_of_several(image: PilImage.Image) -> bool:
    """Return whether frames follow in an image's file; a frame that the caller chose is what it is."""
    if image.format is None or image.tell():
        return False
    if image.format == "TIFF":  # to seek would undo what the caller did to the pixels
        return bool(getattr(getattr(image, "tag_v2", None), "next", 0))
    return has_further_frames(image)


def _require_complete(data: bytes, file_format: str | None, name: str) -> None:
    """Raise for missing bytes that Pillow overlooks, or that the application set it to overlook."""
    if file_format in {"JPEG", "MPO"}:
        # The end marker; searched from the scan's start, since an EXIF thumbnail has its own.
        complete = data.rfind(b"\xff\xd9", max(_start_of_scan(data), 0)) >= 0
    elif file_format == "PNG":
        complete = _png_reaches_end(data)
    else:
        return
    if not complete:
        raise ImageError(f"{name} is truncated (its end is missing): copy or export it again")


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
    """Return the decoded image as uint8 RGB, before its orientation is applied."""
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
        straight_rgba = opened.convert(straight).convert("RGBA")
        white = PilImage.new("RGBA", straight_rgba.size, "white")
        return _pixels(PilImage.alpha_composite(white, straight_rgba).convert("RGB"))
    if mode == "LAB":
        raise ImageError(
            f"{name} has Lab colors, which depend on a profile: convert it to sRGB, for example with "
            "PIL.ImageCms"
        )
    return _pixels(opened if mode == "RGB" else opened.convert("RGB"))


def _pixels(image: PilImage.Image) -> Image:
    """Return an RGB image as an array of its own.

    Pillow keeps four bytes a pixel; to copy them as they are and drop the fourth in OpenCV is faster than
    Pillow's packing. Large images are copied in strips, which stay in the processor's cache.
    """
    import cv2

    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = (
        max(1, _STRIP_PX // image.width) if image.height * image.width > _WHOLE_PX else image.height
    )
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image if rows == image.height else image.crop((0, top, image.width, bottom))
        padded = np.frombuffer(strip.tobytes("raw", "RGBX"), np.uint8)
        cv2.cvtColor(
            padded.reshape(bottom - top, image.width, 4), cv2.COLOR_RGBA2RGB, dst=pixels[top:bottom]
        )
    return pixels


def _from_16_bit(opened: PilImage.Image, name: str) -> Image:
    bits = getattr(opened, "tag_v2", {}).get(_TIFF_BITS, (16,))
    white_is_zero = getattr(opened, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
    if bits != (16,) or white_is_zero:
        stored = "white as zero" if white_is_zero else f"{bits} bits"
        raise ImageError(
            f"{name} is grey with {stored}, which is not supported: export it with 8 bits"
        )
    values = np.asarray(opened).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)
    hidden = opened.info.get("transparency")
    if isinstance(hidden, int):
        grey[values == hidden] = 255
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _orientation(opened: PilImage.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 without one or with damaged EXIF data."""
    try:
        value = opened.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - the pixels are sound
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _oriented(pixels: Image, orientation: int) -> Image:
    """Return the pixels with the EXIF orientation undone: EXIF 2.32, tag 0x0112."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def _pillow_is_quiet() -> Iterator[None]:
    """Hide Pillow's warnings from callers, and keep them from becoming errors under ``-W error``.

    ``warnings.catch_warnings`` is not safe under threads, and shows warnings of the application again that
    were already shown once. One additional filter does neither.
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


MAX_PIXELS = 100_000_000
"""Height x width beyond which an image is refused before it is decoded."""

MAX_BYTES = 100_000_000
"""File size beyond which an image is refused before it is read."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DATA_URL = re.compile(r"\s{0,16}data:[^,]{0,256},", re.IGNORECASE)


def load_image(
    image: ImageLike, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image:
    """Return the image in a path, encoded bytes, a data URL, an open binary file, an array or a Pillow image.

    Files: JPEG, PNG, GIF, BMP, PNM, WebP, TIFF, JPEG 2000 and AVIF, with plugins HEIC and JPEG XL, and what
    :func:`~verifykit.allow_format` adds. Grey, palette, bilevel and CMYK
    become RGB; transparency is composited on white; 16 bits are scaled to 8 (within one level); the EXIF
    orientation is applied; of several frames the first is taken. A ``PIL.Image`` is decoded as a file of it,
    with the EXIF orientation that it carries. Arrays: uint8 RGB (H, W, 3), or
    uint8 grey (H, W) or (H, W, 1); an array with four channels is refused, since its fourth channel is not
    known to be transparency. For arrays of OpenCV see :func:`~verifykit.image_from_bgr`.

    Args:
        image: A path, the bytes of an image file, a data URL in base64, a binary file object, an array or a
            ``PIL.Image``. A file object is read from its position; if no image begins there and it can be
            rewound, from its start; its position stays, and it is left open. A contiguous uint8 RGB array is
            returned as it is, not copied.
        max_pixels: Refuse images of more pixels (height x width) than this, before decoding.
        max_bytes: Refuse files of more bytes than this, before reading the rest.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous; H and W are at least 1.

    Raises:
        ImageError: It is missing, unreadable, damaged, truncated, too large, of an unsupported
            format, or an array of another dtype or shape. The message says which, and what to do.
    """
    return read_image(image, max_pixels=max_pixels, max_bytes=max_bytes).pixels


def read_image(
    image: ImageLike,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    least_side_px: int | None = None,
) -> LoadedImage:
    """Return what :func:`load_image` does, and whether pages or frames were not read.

    With ``least_side_px`` a large JPEG is decoded at a reduced scale: see :func:`decode`. An array has been
    decoded already, and is taken as it is.
    """
    if isinstance(image, np.ndarray):
        return LoadedImage(_from_array(image, max_pixels))
    if is_pillow(image):
        return _from_pil(cast("PilImage.Image", image), max_pixels, least_side_px)
    if hasattr(image, "read") and not isinstance(image, os.PathLike):
        return _from_file(image, max_pixels, max_bytes, least_side_px)
    name = _describe(image)
    data = _read(image, name, max_bytes)
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): copy or download it again")
    return decode(data, name, max_pixels, least_side_px)


def image_from_bgr(array: NDArray[Any], *, max_pixels: int = MAX_PIXELS) -> Image:
    """Return an array of OpenCV (``cv2.imread``, ``VideoCapture.read``) as an image for every verb.

    An array was decoded at its full size; a verb that is given the path of a large JPEG decodes it at a
    reduced scale, which is faster.

    Args:
        array: uint8, (H, W, 3) in the order blue, green, red, (H, W, 4) with alpha, which is composited on
            white, or grey (H, W).
        max_pixels: Refuse images of more pixels (height x width) than this.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        ImageError: None, which ``cv2.imread`` returns for a missing file, or another dtype or shape.
    """
    if not isinstance(array, np.ndarray):
        raise ImageError(_other_object(array))
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
        return _from_array(array, max_pixels)
    require_pixels(array.shape[0], array.shape[1], _got(array), max_pixels)
    if array.shape[2] == 3:
        return np.ascontiguousarray(array[..., ::-1])
    from PIL import Image as PilImage

    straight = PilImage.fromarray(np.ascontiguousarray(array[..., [2, 1, 0, 3]]))
    return _to_rgb(straight, _got(array))


def is_pillow(image: object) -> bool:
    """Return whether an object is a Pillow image, without importing Pillow."""
    # Another thread may be importing it, and have it without its class.
    kind = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return kind is not None and isinstance(image, kind)


def image_name(image: ImageLike, index: int) -> str:
    """Return the path or file name of an image for reports, or ``"image 3"`` for its place in a list.

    A name of more than 80 characters is shortened; a data URL has none.
    """
    if isinstance(image, str) and _DATA_URL.match(image):
        return f"image {index}"
    if isinstance(image, (str, os.PathLike)):
        return shortened(os.fsdecode(image))
    name = getattr(image, "filename" if is_pillow(image) else "name", None)
    return shortened(name) if isinstance(name, str) and name else f"image {index}"


def base64_bytes(text: str) -> bytes:
    """Return the bytes of base64 of either alphabet, also in lines, and with or without padding.

    Raises:
        ValueError: A character of neither alphabet, or an impossible length; the message has no input.
    """
    compact = text.translate(_BASE64)
    if not compact.isascii():
        raise ValueError("it has characters that base64 does not have")
    compact = compact.rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError as error:
        if _NOT_BASE64.search(compact):
            raise ValueError("it has characters that base64 does not have") from error
        raise ValueError(f"{len(compact)} characters are not a length of base64") from error


_BASE64 = str.maketrans("-_", "+/", " \t\r\n\f\v")
# Line breaks that became spaces are at equal distances, and one at least follows 64 characters.
_SPACE_FOR_PLUS = re.compile(r"(?<!\S)[^\s]{1,55} (?=\S)")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def encoded_image(text: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of an image file in a data URL, or in base64.

    Raises:
        ValueError: It is neither, or longer than ``max_bytes``; the message has no input.
    """
    head = _DATA_URL.match(text)
    if head is not None:
        if not head[0][:-1].lower().endswith(";base64"):
            raise ValueError("a data URL of an image begins with data:image/jpeg;base64,")
        text = text[head.end() :]
        if "%" in text:
            text = unquote(text)
    if len(text) // 4 * 3 > 2 * max_bytes:  # lines and padding have no bytes
        raise ValueError(f"it is larger than {max_bytes} bytes: scale the image down")
    if _SPACE_FOR_PLUS.search(text):
        raise ValueError(
            "it has single spaces within base64, as a + becomes in a form: encode the text with "
            "encodeURIComponent, or send it as JSON"
        )
    return base64_bytes(text)


def _describe(image: object) -> str:
    """Return the name of an image for error messages."""
    if isinstance(image, str) and _DATA_URL.match(image):
        return f"the data URL ({len(image)} characters)"
    if isinstance(image, (str, os.PathLike)):
        return shown(os.fsdecode(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"the image in memory ({len(image)} bytes)"
    name = getattr(image, "name", None)
    return f"the open file {shown(name)}" if isinstance(name, str) and name else "the open file"


def _read(image: object, name: str, max_bytes: int) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _encoded(bytes(image), name, max_bytes)
    if isinstance(image, str) and _DATA_URL.match(image):
        return _read_data_url(image, name, max_bytes)
    if isinstance(image, (str, os.PathLike)):
        return _read_path(os.fspath(image), name, max_bytes)
    raise ImageError(_other_object(image))


def _encoded(data: bytes, name: str, max_bytes: int) -> bytes:
    """Return the bytes of an image file, which may be within a data URL."""
    if _DATA_URL.match(data[:300].decode("latin-1")):
        return _read_data_url(data.decode("latin-1"), name, max_bytes)
    _require_size(len(data), name, max_bytes)
    return data


def _read_data_url(url: str, name: str, max_bytes: int) -> bytes:
    try:
        data = encoded_image(url, max_bytes)
    except ValueError as error:
        raise ImageError(f"{name} cannot be read: {error}") from error
    _require_size(len(data), name, max_bytes)
    return data


def _other_object(image: object) -> str:
    if image is None:
        return (
            "got None in place of an image: cv2.imread returns None for a file that is missing or that it "
            "cannot read; check the path, or pass the path itself"
        )
    if isinstance(image, (list, tuple)):
        return f"got a {type(image).__name__} in place of an image: pass the images one by one"
    return (
        "an image is a path, bytes, a data URL, a binary file object, a PIL.Image or a uint8 array "
        f"(H, W, 3), RGB, got {shortened(f'{type(image).__module__}.{type(image).__qualname__}')}: save "
        "the image to a file, and pass its path"
    )


def _from_file(
    file: Any, max_pixels: int, max_bytes: int, least_side_px: int | None
) -> LoadedImage:
    """Return the image in an open file, from its position or else from its start; the position stays."""
    name = _describe(file)
    at = _position(file)
    try:
        data = _read_file(file, name, max_bytes)
        if at and not _begins_image(data, max_pixels):
            file.seek(0)
            data = _read_file(file, name, max_bytes)
    finally:
        if at is not None:
            file.seek(at)
    if not data and at is None:
        raise ImageError(
            f"{name} gives no bytes, and it cannot be rewound: it was read before, or is empty; read it "
            "once and pass the bytes"
        )
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): copy or download it again")
    return decode(_encoded(data, name, max_bytes), name, max_pixels, least_side_px)


def _begins_image(data: bytes, max_pixels: int) -> bool:
    """Return whether a decoder recognises the bytes; a damaged image is one too."""

    def allowed(height: int, width: int) -> None:
        require_pixels(height, width, "it", max_pixels)

    try:
        with _pillow_is_quiet():
            return open_file(data, "it", allowed) is not None
    except ImageError:
        return True
    except Exception:  # noqa: BLE001 - decoders raise nearly any
        return False


def _position(file: Any) -> int | None:
    """Return the position of a file that can be rewound, else None."""
    try:
        at = file.tell()
        file.seek(at)
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return at if isinstance(at, int) else None


def _read_file(file: Any, name: str, max_bytes: int) -> bytes:
    is_text = ImageError(f"{name} is open as text: open it with mode 'rb'")
    if isinstance(file, io.TextIOBase):
        raise is_text
    parts: list[bytes] = []
    size = 0
    while size <= max_bytes:
        try:
            part = file.read(max_bytes + 1 - size)
        except UnicodeDecodeError as error:
            raise is_text from error
        except io.UnsupportedOperation as error:
            raise ImageError(f"{name} is not open for reading: open it with mode 'rb'") from error
        except (OSError, ValueError) as error:
            raise ImageError(f"{name} cannot be read: {shortened(str(error))}") from error
        if inspect.isawaitable(part):
            getattr(part, "close", lambda: None)()
            raise ImageError(
                f"{name} is asynchronous: pass the bytes that `await file.read()` returns"
            )
        if isinstance(part, str):
            raise is_text
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise ImageError(
                f"{name} gave {type(part).__name__}, not bytes: read it, and pass the bytes"
            )
        if not part:
            break
        parts.append(bytes(part))
        size += len(part)
    _require_size(size, name, max_bytes)
    return b"".join(parts)


def _read_path(path: str | bytes, name: str, max_bytes: int) -> bytes:
    if isinstance(path, str) and _URL.match(path):
        raise ImageError(f"{name} is a URL, and URLs are not fetched: download the image first")
    try:
        # To open a named pipe blocks until it has a writer, to read a terminal or device for ever.
        mode = os.stat(path).st_mode  # noqa: PTH116 - also for paths of bytes
        if not (stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and _is_open(path))):
            raise ImageError(f"{name} is {_kind_of_file(mode)}")  # noqa: TRY301
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - also for paths of bytes
            size = os.fstat(file.fileno()).st_size
            _require_size(size, name, max_bytes)
            data = _read_unbuffered(file, size, max_bytes)
    except FileNotFoundError as error:
        raise ImageError(
            f"{name} does not exist: check the path{_maybe_base64(path)}"
        ) from shortened_path(error)
    except ImageError:  # is a ValueError too
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shortened(str(error))
        raise ImageError(
            f"{name} cannot be read: {reason}{_maybe_base64(path)}"
        ) from shortened_path(error)
    _require_size(len(data), name, max_bytes)
    return data


def _read_unbuffered(file: io.FileIO, size: int, max_bytes: int) -> bytes:
    """Return a file's bytes, which may be more than its size says, up to one more than ``max_bytes``."""
    parts, total, next_size = [], 0, size + 1
    while total <= max_bytes and (part := file.read(next_size)):
        parts.append(part)
        total += len(part)
        next_size = min(1 << 20, max_bytes + 1 - total)
    return b"".join(parts)


def _is_open(path: str | bytes) -> bool:
    """Return whether a path is one of a descriptor of this process, as a shell gives for ``<(command)``."""
    return os.fsdecode(path).startswith(("/dev/fd/", "/proc/self/fd/", "/dev/stdin"))


def _kind_of_file(mode: int) -> str:
    """Return what a path that is no regular file is, and what to do."""
    if stat.S_ISDIR(mode):
        return "a directory: pass the image files in it one by one"
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return f"{kind}, not a regular file: open it, and pass the open file or its bytes"


def _maybe_base64(path: str | bytes) -> str:
    if len(path) <= _MOST_PATH:
        return ""
    return "; an image in base64 is passed decoded, or as a data URL (data:image/jpeg;base64,...)"


# Longer texts are hardly ever paths.
_MOST_PATH = 255


def _require_size(size: int, name: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(
            f"{name} is larger than {max_bytes} bytes: scale the image down, or raise max_bytes"
        )


def _got(array: NDArray[Any]) -> str:
    return (
        f"an array of dtype {shortened(str(array.dtype))} and shape {shortened(str(array.shape))}"
    )


def _from_array(array: NDArray[Any], max_pixels: int) -> Image:
    if array.dtype != np.uint8:
        raise ImageError(f"{_got(array)} is not an image: {_dtype_advice(array)}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ImageError(f"{_got(array)} is not an image: {_shape_advice(array)}")
    require_pixels(array.shape[0], array.shape[1], _got(array), max_pixels)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


def _shape_advice(array: NDArray[Any]) -> str:
    """Return what to do about a shape; what the channels mean cannot be known."""
    shape = array.shape
    if array.ndim == 3 and shape[2] == 4:
        return (
            "four channels may be RGBA, BGRA or CMYK; pass the PIL.Image or the file that it came from, "
            "PIL.Image.fromarray(array) for RGBA, or verifykit.image_from_bgr(array) for BGRA of OpenCV"
        )
    if array.ndim == 3 and shape[2] == 2:
        return "two channels may be grey and alpha; if so, pass PIL.Image.fromarray(array)"
    if array.ndim == 3 and shape[0] in (1, 3):
        return "pass RGB (H, W, 3) or grey (H, W); put channels last with array.transpose(1, 2, 0)"
    if array.ndim == 4:
        return "pass RGB (H, W, 3) or grey (H, W), one image at a time"
    return "pass RGB (H, W, 3) or grey (H, W)"


def _dtype_advice(array: NDArray[Any]) -> str:
    if array.dtype.kind == "f":
        unsound = "" if np.isfinite(array).all() else "it holds NaN or infinity, and "
        return (
            f"{unsound}the range of its values is not known; scale them to 0..255, round, and "
            "convert with .astype(numpy.uint8)"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # in either byte order
        return "for values in 0..65535 pass (array // 257).astype(numpy.uint8)"
    if array.dtype.kind == "b":
        return "pass array.astype(numpy.uint8) * 255"
    if array.dtype.kind in "iu":
        return "if its values are in 0..255, pass array.astype(numpy.uint8)"
    return "pass uint8 with values in 0..255"
