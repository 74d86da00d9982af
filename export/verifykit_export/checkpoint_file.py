"""Read tensors by name from a checkpoint of torch or PyTorch Lightning, without running anything of it.

A checkpoint is a ZIP archive with a pickle and the bytes of its tensors. A pickle can name any function of
the machine. Of what it names, tensors and ordered dictionaries are read by code of this module; everything
else, such as the callbacks and options that Lightning stores, becomes a value that does nothing.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import ModelIntegrityError, shortened, shown
from verifykit_export.archive import Archive
from verifykit_export.errors import ExportError

_MOST_PICKLE_BYTES = 1 << 26
_MOST_AXES = 8
_TYPES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


class _Ignored:
    """Stands in for objects that are not loaded: it accepts everything and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Ignore an element."""

    def extend(self, _: Any) -> None:
        """Ignore elements."""

    def add(self, _: Any) -> None:
        """Ignore an element."""


@dataclass(frozen=True)
class _StorageType:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    type_name: str


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, its values not yet read.

    Attributes:
        key: Of the archive's member with its values.
        type_name: Of torch's storage.
        offset: Of its first value.
        shape: Its sizes.
        strides: In values.
    """

    key: str
    type_name: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Any:
    sizes = (
        (offset, *shape, *strides)
        if isinstance(shape, tuple) and isinstance(strides, tuple)
        else ()
    )
    if (
        not isinstance(storage, _Storage)
        or not sizes
        or not len(shape) == len(strides) <= _MOST_AXES
        or not all(isinstance(size, int) and 0 <= size < 1 << 48 for size in sizes)
    ):
        raise pickle.UnpicklingError("a tensor of another form")
    return StoredTensor(storage.key, storage.type_name, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(name) for name in _TYPES},
}


# The one in C allocates as much for its memo as a file's numbers say.
class _Unpickler(pickle._Unpickler):  # noqa: SLF001
    stack: list[Any]

    def load_build(self) -> None:
        """Drop the attributes of an object: those of a tensor were checked, and stay."""
        self.stack.pop()

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,  # noqa: SLF001
        pickle.BUILD[0]: load_build,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the file is loaded as; no module is imported."""
        return _KNOWN.get((module, name), _Ignored)

    def persistent_load(self, reference: Any) -> Any:
        """Return a storage by the reference that torch writes."""
        if isinstance(reference, tuple) and len(reference) == 5 and reference[0] == "storage":
            kind, key = reference[1:3]
            name = kind.name if isinstance(kind, _StorageType) else "a type that is not read"
            if isinstance(key, str):
                return _Storage(key, name)
        raise pickle.UnpicklingError("a reference to something outside the file")


class Checkpoint:
    """A checkpoint's state dict, open for reading.

    Attributes:
        path: The file.
        tensors: Name to tensor, as the state dict has them.
    """

    def __init__(self, archive: Archive) -> None:
        """Read a checkpoint's names; raise ModelIntegrityError unless it has a state dict."""
        self.path = archive.path
        self._archive = archive
        found = [name for name in archive.names if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise ModelIntegrityError(
                f"{shortened(self.path)} is not a checkpoint that torch 1.6 or newer wrote: open it in torch "
                "and save it again with torch.save"
            )
        self._folder = found[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in archive.names and archive.read(order) != b"little":
            raise ModelIntegrityError(
                f"{shortened(self.path)} was written on a big-endian machine: save it again on another"
            )
        self.tensors = self._state(self._unpickled(archive.read(found[0])))

    def _unpickled(self, data: bytes) -> Any:
        if len(data) > _MOST_PICKLE_BYTES:
            raise ModelIntegrityError(f"{shortened(self.path)}: its index has {len(data)} bytes")
        try:
            return _Unpickler(io.BytesIO(data)).load()
        except Exception as error:  # pickle raises many kinds on a damaged file
            raise ModelIntegrityError(
                f"{shortened(self.path)} is damaged, or not a checkpoint of torch: "
                f"{shortened(' '.join(str(error).split())) or type(error).__name__}"
            ) from error

    def _state(self, loaded: Any) -> dict[str, StoredTensor]:
        state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
        found = state if isinstance(state, dict) else {}
        tensors = {
            name: value
            for name, value in found.items()
            if isinstance(name, str) and isinstance(value, StoredTensor)
        }
        if not tensors:
            raise ModelIntegrityError(
                f"{shortened(self.path)} has no state dict: names and tensors are required, by themselves or "
                "under 'state_dict'"
            )
        return tensors

    def read(self, name: str) -> NDArray[Any]:
        """Return the values of a tensor, whose shape is one that the caller can hold."""
        tensor = self.tensors[name]
        where = f"{shortened(self.path)}: tensor {shown(name)}"
        if tensor.type_name not in _TYPES:
            raise ModelIntegrityError(f"{where} is of {shown(tensor.type_name)}, which is not read")
        member = f"{self._folder}data/{tensor.key}"
        if member not in self._archive.names:
            raise ModelIntegrityError(f"{where} has no values: the file is cut short")
        data, kind = self._archive.read(member), np.dtype(_TYPES[tensor.type_name])
        if len(data) % kind.itemsize:
            raise ModelIntegrityError(f"{where} ends within a value: the file is cut short")
        values = np.frombuffer(data, kind)
        if 0 in tensor.shape:
            return np.empty(tensor.shape, values.dtype)
        last = tensor.offset + sum(
            (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
        if last >= len(values):
            raise ModelIntegrityError(f"{where} reaches behind its values: the file is damaged")
        strides = [stride * values.itemsize for stride in tensor.strides]
        view = np.lib.stride_tricks.as_strided(
            values[tensor.offset :], tensor.shape, strides, writeable=False
        )
        return np.array(view)


def open_checkpoint(path: Path) -> Archive:
    """Open the archive of a checkpoint; raise ModelIntegrityError if it is none."""
    try:
        return Archive(path)
    except ExportError as error:
        raise ModelIntegrityError(
            f"{shortened(path)} is not a checkpoint that torch 1.6 or newer wrote: open it in torch and "
            f"save it again with torch.save ({error})"
        ) from error
