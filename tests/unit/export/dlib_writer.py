"""Write networks as dlib does, from the description of its format, and compute them one value at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

MEAN = (122.782, 117.001, 104.298)


def integer(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value: float) -> bytes:
    fraction, exponent = math.frexp(value)
    return integer(int(fraction * 2**24)) + integer(exponent - 24)


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def sizes(*values: int) -> bytes:
    return b"".join(integer(value) for value in values)


def tensor(values: Array) -> bytes:
    shape = [*values.shape, 1, 1, 1, 1][:4] if values.size else [0] * 4
    return integer(2) + sizes(*shape) + values.astype("<f4").tobytes()


EMPTY = tensor(np.empty(0, np.float32))
RATES = b"".join(real(value) for value in (1.0, 1.0, 1.0, 0.0))


@dataclass
class Written:
    """A network that grows layer by layer: its bytes, and its answer to one image."""

    current: Array
    side_px: int
    versions: list[int] = field(default_factory=list)
    details: bytes = b""
    kept: list[Array] = field(default_factory=list)

    @classmethod
    def of(cls, image: NDArray[np.uint8]) -> Written:
        values = (image.astype(np.float64) - MEAN) / 256
        return cls(values.transpose(2, 0, 1).astype(np.float32), len(image))

    def to_bytes(self, loss: str = "loss_metric_2") -> bytes:
        head = integer(1) + text(loss) + real(0.04) + real(0.6)
        chain = sizes(*self.versions[::-1])
        image = text("input_rgb_image_sized") + b"".join(map(real, MEAN))
        return head + chain + image + sizes(self.side_px, self.side_px) + self.details

    def _layer(self, name: str, details: bytes = b"") -> None:
        first = not self.versions
        self.versions.append(3 if first else 2)
        self.details += text(name) + details + b"110" + 3 * EMPTY + (integer(1) if first else b"")

    def con(self, weights: Array, bias: Array, stride: int, padding: int) -> None:
        count, _, rows, columns = weights.shape
        window = sizes(rows, columns, stride, stride, padding, padding)
        shapes = integer(1) + sizes(*weights.shape) + integer(1) + sizes(1, count, 1, 1)
        parameters = tensor(np.concatenate([weights.ravel(), bias]))
        self._layer("con_4", parameters + integer(count) + window + shapes + RATES)
        padded = np.pad(self.current, ((0, 0), (padding, padding), (padding, padding)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(1, 2))
        sums = np.einsum("ihwkl,oikl->ohw", views[:, ::stride, ::stride].astype(float), weights)
        self.current = (sums + bias[:, None, None]).astype(np.float32)

    def affine(self, factors: Array, summands: Array) -> None:
        shape = integer(1) + sizes(1, len(factors), 1, 1)
        parameters = tensor(np.concatenate([factors, summands]))
        self._layer("affine_", parameters + shape + shape + integer(0))
        self.current = self.current * factors[:, None, None] + summands[:, None, None]

    def relu(self) -> None:
        self._layer("relu_")
        self.current = np.maximum(self.current, 0)

    def pool(self, kind: str, size: int, stride: int) -> None:
        self._layer(kind, sizes(size, size, stride, stride, 0, 0))
        reduce = np.max if kind == "max_pool_2" else np.mean
        if size == 0:
            self.current = self.current.mean(axis=(1, 2), keepdims=True)
            return
        views = np.lib.stride_tricks.sliding_window_view(self.current, (size, size), axis=(1, 2))
        self.current = reduce(views[:, ::stride, ::stride], axis=(3, 4)).astype(np.float32)

    def keep(self) -> None:
        self.versions.append(1)
        self.kept.append(self.current)

    def exchange(self) -> None:
        self.versions += [1, 1]
        self.current, self.kept[-1] = self.kept[-1], self.current

    def add_prev(self) -> None:
        self._layer("add_prev_")
        both = self.current, self.kept.pop()
        total = np.zeros(np.maximum(both[0].shape, both[1].shape), np.float32)
        for part in both:
            total[tuple(slice(side) for side in part.shape)] += part
        self.current = total

    def fc(self, weights: Array, bias: Array | None = None) -> None:
        inputs, outputs = weights.shape
        parameters = weights if bias is None else np.vstack([weights, bias])
        shape = integer(1) + sizes(inputs, outputs, 1, 1)
        biases = integer(1) + (sizes(0, 0, 0, 0) if bias is None else sizes(1, outputs, 1, 1))
        mode = integer(1 if bias is None else 0)
        head = sizes(outputs, inputs) + tensor(parameters)
        self._layer("fc_2", head + shape + biases + mode + RATES)
        self.current = self.current.reshape(-1) @ weights + (0 if bias is None else bias)


def small_network(image: NDArray[np.uint8], *, seed: int = 0, bias: bool = False) -> Written:
    """A network with every kind of layer; its second branch is padded in channels and in space."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return random.normal(size=shape).astype(np.float32)

    net = Written.of(image)
    net.con(draw(4, 3, 5, 5), draw(4), 2, 0)
    net.affine(draw(4), draw(4))
    net.relu()
    net.pool("max_pool_2", 3, 2)
    net.keep()
    net.con(draw(4, 4, 3, 3), draw(4), 1, 1)
    net.affine(draw(4), draw(4))
    net.add_prev()
    net.keep()
    net.con(draw(6, 4, 3, 3), draw(6), 2, 0)
    net.affine(draw(6), draw(6))
    net.exchange()
    net.pool("avg_pool_2", 2, 2)
    net.add_prev()
    net.relu()
    net.pool("avg_pool_2", 0, 1)
    net.fc(draw(6, 5), draw(5) if bias else None)
    return net
