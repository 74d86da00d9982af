"""PRelu put back: networks as the export writes them, and near misses that must stay as they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verifykit._prelu import with_prelu
from verifykit.session import Session
from verifykit_export.network import Network
from verifykit_export.passes import rewrite_prelu

CHANNELS = 5


def network(slopes: np.ndarray, *, watched: bool = False) -> onnx.ModelProto:
    """Two PRelu of (N, 5, H, W), as convolutions; ``watched`` has a further output, from between."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", CHANNELS, 3, 2])
        for name in "xy"
    )
    nodes = [
        helper.make_node("PRelu", ["x", "first"], ["between"]),
        helper.make_node("PRelu", ["between", "second"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(row.astype(np.float32).reshape(-1, 1, 1), name)
        for row, name in zip(slopes, ("first", "second"), strict=True)
    ]
    graph = helper.make_graph(nodes, "two", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    written = Network.from_model(model, 17)
    rewrite_prelu(written)
    rewritten = written.to_model("two")
    if watched:
        inner = next(node for node in rewritten.graph.node if node.op_type == "Relu").output[0]
        rewritten.graph.output.append(
            helper.make_tensor_value_info(inner, TensorProto.FLOAT, ["n", CHANNELS, 3, 2])
        )
    return rewritten


def operators(model: bytes) -> Counter[str]:
    loaded = onnx.load_model_from_string(model)
    onnx.checker.check_model(loaded, full_check=True)
    return Counter(node.op_type for node in loaded.graph.node)


@pytest.mark.parametrize("greatest", [0.9, 1.7])  # beyond 1 the Relu comes before the convolution
def test_prelu_comes_back_and_computes_the_same(greatest: float) -> None:
    slopes = np.linspace(-0.5, greatest, 2 * CHANNELS).reshape(2, CHANNELS)
    written = network(slopes).SerializeToString()
    assert operators(written)["PRelu"] == 0
    joined = with_prelu(written)
    assert operators(joined) == {"PRelu": 2}
    tensor = np.random.default_rng(1).normal(size=(4, CHANNELS, 3, 2)).astype(np.float32)
    expected, found = (
        Session(model, name="two", providers="cpu", threads=1).run(tensor)[0]
        for model in (written, joined)
    )
    assert np.allclose(expected, found, rtol=1e-6, atol=1e-6)
    assert with_prelu(joined) is joined


def test_what_another_node_reads_stays() -> None:
    slopes = np.full((2, CHANNELS), 0.25)
    joined = operators(with_prelu(network(slopes, watched=True).SerializeToString()))
    assert joined == {"Conv": 2, "Relu": 1, "Add": 1, "PRelu": 1}


def test_factors_that_are_not_those_of_a_prelu_stay() -> None:
    model = network(np.full((2, CHANNELS), 0.25))
    tensor = model.graph.initializer[0]
    changed = numpy_helper.to_array(tensor).copy()
    changed[2] += 1e-3
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    assert operators(with_prelu(model.SerializeToString()))["PRelu"] == 1


def test_a_convolution_with_strides_stays() -> None:
    model = network(np.full((2, CHANNELS), 0.25))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("strides", [1, 1]))
    assert operators(with_prelu(model.SerializeToString()))["PRelu"] == 1


@pytest.mark.parametrize("junk", [b"", b"not a model", b"\x3a\xff", b"\x0a\x01a"])
def test_bytes_that_are_no_model_stay(junk: bytes) -> None:
    assert with_prelu(junk) is junk
