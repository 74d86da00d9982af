"""Formats of image files: which decoders may see bytes, and what is missing for the others.

Only decoders that are listed here, or by :func:`allow_format`, are tried; whatever else is registered with
Pillow never sees a byte. A plugin is imported when the first file of its format arrives.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifykit.errors import ImageError, InputError, shown

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_JXL_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"


def _brands(data: bytes) -> frozenset[bytes]:
    """Return the brands of a file of the ISO base media format; empty for others."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    return frozenset([data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))])


def _is_avif(data: bytes) -> bool:
    return bool(_brands(data) & _AVIF_BRANDS)


def _is_heif(data: bytes) -> bool:
    brands = _brands(data)
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


def _is_jxl(data: bytes) -> bool:
    return data.startswith((b"\xff\x0a", _JXL_CONTAINER))


def _import_heif() -> None:
    importlib.import_module("pillow_heif").register_heif_opener()


def _import_jxl() -> None:
    importlib.import_module("pillow_jxl")


def _import_avif() -> None:
    from PIL import features

    if "avif" in features.modules and features.check("avif"):  # older versions warn of the name
        importlib.import_module("PIL.AvifImagePlugin")
    else:  # until version 1.0 pillow-heif had one for Pillow before 11.3
        importlib.import_module("pillow_heif").register_avif_opener()


def _part_of_pillow(module: str) -> Callable[[], None]:
    def load() -> None:
        importlib.import_module(f"PIL.{module}")

    return load


@dataclass(frozen=True)
class _Format:
    """A format: its usual name, how its decoder is registered, how it is recognised and obtained."""

    label: str
    load: Callable[[], None]
    recognised: Callable[[bytes], bool] | None = None
    advice: str = ""


# In the order of trying; formats that start other programs (EPS) or are rare are left out.
_KNOWN = {
    "JPEG": _Format("JPEG", _part_of_pillow("JpegImagePlugin")),
    "PNG": _Format("PNG", _part_of_pillow("PngImagePlugin")),
    "GIF": _Format("GIF", _part_of_pillow("GifImagePlugin")),
    "BMP": _Format("BMP", _part_of_pillow("BmpImagePlugin")),
    "PPM": _Format("PNM", _part_of_pillow("PpmImagePlugin")),
    "WEBP": _Format("WebP", _part_of_pillow("WebPImagePlugin")),
    "TIFF": _Format("TIFF", _part_of_pillow("TiffImagePlugin")),
    "JPEG2000": _Format("JPEG 2000", _part_of_pillow("Jpeg2KImagePlugin")),
    "AVIF": _Format("AVIF", _import_avif, _is_avif, 'pip install --upgrade "pillow>=11.3"'),
    "HEIF": _Format("HEIC", _import_heif, _is_heif, 'pip install "verifykit-sdk[heif]"'),
    "JXL": _Format("JPEG XL", _import_jxl, _is_jxl, "pip install pillow-jxl-plugin"),
}
_STARTS_PROGRAMS = frozenset(("EPS", "WMF"))

_lock = threading.Lock()
allowed_formats: tuple[str, ...] = ()


def allow_format(name: str) -> None:
    """Have files of another format decoded, by a plugin that is registered with Pillow.

    It holds for this process. A decoder is code that reads bytes of strangers: allow those that you trust.

    Args:
        name: Pillow's name of the format, for example ``"ICO"``.

    Raises:
        InputError: No plugin of this name is registered, or it starts other programs.
    """
    global allowed_formats
    from PIL import Image as PilImage

    known = name.upper() if isinstance(name, str) else ""
    if known in _STARTS_PROGRAMS:
        raise InputError(
            f"format {known} is decoded by other programs or by the system, and is not allowed: convert "
            "the files to PNG"
        )
    PilImage.init()
    if known not in PilImage.OPEN:
        raise InputError(
            f"no plugin of Pillow reads the format {shown(name)}: import the plugin first; registered are "
            f"{', '.join(sorted(PilImage.OPEN))}"
        )
    with _lock:
        if known not in (*_KNOWN, *allowed_formats):
            allowed_formats = (*allowed_formats, known)


def readable_formats() -> dict[str, bool]:
    """Return every format that is allowed, by its name, and whether it can be read here."""
    return {
        **{known.label: _is_registered(name) for name, known in _KNOWN.items()},
        **dict.fromkeys(allowed_formats, True),
    }


def open_file(
    data: bytes, name: str, require_pixels: Callable[[int, int], None]
) -> ImageFile | None:
    """Return an encoded image, opened and not yet decoded; None for bytes of no allowed format.

    Not ``PIL.Image.open``: its limit of pixels is a global setting of the application.

    Raises:
        ImageError: Of a format whose plugin is missing.
        Exception: Whatever a decoder raises for damaged bytes, or ``require_pixels`` for their number.
    """
    from PIL import Image as PilImage

    for each in (*_KNOWN, *allowed_formats):
        known = _KNOWN.get(each)
        if known is not None:
            if known.recognised is not None and not known.recognised(data):
                continue
            if not _is_registered(each):
                if known.recognised is not None:
                    raise ImageError(
                        f"{name} is of the format {known.label}, which this installation cannot read: "
                        f"{known.advice}, or convert it to JPEG or PNG"
                    )
                continue
        if each == "JXL":
            require_pixels(*jxl_header(data)[:2])  # its plugin decodes when it opens
        factory, accept = PilImage.OPEN[each]
        accepted = accept is None or accept(data[:16])
        if not accepted or isinstance(accepted, str):  # a text says why this Pillow cannot
            continue
        try:
            opened = factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            if known is not None and known.recognised is not None:
                raise
            continue
        require_pixels(opened.height, opened.width)
        return opened
    return None


def _is_registered(name: str) -> bool:
    from PIL import Image as PilImage

    if name not in PilImage.OPEN:
        with contextlib.suppress(ImportError, AttributeError):
            _KNOWN[name].load()
    return name in PilImage.OPEN


def jxl_header(data: bytes) -> tuple[int, int, int]:
    """Return height, width and orientation of a JPEG XL file: ISO/IEC 18181-1, SizeHeader, ImageMetadata."""
    bits = int.from_bytes(_jxl_codestream(data)[2:34], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side(*, is_small: int) -> int:
        return 8 * (1 + take(5)) if is_small else 1 + take((9, 13, 18, 30)[take(2)])

    is_small = take(1)
    height = side(is_small=is_small)
    ratio = take(3)
    if ratio == 0:
        width = side(is_small=is_small)
    else:
        over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        width = height * over // under
    is_default = take(1)
    orientation = 1 + take(3) if not is_default and take(1) else 1
    return height, width, orientation


def _jxl_codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream, which a container holds in one box or in parts."""
    if not data.startswith(_JXL_CONTAINER):
        return data
    return b"".join(_jxl_parts(data))


def _jxl_parts(data: bytes) -> Iterator[bytes]:
    at, found = 0, 0
    while at + 8 <= len(data) and found < 64:
        size, kind, begin = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, begin = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(data)
        if kind in (b"jxlc", b"jxlp"):
            part = data[begin + 4 * (kind == b"jxlp") : end][:64]
            found += len(part)
            yield part
        at = max(end, begin)
