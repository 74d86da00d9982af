"""Anything that holds a picture -> uint8 RGB (H, W, 3), or an ``ImageError`` that says why not.

Paths, bytes, file objects and arrays are taken here; what the bytes of a file mean is settled in
``verifykit.decoding``. Safe under threads.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any

import numpy as np

from verifykit.decoding import decode, require_pixels
from verifykit.errors import ImageError
from verifykit.types import Image, ImageLike

__all__ = ["MAX_BYTES", "MAX_PIXELS", "image_name", "load_image"]

MAX_PIXELS = 100_000_000
"""Height x width beyond which an image is refused before it is decoded."""

MAX_BYTES = 100_000_000
"""File size beyond which an image is refused before it is read."""

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|data:)", re.IGNORECASE)


def load_image(
    image: ImageLike, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image:
    """Read an image from a path, encoded bytes, an open binary file or an array.

    Files: JPEG, PNG, GIF, BMP, PNM, WebP, TIFF and JPEG 2000. Grey, palette, bilevel and CMYK
    become RGB; transparency is laid on white; 16 bits are scaled to 8 (within one level); the EXIF
    orientation is applied; of several frames the first is taken. Arrays: uint8 RGB (H, W, 3), or
    uint8 grey (H, W) or (H, W, 1); an array with four channels is refused, since nothing says
    whether the fourth is transparency.

    Args:
        image: A path, the bytes of an image file, a binary file object (read from where it is to
            its end, and left open) or an array. A uint8 RGB array that is contiguous is returned
            as it is, not copied.
        max_pixels: Refuse images of more pixels than this, before decoding.
        max_bytes: Refuse files of more bytes than this, before reading the rest.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous; H and W are at least 1.

    Raises:
        ImageError: It is missing, unreadable, damaged, cut short, too large, of an unsupported
            format, or an array of another dtype or shape. The message says which, and what to do.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, max_pixels)
    name = _describe(image)
    data = _read(image, name, max_bytes)
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): copy or download it again")
    return decode(data, name, max_pixels)


def image_name(image: ImageLike, index: int) -> str:
    """What reports call an image.

    Args:
        image: As given by the caller.
        index: Its place in the caller's list, counted from 1.

    Returns:
        The path, or the file object's name, or ``"image 3"`` for one without a name.
    """
    if isinstance(image, (str, os.PathLike)):
        return os.fsdecode(image)
    name = getattr(image, "name", None)
    return name if isinstance(name, str) and name else f"image {index}"


def _describe(image: object) -> str:
    """The image in an error message."""
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        return repr(path if len(path) <= 300 else path[:300] + "...")
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"the image in memory ({len(image)} bytes)"
    name = getattr(image, "name", None)
    return f"the open file {name!r}" if isinstance(name, str) and name else "the open file"


def _read(image: object, name: str, max_bytes: int) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        _require_size(len(image), name, max_bytes)
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        return _read_path(os.fspath(image), name, max_bytes)
    read = getattr(image, "read", None)
    if read is None:
        raise ImageError(
            f"an image is a path, bytes, a binary file object or a uint8 array, got "
            f"{type(image).__module__}.{type(image).__qualname__}: convert it with numpy.asarray, "
            "and pass several images one by one"
        )
    try:
        data = read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name} gave {type(data).__name__}, not bytes: open it with mode 'rb'")
    _require_size(len(data), name, max_bytes)
    return data


def _read_path(path: str | bytes, name: str, max_bytes: int) -> bytes:
    if isinstance(path, str) and _URL.match(path):
        raise ImageError(f"{name} is an address, and nothing is fetched: download the image first")
    try:
        # Not blocking on a named pipe that nobody writes to.
        if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - also for paths of bytes
            raise ImageError(  # noqa: TRY301
                f"{name} is a directory: pass the image files in it one by one"
            )
        with open(path, "rb") as file:  # noqa: PTH123 - also for paths of bytes
            _require_size(os.fstat(file.fileno()).st_size, name, max_bytes)
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist: check the path") from error
    except ImageError:  # a ValueError too, and says already what is wrong
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name} cannot be read: {reason}") from error
    _require_size(len(data), name, max_bytes)
    return data


def _require_size(size: int, name: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(
            f"{name} is larger than {max_bytes} bytes: scale the image down, or raise max_bytes"
        )


def _from_array(array: np.ndarray[Any, Any], max_pixels: int) -> Image:
    got = f"an array of dtype {array.dtype} and shape {array.shape}"
    if array.dtype != np.uint8:
        raise ImageError(f"{got} is not an image: {_dtype_advice(array)}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ImageError(
            f"{got} is not an image: pass RGB (H, W, 3) or grey (H, W), one image at a time; "
            "drop an alpha channel with array[..., :3], put channels last with "
            "array.transpose(1, 2, 0)"
        )
    require_pixels(array.shape[0], array.shape[1], got, max_pixels)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


def _dtype_advice(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind == "f":
        unsound = "" if np.isfinite(array).all() else "it holds NaN or infinity, and "
        return (
            f"{unsound}the range of its values is not known; scale them to 0..255, round, and "
            "convert with .astype(numpy.uint8)"
        )
    if array.dtype == np.uint16:
        return "for values in 0..65535 pass (array // 257).astype(numpy.uint8)"
    if array.dtype.kind == "b":
        return "pass array.astype(numpy.uint8) * 255"
    return "pass uint8 with values in 0..255"
