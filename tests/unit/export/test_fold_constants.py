from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.unit.export.networks import model, normal, operators, rewritten, run
from verifykit_export.network import Network
from verifykit_export.passes import drop_dead, fold_constants

CONV = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
RESHAPE = helper.make_node("Reshape", ["flat", "shape"], ["w"])


def test_block_wise_weights_become_what_the_onnx_reference_computes() -> None:
    rng = np.random.default_rng(1)
    constants = {
        "q": rng.integers(-128, 128, (4, 70), dtype=np.int8),
        "s": rng.uniform(0.001, 0.1, (4, 2)).astype(np.float32),
        "z": rng.integers(-8, 8, (4, 2), dtype=np.int8),
    }
    unpack = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1, block_size=64)
    product = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    before = model([unpack, product], constants, [2, 70], {"y": [2, 4]}, opset=21)
    after = rewritten(before, fold_constants, drop_dead)
    assert operators(after) == ["Gemm"]
    tensor = normal(2, 70)
    (expected,) = ReferenceEvaluator(before).run(None, {"x": tensor})
    np.testing.assert_allclose(run(after, tensor)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("with_zero_point", [True, False])
def test_weights_quantised_by_axis_and_by_tensor(axis: int, with_zero_point: bool) -> None:
    rng = np.random.default_rng(2)
    constants = {
        "q": rng.integers(0, 256, (8, 27), dtype=np.uint8),
        "s": rng.uniform(0.001, 0.1, (8, 27)[axis]).astype(np.float32),
        "z": rng.integers(100, 150, (8, 27)[axis], dtype=np.uint8),
        "shape": np.array([8, 3, 3, -1], dtype=np.int64),
    }
    names = ["q", "s", "z"] if with_zero_point else ["q", "s"]
    unpack = helper.make_node("DequantizeLinear", names, ["flat"], axis=axis)
    before = model([unpack, RESHAPE, CONV], constants, [1, 3, 5, 5], {"y": [1, 8, 5, 5]})
    after = rewritten(before, fold_constants, drop_dead)
    assert operators(after) == ["Conv"]
    assert [item.name for item in after.graph.initializer] == ["w"]
    tensor = normal(1, 3, 5, 5)
    np.testing.assert_array_equal(run(after, tensor)[0], run(before, tensor)[0])


def test_a_reshape_of_what_is_fed_stays() -> None:
    before = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"shape": np.array([2, -1], dtype=np.int64)},
        [2, 3, 4],
        {"y": [2, 12]},
    )
    assert operators(rewritten(before, fold_constants)) == ["Reshape"]


def test_a_reshape_keeps_the_sizes_that_its_zeros_copy() -> None:
    constants = {"flat": normal(8, 9), "shape": np.array([0, 1, 3, 3], dtype=np.int64)}
    network = Network.from_model(
        model([RESHAPE, CONV], constants, [1, 1, 5, 5], {"y": [1, 8, 5, 5]})
    )
    fold_constants(network)
    assert network.constants["w"].shape == (8, 1, 3, 3)


@pytest.mark.parametrize(
    "constant",
    [
        {"value": helper.make_tensor("v", 1, [1], [2.5])},
        {"value_float": 2.5},
        {"value_floats": [2.5]},
    ],
)
def test_constant_nodes_become_constants(constant: dict[str, object]) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], **constant),
        helper.make_node("Mul", ["x", "c"], ["y"]),
    ]
    before = model(nodes, {}, [2, 3], {"y": [2, 3]})
    after = rewritten(before, fold_constants)
    assert operators(after) == ["Mul"]
    np.testing.assert_array_equal(run(after, normal(2, 3))[0], run(before, normal(2, 3))[0])


def test_a_constant_of_text_is_refused() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value_string="text"),
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    with pytest.raises(ValueError, match="only dense numbers"):
        fold_constants(Network.from_model(model(nodes, {}, [1], {"y": [1]})))
