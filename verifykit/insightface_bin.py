"""Read insightface's verification files, such as ``lfw.bin``, ``cfp_fp.bin`` and ``agedb_30.bin``.

Such a file is a pickle of ``(images, same)``: encoded images, two for each pair, and whether the two are of
one person. A pickle can name any function of the machine, so only lists, bytes and booleans are loaded here,
and numpy's forms of them by code of this module: nothing else of what a file names is imported or called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verifykit.errors import InputError, shortened, shortened_path, shown

SUFFIX = ".bin"

_MOST_BYTES = 4 << 30
_ITEM_BYTES = {"b1": 1, "u1": 1, "i1": 1, "i4": 4, "i8": 8}


class _RefusedError(Exception):
    """What a file holds that is not loaded."""


class _DType:
    """A numpy type by its name, such as ``b1``; its further state is ignored."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if text not in _ITEM_BYTES:
            raise _RefusedError(f"an array of {shown(text)}")
        self.item_bytes = _ITEM_BYTES[text]

    def __setstate__(self, _: Any) -> None:
        pass


class _Array:
    """A one-dimensional numpy array: its bytes and its type."""

    def __init__(self, dtype: Any = None, data: Any = b"") -> None:
        self._dtype, self._data = dtype, data

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array of another form")
        self._dtype, self._data = state[2], state[4]

    @property
    def content(self) -> bytes:
        """Return its bytes, of an array of whole numbers of one byte."""
        if not isinstance(self._dtype, _DType) or not isinstance(self._data, bytes):
            raise _RefusedError("an array of another form")
        return self._data

    def booleans(self) -> list[bool]:
        """Return whether each value is not 0."""
        size = len(self.content), self._dtype.item_bytes
        return [any(self._data[at : at + size[1]]) for at in range(0, size[0], size[1])]


class _ArrayType:
    """What stands in for ``numpy.ndarray`` in a file: a mark, which is never called."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, *_: Any) -> _Array:
    return _Array(dtype, bytes(data) if isinstance(data, (bytes, bytearray)) else data)


def _scalar(dtype: Any, data: Any = b"") -> bool:
    return any(_Array(dtype, _encoded(data) if isinstance(data, str) else data).content)


def _encoded(text: Any, coding: Any = "latin1") -> bytes:
    """Return the bytes that protocols below 3 write as a text."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise _RefusedError("a text in another coding")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise _RefusedError("bytes made from something else")
    return b""


_NUMPY_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
    "_frombuffer": _from_buffer,
}
_KNOWN: Mapping[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _ArrayType,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    **{
        (f"numpy.{part}.{module}", name): function
        for part in ("core", "_core")
        for module in ("multiarray", "numeric")
        for name, function in _NUMPY_FUNCTIONS.items()
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of a file is loaded as; no module is imported."""
        if (module, name) not in _KNOWN:
            raise _RefusedError(f"the name {shown(f'{module}.{name}')}")
        return _KNOWN[module, name]

    def persistent_load(self, _: Any) -> Any:
        """Refuse references to something outside the file."""
        raise _RefusedError("a reference to something outside the file")


def read_verification_file(path: Path) -> tuple[list[bytes], list[bool]]:
    """Return 2 P encoded images and P booleans: images 2 i and 2 i + 1 are of one person or not.

    Raises:
        InputError: It cannot be read, is not such a file, or holds anything but images and booleans.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{shown(str(path))} is larger than {_MOST_BYTES >> 30} GiB")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{shown(str(path))} cannot be read: {error.strerror}"
        ) from shortened_path(error)
    try:
        # Python 2 wrote bytes as its str.
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        images, same = _parts(found)
    except _RefusedError as error:
        raise InputError(
            f"{shown(str(path))} holds {error}, which is not loaded: a verification file of insightface is a "
            "pickle of (list of encoded images, list of booleans)"
        ) from None
    except Exception as error:  # pickle raises many kinds on a damaged file
        raise InputError(
            f"{shown(str(path))} is not a verification file of insightface (a pickle of images, booleans): "
            f"{shortened(' '.join(str(error).split())) or type(error).__name__}"
        ) from error
    return images, same


def _parts(found: Any) -> tuple[list[bytes], list[bool]]:
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise _RefusedError("something other than two lists")
    images = [_image(each) for each in _listed(found[0], "images")]
    stated = found[1]
    if isinstance(stated, _Array):
        same = stated.booleans()
    else:
        same = [_boolean(each) for each in _listed(stated, "booleans")]
    if not same or len(images) != 2 * len(same):
        raise _RefusedError(
            f"{len(images)} images for {len(same)} pairs, and not two images a pair"
        )
    return images, same


def _listed(found: Any, what: str) -> Sequence[Any]:
    if not isinstance(found, (list, tuple)):
        raise _RefusedError(f"no list of {what}")
    return found


def _image(found: Any) -> bytes:
    if isinstance(found, _Array):
        return found.content
    if not isinstance(found, bytes):
        raise _RefusedError(f"an image that is of type {type(found).__name__}")
    return found


def _boolean(found: Any) -> bool:
    if isinstance(found, (bool, int)):
        return bool(found)
    raise _RefusedError(f"a value of type {type(found).__name__} where booleans are")
