"""Convert a network to float16, or to static int8 with ranges measured on real crops."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from verifykit.modalities import to_tensor
from verifykit.spec import InputSpec
from verifykit.types import Image
from verifykit_export.network import Network, attributes, sort_nodes
from verifykit_export.passes import drop_dead, drop_identities

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]

# Rows to unit length: a sum of squares overflows float16, and loses what the cosine is made of.
_NORMALISATION = ("ReduceL2", "Clip", "Expand", "Div")
_PRODUCTS = ("Conv", "Gemm", "MatMul")
# ReLU and ReLU6 among them: what they cut away would take most of the 256 steps of the layer before.
_RECTIFIERS = ("Relu", "Clip")
_QUANTISED = (
    *("Conv", "Gemm", "MatMul", "Add", "AveragePool", "GlobalAveragePool", "MaxPool"),
    *_RECTIFIERS,
)


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the encoder in float16, with float32 input, output and normalisation of rows."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    nodes = list(model.graph.node)
    first = next((i for i, node in enumerate(nodes) if node.op_type == "ReduceL2"), len(nodes))
    tail = [node.name for node in nodes[first:] if node.op_type in _NORMALISATION]
    converted = convert_float_to_float16(_copy(model), keep_io_types=True, node_block_list=tail)
    network = Network.from_model(converted, model.opset_import[0].version)
    # The converter appends its casts, some of them twice.
    once = {node.output[0]: node for node in network.nodes}
    network.nodes = sort_nodes(list(once.values()))
    _join_casts(network)
    drop_dead(network)
    return network.to_model(model.graph.name)


def to_int8(model: onnx.ModelProto, spec: InputSpec, crops: Sequence[Image]) -> onnx.ModelProto:
    """Return the encoder in int8, weights per channel, as pairs of QuantizeLinear and DequantizeLinear.

    Static: the range of every activation is the one seen on the crops. Dynamic quantisation is not
    offered, for it reaches only the last layer of a convolutional network.
    """
    return _quantised(model, spec, crops, _QUANTISED, {})


def to_int8_convolutions(
    model: onnx.ModelProto, spec: InputSpec, crops: Sequence[Image]
) -> onnx.ModelProto:
    """Return the encoder with what convolutions and matrix products read in int8, and nothing between.

    So OpenVINO computes a convolution, its activation and the rounding in one step. Ranges are symmetric (a
    zero point costs OpenVINO more than int8 gains), and means over the crops, not their extremes.
    """
    options = {
        "OpTypesToExcludeOutputQuantization": list(_PRODUCTS),
        "ActivationSymmetric": True,
        "CalibMovingAverage": True,
    }
    return _quantised(model, spec, crops, _PRODUCTS, options)


def _quantised(
    model: onnx.ModelProto,
    spec: InputSpec,
    crops: Sequence[Image],
    operators: Sequence[str],
    options: dict[str, object],
) -> onnx.ModelProto:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Crops(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._tensors = _tensors(model.graph.input[0].name, spec, crops)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._tensors, None)

    prepared = _copy(model)
    # Ours is folded and checked already; without the mark onnxruntime advises to do so.
    onnx.helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            prepared,
            str(target),
            Crops(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )
        quantised = onnx.load(target)
    del quantised.metadata_props[:]
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _join_casts(network: Network) -> None:
    """Remove casts to float16 and back between two nodes that stay float32."""
    outputs = {item.name for item in network.outputs}
    for node in network.nodes:
        before = network.producer(node.input[0]) if node.op_type == "Cast" else None
        if before is None or before.op_type != "Cast" or _target(node) != onnx.TensorProto.FLOAT:
            continue
        if node.output[0] in outputs:
            node.op_type = "Identity"
            del node.attribute[:]
            node.input[0] = before.input[0]
        else:
            network.read_instead(node.output[0], before.input[0])
    drop_identities(network)


def _target(cast: onnx.NodeProto) -> int:
    return int(attributes(cast)["to"])


def _tensors(
    name: str, spec: InputSpec, crops: Sequence[Image]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    for crop in crops:
        yield {name: to_tensor([crop], spec)}


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    fresh = onnx.ModelProto()
    fresh.CopyFrom(model)
    return fresh


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence onnxruntime's messages on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
