"""Turn a network that dlib wrote into ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from verifykit.errors import ModelContractError
from verifykit_export.dlib_file import DlibLayer, DlibNetwork, Window
from verifykit_export.network import Network

_DIVISOR = 256.0


def dlib_to_onnx(source: DlibNetwork, name: str) -> onnx.ModelProto:
    """Return the same network as ONNX; its input is (N, 3, H, W) RGB, 0 to 255.

    Raises:
        ModelContractError: The layers do not fit each other.
    """
    translation = _Translation(source)
    for index, layer in enumerate(source.layers):
        affine = source.layers[index + 1] if index + 1 < len(source.layers) else None
        translation.add(layer, affine if affine and affine.kind == "affine" else None)
    return translation.to_model(name)


class _Translation:
    """Layers as nodes, with the tensor that the next one reads and its (channels, height, width)."""

    def __init__(self, source: DlibNetwork) -> None:
        shape: list[str | int | None] = ["batch", 3, source.height_px, source.width_px]
        self._network = Network(
            [], {}, [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)], []
        )
        self._mean = np.array(source.mean)
        self._tensor, self._shape = "input", (3, source.height_px, source.width_px)
        self._kept: list[tuple[str, tuple[int, int, int]]] = []

    def add(self, layer: DlibLayer, affine: DlibLayer | None) -> None:
        """Add a layer; an affine one that follows a convolution becomes part of that."""
        if layer.kind == "con":
            self._convolution(layer, affine)
        elif layer.kind == "affine":
            pass
        elif layer.kind == "relu":
            self._node("Relu", [self._tensor], self._shape)
        elif layer.kind in ("max_pool", "avg_pool"):
            self._pool(layer)
        elif layer.kind == "fc":
            self._fully_connected(layer)
        elif layer.kind == "keep":
            self._kept.append((self._tensor, self._shape))
        else:
            self._join(layer)

    def to_model(self, name: str) -> onnx.ModelProto:
        """Return a checked model whose output is the last tensor."""
        size = self._shape[0]
        self._node("Flatten", [self._tensor], (size, 1, 1), "embedding", axis=1)
        self._network.outputs.append(
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", size])
        )
        return self._network.to_model(name)

    def _node(
        self,
        operator: str,
        inputs: list[str],
        shape: tuple[int, int, int],
        output: str | None = None,
        **attributes: Any,
    ) -> None:
        output = output or self._network.fresh_name("t")
        self._network.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        self._tensor, self._shape = output, shape

    def _constant(self, values: NDArray[Any]) -> str:
        return self._network.add_constant("w", values)

    def _convolution(self, layer: DlibLayer, affine: DlibLayer | None) -> None:
        window = _window(layer)
        weights, bias = layer.weights.astype(np.float64), layer.bias.astype(np.float64)
        if weights.shape[1] != self._shape[0] or (affine and len(affine.weights) != len(weights)):
            raise ModelContractError(
                f"dlib file: a convolution of {weights.shape[1]} channels follows {self._shape[0]}, or an "
                "affine layer has other channels than its convolution"
            )
        if affine is not None:
            weights *= affine.weights[:, None, None, None]
            bias = bias * affine.weights + affine.bias
        if self._tensor == "input":
            if any(window.padding):
                raise ModelContractError("dlib file: the first convolution has padding")
            # Without padding, the input's mean and divisor are a part of the first convolution.
            weights /= _DIVISOR
            bias -= np.einsum("oikl,i->o", weights, self._mean)
        names = [self._constant(values.astype(np.float32)) for values in (weights, bias)]
        shape = len(weights), *_sizes_after(window, self._shape)
        self._node("Conv", [self._tensor, *names], shape, **_attributes(window))

    def _pool(self, layer: DlibLayer) -> None:
        window, channels = _window(layer), self._shape[0]
        if window.size == (0, 0) and layer.kind == "avg_pool":
            self._node("GlobalAveragePool", [self._tensor], (channels, 1, 1))
            return
        operator = "MaxPool" if layer.kind == "max_pool" else "AveragePool"
        shape = channels, *_sizes_after(window, self._shape)
        self._node(operator, [self._tensor], shape, **_attributes(window))

    def _fully_connected(self, layer: DlibLayer) -> None:
        inputs, outputs = layer.weights.shape
        if inputs != int(np.prod(self._shape)):
            raise ModelContractError(
                f"dlib file: a fully connected layer of {inputs} inputs follows {self._shape}"
            )
        self._node("Flatten", [self._tensor], (inputs, 1, 1), axis=1)
        names = [self._constant(values) for values in (layer.weights, layer.bias)]
        self._node("Gemm", [self._tensor, *names], (outputs, 1, 1))

    def _join(self, layer: DlibLayer) -> None:
        if not self._kept:
            raise ModelContractError(f"dlib file: {layer.kind} has nothing to return to")
        current, kept = (self._tensor, self._shape), self._kept.pop()
        if layer.kind == "exchange":
            self._kept.append(current)
            self._tensor, self._shape = kept
            return
        larger = np.maximum(current[1], kept[1])
        sides = [self._padded(*side, larger) for side in (current, kept)]
        channels, height, width = (int(side) for side in larger)
        self._node("Add", sides, (channels, height, width))

    def _padded(self, tensor: str, shape: tuple[int, int, int], larger: NDArray[np.int64]) -> str:
        """Return the tensor with zeros after its last channel, row and column."""
        missing = larger - shape
        if not missing.any():
            return tensor
        pads = self._constant(np.array([0, 0, 0, 0, 0, *missing], np.int64))
        self._node("Pad", [tensor, pads], shape)
        return self._tensor


def _window(layer: DlibLayer) -> Window:
    if layer.window is None or min(layer.window.stride) < 1:
        raise ModelContractError(f"dlib file: a layer {layer.kind} has no stride")
    return layer.window


def _attributes(window: Window) -> dict[str, Any]:
    down, right = window.padding
    return {
        "kernel_shape": window.size,
        "strides": window.stride,
        "pads": [down, right, down, right],
    }


def _sizes_after(window: Window, shape: tuple[int, int, int]) -> tuple[int, int]:
    height, width = (
        (side + 2 * padding - size) // stride + 1
        for side, size, stride, padding in zip(
            shape[1:], window.size, window.stride, window.padding, strict=True
        )
    )
    if min(height, width) < 1:
        raise ModelContractError(
            f"dlib file: a window of {window.size} is larger than the {shape[1:]} before it"
        )
    return height, width
