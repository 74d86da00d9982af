from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.unit.export.networks import model, normal, operators, rewritten, run
from verifykit_export.network import OPSET, Network
from verifykit_export.passes import drop_dead, drop_identities, free_dimensions


def test_dropout_and_identity_go_and_names_of_outputs_stay() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Dropout", ["b", "ratio"], ["c"]),
        helper.make_node("Neg", ["c"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
        helper.make_node("Exp", ["d"], ["z"]),
    ]
    constants = {"ratio": np.array(0.5, dtype=np.float32)}
    before = model(nodes, constants, [2, 3], {"y": [2, 3], "z": [2, 3]})
    after = rewritten(before, drop_identities, drop_dead)
    assert operators(after) == ["Relu", "Neg", "Exp"]
    assert not after.graph.initializer
    for old, new in zip(run(before, normal(2, 3)), run(after, normal(2, 3)), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_input_handed_straight_to_an_output_stays() -> None:
    before = model([helper.make_node("Identity", ["x"], ["y"])], {}, [2], {"y": [2]})
    assert operators(rewritten(before, drop_identities)) == ["Identity"]


def test_a_dropout_that_trains_stays() -> None:
    constants = {"ratio": np.array(0.5, np.float32), "training": np.array(True)}
    nodes = [helper.make_node("Dropout", ["x", "ratio", "training"], ["y"])]
    before = model(nodes, constants, [2], {"y": [2]})
    assert operators(rewritten(before, drop_identities)) == ["Dropout"]


def test_what_no_output_needs_goes() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "used"], ["y"]),
        helper.make_node("Mul", ["x", "unused"], ["dead"]),
        helper.make_node("Neg", ["dead"], ["deader"]),
    ]
    constants = {"used": normal(1), "unused": normal(1)}
    before = model(
        nodes, constants, [2], {"y": [2]}, extra_inputs={"used": [1], "weight_of_old": [4, 4]}
    )
    after = rewritten(before, drop_dead)
    assert operators(after) == ["Mul"]
    assert [item.name for item in after.graph.input] == ["x"]
    assert [item.name for item in after.graph.initializer] == ["used"]
    np.testing.assert_array_equal(run(after, normal(2))[0], normal(2) * constants["used"])


def _heads() -> onnx.ModelProto:
    """A 1x1 convolution whose answer is laid out as rows, for one image of 8x8."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["map"], kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["map"], ["rows"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["rows", "shape"], ["y"]),
    ]
    constants = {"w": normal(4, 3, 1, 1), "shape": np.array([1, -1, 4], dtype=np.int64)}
    return model(nodes, constants, [1, 3, 8, 8], {"y": [1, 64, 4]})


def test_free_batch_height_and_width() -> None:
    before = _heads()
    network = Network.from_model(before)
    free_dimensions(network, {0: "batch", 2: "height", 3: "width"})
    after = network.to_model("free")
    tensor = normal(1, 3, 8, 8)
    np.testing.assert_array_equal(run(after, tensor)[0], run(before, tensor)[0])
    many = normal(3, 3, 16, 4)
    (answer,) = run(after, many)
    assert answer.shape == (3, 64, 4)
    for row, image in zip(answer, many, strict=True):
        np.testing.assert_allclose(row, run(after, image[None])[0][0], atol=1e-6)
    dims = after.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]
    dims = after.graph.output[0].type.tensor_type.shape.dim
    assert dims[0].dim_param
    assert dims[1].dim_param
    assert dims[2].dim_value == 4


def test_a_reshape_whose_one_is_no_batch_keeps_it() -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["sum", "shape"], ["y"]),
    ]
    constants = {
        "axes": np.array([0, 2, 3], dtype=np.int64),
        "shape": np.array([1, -1], dtype=np.int64),
    }
    network = Network.from_model(model(nodes, constants, [1, 3, 8, 8], {"y": [1, 3]}))
    free_dimensions(network, {0: "batch"})
    assert run(network.to_model("free"), normal(5, 3, 8, 8))[0].shape == (1, 3)


def test_dimensions_of_what_is_not_there_are_refused() -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    network = Network.from_model(model([node], {}, [1, 3], {"y": [1, 3]}))
    with pytest.raises(ValueError, match="has 2 axes"):
        free_dimensions(network, {2: "height"})
    two = model([node], {}, [1], {"y": [1]}, extra_inputs={"other": [1]})
    with pytest.raises(ValueError, match="exactly one input is required"):
        free_dimensions(Network.from_model(two), {0: "batch"})


def test_a_network_is_opened_as_a_copy_and_closed_with_pinned_versions() -> None:
    before = _heads()
    as_it_was = before.SerializeToString()
    network = Network.from_model(before)
    network.nodes[0].output[0] = "renamed"
    network.read_instead("map", "renamed")
    after = network.to_model("test")
    assert before.SerializeToString() == as_it_was
    assert after.ir_version == 8
    assert [(item.domain, item.version) for item in after.opset_import] == [("", OPSET)]


def test_operators_of_other_domains_are_refused() -> None:
    node = helper.make_node("Magic", ["x"], ["y"], domain="com.example")
    with pytest.raises(ValueError, match=r"com\.example"):
        Network.from_model(model([node], {}, [1], {"y": [1]}))
