from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from tests.unit.export.networks import model, normal, operators, rewritten, run
from verifykit_export.passes import (
    drop_dead,
    fold_batch_norm,
    fold_scale,
    merge_siblings,
    rewrite_prelu,
    sink_splits,
)

NORM = ["scale", "offset", "mean", "variance"]


def _norm_constants(channels: int) -> dict[str, NDArray[np.float32]]:
    values = {name: normal(channels, seed=i) for i, name in enumerate(NORM)}
    values["variance"] = values["variance"] ** 2 + np.float32(0.1)
    return values


def _same(before: onnx.ModelProto, after: onnx.ModelProto, tensor: NDArray[np.float32]) -> None:
    for old, new in zip(run(before, tensor), run(after, tensor), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5 * float(np.abs(old).max()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 4])
def test_batch_norm_after_a_convolution(bias: bool, group: int) -> None:
    conv = helper.make_node(
        "Conv",
        ["x", "w", "b"] if bias else ["x", "w"],
        ["a"],
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        group=group,
    )
    norm = helper.make_node("BatchNormalization", ["a", *NORM], ["y"], epsilon=1e-3)
    constants = {"w": normal(8, 4 // group, 3, 3), "b": normal(8), **_norm_constants(8)}
    before = model([conv, norm], constants, [1, 4, 6, 6], {"y": [1, 8, 6, 6]})
    after = rewritten(before, fold_batch_norm, drop_dead)
    assert operators(after) == ["Conv"]
    _same(before, after, normal(2, 4, 6, 6)[:1])


@pytest.mark.parametrize("transposed", [0, 1])
def test_batch_norm_after_and_before_a_matrix_product(transposed: int) -> None:
    nodes = [
        helper.make_node("BatchNormalization", ["x", *NORM], ["a"]),
        helper.make_node("Flatten", ["a"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["c"], transB=transposed),
        helper.make_node("BatchNormalization", ["c", *(f"{name}2" for name in NORM)], ["y"]),
    ]
    weight = normal(5, 3 * 4 * 4)
    constants = {
        "w": weight if transposed else np.ascontiguousarray(weight.T),
        "b": normal(5),
        **_norm_constants(3),
        **{f"{name}2": value for name, value in _norm_constants(5).items()},
    }
    before = model(nodes, constants, [2, 3, 4, 4], {"y": [2, 5]})
    after = rewritten(before, fold_batch_norm, drop_dead)
    assert operators(after) == ["Flatten", "Gemm"]
    _same(before, after, normal(2, 3, 4, 4))


def test_batch_norm_stays_where_it_cannot_go() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[1, 1]),
        helper.make_node("BatchNormalization", ["a", *NORM], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    constants = {"w": normal(4, 4, 1, 1), **_norm_constants(4)}
    before = model(nodes, constants, [1, 4, 2, 2], {"y": [1, 4, 2, 2]})
    assert operators(rewritten(before, fold_batch_norm)) == operators(before)
    gemm = helper.make_node("Gemm", ["x", "w2", "c"], ["a"], alpha=2.0)
    norm = helper.make_node("BatchNormalization", ["a", *NORM], ["y"])
    scaled = model(
        [gemm, norm], {**constants, "w2": normal(3, 4), "c": normal(4)}, [2, 3], {"y": [2, 4]}
    )
    assert operators(rewritten(scaled, fold_batch_norm)) == ["Gemm", "BatchNormalization"]


@pytest.mark.parametrize("scale_first", [True, False])
def test_a_scale_goes_into_a_padded_convolution_and_an_offset_does_not(scale_first: bool) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "offset"], ["a"]),
        helper.make_node("Mul", ["factor", "a"] if scale_first else ["a", "factor"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    constants = {
        "offset": np.array([127.5], np.float32),
        "factor": np.array([0.0078125], np.float32),
        "w": normal(4, 3, 3, 3),
    }
    before = model(nodes, constants, [1, 3, 6, 6], {"y": [1, 4, 6, 6]})
    after = rewritten(before, fold_scale, drop_dead)
    assert operators(after) == ["Sub", "Conv"]
    tensor = np.random.default_rng(0).uniform(0, 255, (1, 3, 6, 6)).astype(np.float32)
    # The factor is a power of two: not even rounding differs.
    np.testing.assert_array_equal(run(after, tensor)[0], run(before, tensor)[0])


def test_a_scale_that_others_read_too_stays() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"], kernel_shape=[1, 1]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    constants = {"factor": np.array([0.5], np.float32), "w": normal(3, 3, 1, 1)}
    before = model(nodes, constants, [1, 3, 2, 2], {"y": [1, 3, 2, 2]})
    assert operators(rewritten(before, fold_scale)) == ["Mul", "Conv", "Add"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_prelu_with_any_slopes(slopes: list[float], seed: int) -> None:
    channels = len(slopes)
    slope = np.array(slopes, dtype=np.float32).reshape(channels, 1, 1)
    shape = [1, channels, 3, 5]
    before = model(
        [helper.make_node("PRelu", ["x", "slope"], ["y"])], {"slope": slope}, shape, {"y": shape}
    )
    after = rewritten(before, rewrite_prelu, drop_dead)
    assert "PRelu" not in operators(after)
    tensor = normal(*shape, seed=seed)
    np.testing.assert_allclose(run(after, tensor)[0], run(before, tensor)[0], rtol=1e-6, atol=2e-6)


def test_prelu_costs_no_relu_of_its_own_where_no_slope_is_above_one() -> None:
    shape = [1, 4, 2, 2]
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    for highest, first in ((1.0, "Conv"), (1.1, "Relu")):
        slope = np.array([-0.5, 0.0, 0.3, highest], np.float32).reshape(4, 1, 1)
        after = rewritten(model([node], {"slope": slope}, shape, {"y": shape}), rewrite_prelu)
        relu = next(item for item in after.graph.node if item.op_type == "Relu")
        fed_by = [item.op_type for item in after.graph.node if item.output[0] == relu.input[0]]
        assert fed_by == (["Conv"] if first == "Conv" else [])


def test_a_prelu_with_one_slope_for_all_stays() -> None:
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    before = model([node], {"slope": normal(1)}, [1, 4, 2, 2], {"y": [1, 4, 2, 2]})
    assert operators(rewritten(before, rewrite_prelu)) == ["PRelu"]


def _heads(pads: tuple[int, int] = (1, 1)) -> onnx.ModelProto:
    """Two heads of 3 and 2 channels, each a pointwise and a depthwise convolution."""
    nodes, constants = [], {}
    for name, channels, pad in (("a", 3, pads[0]), ("b", 2, pads[1])):
        constants.update({f"w_{name}": normal(channels, 6, 1, 1), f"c_{name}": normal(channels)})
        constants.update({f"v_{name}": normal(channels, 1, 3, 3), f"d_{name}": normal(channels)})
        nodes += [
            helper.make_node(
                "Conv", ["x", f"w_{name}", f"c_{name}"], [f"m_{name}"], kernel_shape=[1, 1]
            ),
            helper.make_node(
                "Conv",
                [f"m_{name}", f"v_{name}", f"d_{name}"],
                [name],
                kernel_shape=[3, 3],
                pads=[pad] * 4,
                group=channels,
            ),
        ]
    outputs = {"a": [1, 3, None, None], "b": [1, 2, None, None]}
    return model(nodes, constants, [1, 6, 8, 8], outputs)


def test_heads_are_computed_as_one() -> None:
    before = _heads()
    merged = rewritten(before, merge_siblings, drop_dead)
    assert operators(merged) == ["Conv", "Split", "Conv", "Conv"]
    _same(before, merged, normal(1, 6, 8, 8))
    sunk = rewritten(before, merge_siblings, sink_splits, drop_dead)
    assert operators(sunk) == ["Conv", "Conv", "Split"]
    _same(before, sunk, normal(1, 6, 8, 8))


def test_heads_of_another_geometry_stay_apart() -> None:
    before = _heads(pads=(1, 0))
    after = rewritten(before, merge_siblings, sink_splits, drop_dead)
    assert operators(after) == ["Conv", "Split", "Conv", "Conv"]
    _same(before, after, normal(1, 6, 8, 8))
