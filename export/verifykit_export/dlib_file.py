"""Read the networks that dlib writes, without dlib.

An integer is a control byte, the number of bytes with the sign in bit 7, and that many bytes, least
significant first. A floating point number is a mantissa and an exponent of that kind, a string its length
and its bytes, a flag the digit 0 or 1, a tensor the integer 2, four sizes and raw float32.

The file begins with the versions of all layers, the network's output first: 2 for a layer with its details,
1 for a mark without any, 3 for the first layer, which follows the input. Details are then in the order of
computation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import ModelContractError, ModelIntegrityError, shown

Kind: TypeAlias = Literal[
    "con", "affine", "relu", "max_pool", "avg_pool", "fc", "add_prev", "keep", "exchange"
]

_MARK, _LAYER, _FIRST = 1, 2, 3
_NAMES: dict[str, Kind] = {
    "con_4": "con",
    "affine_": "affine",
    "relu_": "relu",
    "max_pool_2": "max_pool",
    "avg_pool_2": "avg_pool",
    "fc_2": "fc",
    "add_prev_": "add_prev",
}
_MOST_LAYERS = 10_000


@dataclass(frozen=True, eq=False)
class Window:
    """A kernel: rows and columns, 0 for all there are, with stride and padding, each (down, right)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, eq=False)
class DlibLayer:
    """One step of a network.

    Attributes:
        kind: ``"keep"`` puts the current tensor on a pile, ``"exchange"`` exchanges it with the pile's top,
            and ``"add_prev"`` adds the pile's top.
        window: Of convolutions and pools.
        weights: (outputs, inputs, rows, columns) of ``"con"``, (inputs, outputs) of ``"fc"``, (channels,)
            factors of ``"affine"``.
        bias: (outputs,) summands of ``"con"``, ``"fc"`` and ``"affine"``.
    """

    kind: Kind
    window: Window | None = None
    weights: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    bias: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))


@dataclass(frozen=True, eq=False)
class DlibNetwork:
    """A network of RGB images: its input is ``(pixel - mean) / 256``.

    Attributes:
        mean: Of red, green and blue.
        height_px: Rows of the input.
        width_px: Columns of the input.
        layers: In the order of computation.
    """

    mean: tuple[float, float, float]
    height_px: int
    width_px: int
    layers: tuple[DlibLayer, ...]


def read_dlib(data: bytes) -> DlibNetwork:
    """Return the network in a file; raise ModelIntegrityError or ModelContractError if it has none."""
    reader = _Reader(data)
    _expect("version of the network", reader.integer(), 1)
    _expect("loss", reader.text(), "loss_metric_2")
    reader.real(), reader.real()  # margin and distance, of training
    versions = _versions(reader)
    _expect("input", reader.text(), "input_rgb_image_sized")
    red, green, blue = reader.real(), reader.real(), reader.real()
    height_px, width_px = reader.integer(), reader.integer()
    layers = [_layer(reader, is_first=True)]
    at = 1
    while at < len(versions):
        if versions[at] == _LAYER:
            layers.append(_layer(reader))
        elif versions[at : at + 2] == [_MARK, _MARK]:
            # dlib's tag of a branch's end, and its skip back to where both begin.
            layers.append(DlibLayer("exchange"))
            at += 1
        else:
            layers.append(DlibLayer("keep"))
        at += 1
    reader.require_end()
    return DlibNetwork((red, green, blue), height_px, width_px, tuple(layers))


def _versions(reader: _Reader) -> list[int]:
    """Return the versions of all layers in the order of computation."""
    versions: list[int] = []
    while not versions or versions[-1] != _FIRST:
        version = reader.integer()
        if version not in (_MARK, _LAYER, _FIRST) or len(versions) == _MOST_LAYERS:
            raise ModelContractError(
                f"dlib file: layer {len(versions)} has version {version}, known are 1, 2 and 3: take "
                "the file of dlib's face recognition model v1"
            )
        versions.append(version)
    return versions[::-1]


def _layer(reader: _Reader, *, is_first: bool = False) -> DlibLayer:
    name = reader.text()
    if name not in _NAMES:
        raise ModelContractError(
            f"dlib file: layer {shown(name)} is not known; known are {', '.join(_NAMES)}"
        )
    layer = _details(reader, _NAMES[name])
    for _ in range(3):
        reader.flag()  # states of training
    for _ in range(3):
        reader.tensor()  # gradients and a cached output
    if is_first:
        _expect("samples an image", reader.integer(), 1)
    return layer


def _details(reader: _Reader, kind: Kind) -> DlibLayer:
    if kind == "con":
        return _convolution(reader)
    if kind == "affine":
        parameters = reader.tensor().ravel()
        (gamma, _), (beta, _) = reader.shape(), reader.shape()
        _expect("mode of an affine layer", reader.integer(), 0)
        _require_size(kind, parameters, gamma + beta)
        return DlibLayer(kind, None, parameters[:gamma], parameters[gamma:])
    if kind == "fc":
        return _fully_connected(reader)
    if kind in ("max_pool", "avg_pool"):
        return DlibLayer(kind, reader.window())
    return DlibLayer(kind)


def _convolution(reader: _Reader) -> DlibLayer:
    parameters, count = reader.tensor().ravel(), reader.integer()
    window = reader.window()
    (_, shape), (biases, _) = reader.shape(), reader.shape()
    _rates_of_training(reader)
    size = int(np.prod(shape))
    _require_size("con", parameters, size + biases)
    if (shape[0], shape[2:]) != (count, window.size) or biases != count:
        raise ModelIntegrityError(
            f"dlib file: a convolution of {count} filters of {window.size} has weights {shape} and "
            f"{biases} biases; fetch the file again"
        )
    return DlibLayer("con", window, parameters[:size].reshape(shape), parameters[size:])


def _fully_connected(reader: _Reader) -> DlibLayer:
    outputs, inputs = reader.integer(), reader.integer()
    parameters = reader.tensor().ravel()
    reader.shape(), reader.shape()  # the same two sizes again
    has_bias = reader.integer() == 0
    _rates_of_training(reader)
    _require_size("fc", parameters, (inputs + has_bias) * outputs)
    split = inputs * outputs
    bias = parameters[split:] if has_bias else np.zeros(outputs, np.float32)
    return DlibLayer("fc", None, parameters[:split].reshape(inputs, outputs), bias)


def _rates_of_training(reader: _Reader) -> None:
    for _ in range(4):
        reader.real()


def _expect(what: str, found: object, known: object) -> None:
    if found != known:
        raise ModelContractError(
            f"dlib file: {what} is {shown(found)}, known is {shown(known)}: take the file of dlib's face "
            "recognition model v1"
        )


def _require_size(kind: str, parameters: NDArray[np.float32], size: int) -> None:
    if len(parameters) != size:
        raise ModelIntegrityError(
            f"dlib file: a layer {kind} has {len(parameters)} parameters, its sizes require {size}; fetch "
            "the file again"
        )


class _Reader:
    """Reads values off the front of a file."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def bytes(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if count < 0 or len(part) < count:
            raise ModelIntegrityError(
                f"dlib file: {count} bytes are required at byte {self._at}, the file has {len(self._data)}: "
                "it is damaged or no network of dlib; fetch it again"
            )
        self._at += count
        return part

    def integer(self) -> int:
        (control,) = self.bytes(1)
        if not 1 <= control & 0x0F <= 8 or control & 0x70:
            raise ModelIntegrityError(
                f"dlib file: byte {self._at - 1} is {control}, which begins no integer: the file is "
                "damaged or no network of dlib; fetch it again"
            )
        value = int.from_bytes(self.bytes(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 1000:  # dlib's codes of infinities and NaN are beyond
            raise ModelIntegrityError(
                f"dlib file: a number before byte {self._at} is not finite; fetch the file again"
            )
        return float(mantissa) * 2.0**exponent

    def text(self) -> str:
        return self.bytes(self.integer()).decode("ascii", "replace")

    def flag(self) -> bool:
        return self.bytes(1) == b"1"

    def window(self) -> Window:
        pairs = [(self.integer(), self.integer()) for _ in range(3)]
        return Window(*pairs)

    def shape(self) -> tuple[int, tuple[int, ...]]:
        """Return the number of values and the four sizes of a part of a tensor."""
        _expect("version of a shape", self.integer(), 1)
        return self._sizes()

    def tensor(self) -> NDArray[np.float32]:
        _expect("version of a tensor", self.integer(), 2)
        size, shape = self._sizes()
        values = np.frombuffer(self.bytes(4 * size), "<f4").astype(np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise ModelIntegrityError(
                f"dlib file: a tensor before byte {self._at} is not finite; fetch the file again"
            )
        return values

    def _sizes(self) -> tuple[int, tuple[int, ...]]:
        shape = tuple(self.integer() for _ in range(4))
        if min(shape) < 0:
            raise ModelIntegrityError(
                f"dlib file: negative size in {shape} before byte {self._at}; fetch the file again"
            )
        size = 1
        for side in shape:
            size *= side
        return size, shape

    def require_end(self) -> None:
        if self._at != len(self._data):
            raise ModelIntegrityError(
                f"dlib file: {len(self._data) - self._at} bytes follow the network; fetch the file again"
            )
