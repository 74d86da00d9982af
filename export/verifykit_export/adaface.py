"""Turn a checkpoint of AdaFace (Kim et al., CVPR 2022) into ONNX.

The network is an IResNet whose first stage has no convolution in its shortcut; its tensors have the names of
AdaFace's ``net.py``, below ``model.``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from verifykit.errors import ModelContractError, shortened
from verifykit_export.checkpoint_file import Checkpoint, open_checkpoint
from verifykit_export.network import Network

SIZE_PX = 112
EMBEDDING_SIZE = 512

_PREFIX = "model."
_WIDTHS = (64, 128, 256, 512)
# Blocks of each stage of IR-18, 34, 50 and 101 (49 blocks, named 100 in its code).
_STAGES = ((2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 14, 3), (3, 13, 30, 3))
_EPSILON = 1e-5
_PLACES = 7 * 7
_NORM = ("weight", "bias", "running_mean", "running_var")
_COUNTER = "num_batches_tracked"
_SHOWN = 4


@dataclass(frozen=True)
class _Block:
    """A residual block: the prefix of its tensors, its widths, and by how much it reduces."""

    name: str
    before: int
    after: int
    stride: int


def read_adaface(path: Path) -> onnx.ModelProto:
    """Return the network of a checkpoint, (N, 3, 112, 112) BGR in [-1, 1] to (N, 512).

    Raises:
        ModelIntegrityError: It is no checkpoint, or is damaged.
        ModelContractError: Its tensors are not those of an AdaFace network.
    """
    with open_checkpoint(path) as archive:
        checkpoint = Checkpoint(archive)
        given = {
            name.removeprefix(_PREFIX)
            for name in checkpoint.tensors
            if name.startswith(_PREFIX) and not name.endswith(_COUNTER)
        }
        blocks = _blocks(path, given)
        shapes = dict(_shapes(blocks))
        _require_names(path, given, set(shapes))
        values = {}
        for name, shape in shapes.items():
            found = checkpoint.tensors[_PREFIX + name].shape
            if found != shape:
                raise ModelContractError(
                    f"{shortened(path)}: tensor {name} has the shape {found}, AdaFace's has {shape}"
                )
            values[name] = checkpoint.read(_PREFIX + name).astype(np.float32)
    return _Translation(values).network(blocks)


def _blocks(path: Path, names: set[str]) -> list[_Block]:
    numbers = {name.split(".")[1] for name in names if name.startswith("body.")}
    stages = {sum(stage): stage for stage in _STAGES}.get(len(numbers))
    if stages is None:
        raise ModelContractError(
            f"{shortened(path)} has {len(numbers)} blocks {_PREFIX}body.N: checkpoints of AdaFace have "
            f"{', '.join(str(sum(stage)) for stage in _STAGES)}. Files of CVLface name their tensors "
            "otherwise and take RGB: export such a network to ONNX and import that without a preset"
        )
    blocks: list[_Block] = []
    before = _WIDTHS[0]
    for width, count in zip(_WIDTHS, stages, strict=True):
        for number in range(count):
            name = f"body.{len(blocks)}."
            blocks.append(_Block(name, before, width, 2 if number == 0 else 1))
            before = width
    return blocks


def _shapes(blocks: list[_Block]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names of all tensors with their shapes."""

    def norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in _NORM:
            yield f"{name}.{part}", (channels,)

    first, last = _WIDTHS[0], _WIDTHS[-1]
    yield "input_layer.0.weight", (first, 3, 3, 3)
    yield from norm("input_layer.1", first)
    yield "input_layer.2.weight", (first,)
    for block in blocks:
        inner = f"{block.name}res_layer"
        yield from norm(f"{inner}.0", block.before)
        yield f"{inner}.1.weight", (block.after, block.before, 3, 3)
        yield from norm(f"{inner}.2", block.after)
        yield f"{inner}.3.weight", (block.after,)
        yield f"{inner}.4.weight", (block.after, block.after, 3, 3)
        yield from norm(f"{inner}.5", block.after)
        if block.before != block.after:
            yield f"{block.name}shortcut_layer.0.weight", (block.after, block.before, 1, 1)
            yield from norm(f"{block.name}shortcut_layer.1", block.after)
    yield from norm("output_layer.0", last)
    yield "output_layer.3.weight", (EMBEDDING_SIZE, last * _PLACES)
    yield "output_layer.3.bias", (EMBEDDING_SIZE,)
    yield "output_layer.4.running_mean", (EMBEDDING_SIZE,)
    yield "output_layer.4.running_var", (EMBEDDING_SIZE,)


def _require_names(path: Path, given: set[str], needed: set[str]) -> None:
    problems = [
        f"{len(names)} {what}: {', '.join(sorted(map(shortened, names))[:_SHOWN])}"
        for what, names in (("missing", needed - given), ("unknown", given - needed))
        if names
    ]
    if problems:
        raise ModelContractError(
            f"{shortened(path)}: its tensors below {_PREFIX} are not those of AdaFace's IR networks; "
            f"{'; '.join(problems)}"
        )


class _Translation:
    """Nodes of a network in the order of AdaFace's code."""

    def __init__(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        shape: list[str | int | None] = ["batch", 3, SIZE_PX, SIZE_PX]
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        self._values = values
        self._network = Network([], {}, [image], [])

    def network(self, blocks: list[_Block]) -> onnx.ModelProto:
        """Return the whole network, checked."""
        tensor = self._convolution("input", "input_layer.0", 3, 1)
        tensor = self._slope(self._norm(tensor, "input_layer.1"), "input_layer.2")
        for block in blocks:
            tensor = self._block(tensor, block)
        tensor = self._add("Flatten", [self._norm(tensor, "output_layer.0")], axis=1)
        product = [self._constant(f"output_layer.3.{part}") for part in ("weight", "bias")]
        tensor = self._add("Gemm", [tensor, *product], transB=1)
        self._norm(tensor, "output_layer.4", output="embedding")
        self._network.outputs.append(
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", EMBEDDING_SIZE])
        )
        return self._network.to_model("adaface")

    def _block(self, tensor: str, block: _Block) -> str:
        inner, outer = f"{block.name}res_layer", f"{block.name}shortcut_layer"
        path = self._convolution(self._norm(tensor, f"{inner}.0"), f"{inner}.1", 3, 1)
        path = self._slope(self._norm(path, f"{inner}.2"), f"{inner}.3")
        path = self._convolution(path, f"{inner}.4", 3, block.stride)
        path = self._norm(path, f"{inner}.5")
        if block.before != block.after:
            tensor = self._convolution(tensor, f"{outer}.0", 1, block.stride)
            tensor = self._norm(tensor, f"{outer}.1")
        elif block.stride != 1:  # a pool of one pixel takes every second one
            strides = [block.stride, block.stride]
            tensor = self._add("MaxPool", [tensor], kernel_shape=[1, 1], strides=strides)
        return self._add("Add", [path, tensor])

    def _convolution(self, tensor: str, name: str, size: int, stride: int) -> str:
        return self._add(
            "Conv",
            [tensor, self._constant(f"{name}.weight")],
            kernel_shape=[size, size],
            pads=[size // 2] * 4,
            strides=[stride, stride],
        )

    def _norm(self, tensor: str, name: str, output: str | None = None) -> str:
        channels = len(self._values[f"{name}.running_var"])
        # The last one has no factor and no offset of its own.
        plain = {"weight": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
        values = [self._values.get(f"{name}.{part}", plain.get(part)) for part in _NORM]
        names = [self._network.add_constant(name, np.asarray(value)) for value in values]
        return self._add("BatchNormalization", [tensor, *names], output=output, epsilon=_EPSILON)

    def _slope(self, tensor: str, name: str) -> str:
        slope = self._values[f"{name}.weight"].reshape(-1, 1, 1)
        return self._add("PRelu", [tensor, self._network.add_constant(name, slope)])

    def _constant(self, name: str) -> str:
        self._network.constants[name] = self._values[name]
        return name

    def _add(
        self, operator: str, inputs: list[str], *, output: str | None = None, **attributes: Any
    ) -> str:
        output = output or self._network.fresh_name("t")
        self._network.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output
