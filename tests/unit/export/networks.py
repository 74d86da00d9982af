"""Small networks for tests of passes, and what runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from verifykit_export.network import Network


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    input_shape: Sequence[int | str],
    outputs: Mapping[str, Sequence[int | str | None]],
    *,
    extra_inputs: Mapping[str, Sequence[int]] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with one float32 input ``x``; ``extra_inputs`` are listed beside it, and never fed."""
    shapes = {"x": input_shape, **(extra_inputs or {})}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v) for k, v in shapes.items()],
        [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v) for k, v in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10 if opset > 20 else 8)


def run(proto: onnx.ModelProto, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """What ONNX Runtime answers, none of its own rewritings done."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in proto.graph.output]
    answers: list[NDArray[np.float32]] = session.run(names, {proto.graph.input[0].name: tensor})
    return answers


def rewritten(proto: onnx.ModelProto, *passes: Callable[[Network], None]) -> onnx.ModelProto:
    network = Network.from_model(proto)
    for rewrite in passes:
        rewrite(network)
    return network.to_model("test")


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def pixels(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
