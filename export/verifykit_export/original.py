"""Run an encoder of another project as it is: what its import has to reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper

from verifykit.errors import ModelContractError, ModelIntegrityError, shortened, shown
from verifykit.modalities import to_tensor
from verifykit.session import Session, unit_rows
from verifykit.spec import InputSpec
from verifykit.types import Embeddings, Image
from verifykit_export.errors import ExportError
from verifykit_export.float32 import is_double, to_float32
from verifykit_export.network import reads
from verifykit_export.opsets import advice, opset_of
from verifykit_export.parity import open_session

Layout: TypeAlias = Literal["nchw", "nhwc"]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
# Of onnxruntime 1.20.
_IR_VERSION = 10
# Those that hold every pixel.
INTEGERS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)


@dataclass(frozen=True)
class Contract:
    """What a file takes and returns.

    Attributes:
        input: The input's name.
        dtype: The input's ONNX type.
        layout: The order of its axes.
        batch: How many images it takes; 0 where it takes any number.
        channels: 0 where the file leaves it free, as the sizes.
        height: In px.
        width: In px.
        output: Name of the chosen output.
    """

    input: str
    dtype: int
    layout: Layout
    batch: int
    channels: int
    height: int
    width: int
    output: str

    @property
    def takes_pixels(self) -> bool:
        """Whether its input is integers 0..255."""
        return self.dtype in INTEGERS


def read_contract(model: onnx.ModelProto, layout: Layout, output: str | None) -> Contract:
    """Return what a file takes and returns; raise ModelContractError if that is no encoder's."""
    # Files of before 2019, and what was made of them, list every weight as an input, also those that nodes
    # unpack.
    made = {item.name for item in model.graph.initializer}
    made |= {name for node in model.graph.node for name in node.output}
    needed = {name for node in model.graph.node for name in reads(node)}
    inputs = [item for item in model.graph.input if item.name in needed - made]
    if len(inputs) != 1:
        raise ModelContractError(
            f"an encoder has one input, the image; the file has {shown([item.name for item in inputs])}"
        )
    dtype = inputs[0].type.tensor_type.elem_type
    if dtype not in (*FLOATS, *INTEGERS):
        raise ModelContractError(
            f"input {shown(inputs[0].name)} is of type {TensorProto.DataType.Name(dtype)}: supported are "
            "float32, float16, float64, uint8, int32 and int64"
        )
    dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4:
        raise ModelContractError(
            f"an encoder takes (N, C, H, W) or (N, H, W, C), input {shown(inputs[0].name)} has "
            f"{len(dims)} axes"
        )
    batch, *rest = (max(0, dim) for dim in dims)
    channels, height, width = rest if layout == "nchw" else (rest[2], rest[0], rest[1])
    return Contract(
        inputs[0].name, dtype, layout, batch, channels, height, width, _chosen_output(model, output)
    )


def _chosen_output(model: onnx.ModelProto, output: str | None) -> str:
    names = [item.name for item in model.graph.output]
    if output is None and len(names) != 1:
        raise ModelContractError(
            f"the file has the outputs {shortened(', '.join(names))}: choose the embedding with --output NAME"
        )
    if output is not None and output not in names:
        raise ModelContractError(
            f"--output {shortened(output)}: the file has no such output, it has "
            f"{shortened(', '.join(names))}"
        )
    return output or names[0]


class Original:
    """A foreign network in onnxruntime, unchanged, on one image at a time.

    Attributes:
        is_rounded: Whether it is compared in float32, for onnxruntime does not run it in float64.
    """

    def __init__(self, model: onnx.ModelProto, contract: Contract) -> None:
        self._contract = contract
        self._type = helper.tensor_dtype_to_np_dtype(contract.dtype)
        self.is_rounded = False
        try:
            self._session = self._open(_runnable(model, contract))
        except ModelIntegrityError as error:
            raise ExportError(
                "onnxruntime cannot run the file, so nothing can be proved equal to it: "
                f"{error}{advice(opset_of(model))}"
            ) from error
        self._index = self._session.output_names.index(contract.output)

    def _open(self, model: onnx.ModelProto) -> Session:
        try:
            return open_session(model)
        except ModelIntegrityError:
            if not is_double(model):
                raise
        # onnxruntime has no convolution in float64.
        self.is_rounded = True
        to_float32(model.graph)
        if self._contract.dtype == TensorProto.DOUBLE:
            self._type = np.dtype(np.float32)
        return open_session(model)

    def embed(self, spec: InputSpec, crops: Sequence[Image]) -> Embeddings:
        """Return (N, D) float32 unit rows of N crops."""
        return np.concatenate([self._row(spec, crop) for crop in crops])

    def _row(self, spec: InputSpec, crop: Image) -> Embeddings:
        tensor = to_tensor([crop] * max(1, self._contract.batch), spec)
        if self._contract.layout == "nhwc":
            tensor = np.ascontiguousarray(tensor.transpose(0, 2, 3, 1))
        outputs = self._session.run(tensor.astype(self._type))
        answer = np.asarray(outputs[self._index], np.float32)
        # (N, D, 1, 1) and (N, 1, 1, D) are rows too.
        if answer.ndim < 2 or len(answer) != len(tensor) or max(answer.shape[1:]) != answer[0].size:
            raise ModelContractError(
                f"output {shown(self._contract.output)} has the shape {answer.shape} for {len(tensor)} "
                "image(s): an encoder returns one row (N, D)"
            )
        row = answer[:1].reshape(1, -1)
        if row.size < 2:
            raise ModelContractError(
                f"output {shown(self._contract.output)} is one value an image: every score would be 1 or -1"
            )
        return unit_rows([row], "the file", 1, row.size)


def _runnable(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    fresh = onnx.ModelProto()
    fresh.CopyFrom(model)
    images = [item for item in fresh.graph.input if item.name == contract.input]
    del fresh.graph.input[:]
    fresh.graph.input.extend(images)
    # Only the marking: onnxruntime refuses files whose marking is newer than it.
    if fresh.ir_version > _IR_VERSION:
        opset = helper.make_opsetid("", opset_of(model))
        fresh.ir_version = min(fresh.ir_version, max(_IR_VERSION, _ir_version(opset)))
    return fresh


def _ir_version(opset: onnx.OperatorSetIdProto) -> int:
    return int(helper.find_min_ir_version_for([opset], ignore_unknown=True))
