from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.unit.export.networks import model
from verifykit_export.modelfile import weights_digest


def _network() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first", kernel_shape=[1, 1], group=1),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.1),
        helper.make_node("Mul", ["b", "f"], ["y"]),
    ]
    constants = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1),
        "f": np.array([2.0], np.float32),
    }
    return model(nodes, constants, [1, 3, 2, 2], {"y": [1, 2, 2, 2]})


def _rename_node(network: onnx.ModelProto) -> None:
    network.graph.node[0].name = "other"


def _swap_constants(network: onnx.ModelProto) -> None:
    first, second = list(network.graph.initializer)
    del network.graph.initializer[:]
    network.graph.initializer.extend([second, first])


def _swap_attributes(network: onnx.ModelProto) -> None:
    first, second = list(network.graph.node[0].attribute)
    del network.graph.node[0].attribute[:]
    network.graph.node[0].attribute.extend([second, first])


def _floats_not_bytes(network: onnx.ModelProto) -> None:
    tensor = network.graph.initializer[1]
    values = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values))


def _add_metadata(network: onnx.ModelProto) -> None:
    helper.set_model_props(network, {"key": "value"})
    network.producer_version = "9.9"
    network.ir_version = 9


@pytest.mark.parametrize(
    "change", [_rename_node, _swap_constants, _swap_attributes, _floats_not_bytes, _add_metadata]
)
def test_what_does_not_change_the_function_does_not_change_the_digest(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    changed = _network()
    change(changed)
    assert weights_digest(changed) == weights_digest(_network())


def _nudge(network: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(network.graph.initializer[0]).copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(1))
    network.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))


def _reshape(network: onnx.ModelProto) -> None:
    network.graph.initializer[0].dims[:] = [3, 2, 1, 1]


def _other_alpha(network: onnx.ModelProto) -> None:
    network.graph.node[1].attribute[0].f = 0.2


def _other_operator(network: onnx.ModelProto) -> None:
    network.graph.node[2].op_type = "Add"


def _other_wiring(network: onnx.ModelProto) -> None:
    network.graph.node[2].input[0] = "a"


def _other_opset(network: onnx.ModelProto) -> None:
    network.opset_import[0].version = 18


@pytest.mark.parametrize(
    "change", [_nudge, _reshape, _other_alpha, _other_operator, _other_wiring, _other_opset]
)
def test_what_changes_the_function_changes_the_digest(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    changed = _network()
    change(changed)
    assert weights_digest(changed) != weights_digest(_network())


def test_the_digest_is_the_same_for_ever() -> None:
    assert weights_digest(_network()) == (
        "6b095784b9ab42ba29e4d61e54d586f9a5840b7ea3b9a563a5aee8fc2ad89ead"
    )


@pytest.mark.parametrize(
    ("attribute", "other"),
    [
        ({"value_string": "a"}, {"value_string": "b"}),
        ({"value_strings": ["a", "b"]}, {"value_strings": ["ab"]}),
        ({"value_ints": [1, 2]}, {"value_ints": [2, 1]}),
        ({"value_floats": [1.0]}, {"value_floats": [2.0]}),
        (
            {"value": helper.make_tensor("t", 1, [1], [1.0])},
            {"value": helper.make_tensor("t", 1, [1], [2.0])},
        ),
    ],
)
def test_every_kind_of_attribute_counts(attribute: dict[str, Any], other: dict[str, Any]) -> None:
    digests = set()
    for values in (attribute, other, copy.deepcopy(attribute)):
        node = helper.make_node("Constant", [], ["y"], **values)
        digests.add(weights_digest(model([node], {}, [1], {"y": [None]})))
    assert len(digests) == 2


def test_the_graph_in_an_attribute_counts() -> None:
    digests = set()
    for operator in ("Neg", "Exp", "Neg"):
        inner = helper.make_node(operator, ["x"], ["inner"])
        output = helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, [1])
        branch = helper.make_graph([inner], "branch", [], [output])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        digests.add(weights_digest(model([node], {}, [1], {"y": [1]})))
    assert len(digests) == 2


def test_an_attribute_that_is_a_type_is_refused() -> None:
    kind = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("Optional", [], ["y"], type=kind)
    with pytest.raises(ValueError, match="'type' is neither"):
        weights_digest(model([node], {}, [1], {"y": [1]}))
