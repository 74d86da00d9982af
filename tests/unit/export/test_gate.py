"""What the gate lets through, what the exporter is held to, and what smaller precisions keep."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch

from tests.unit.training.drawing import drawn
from verifykit.modalities import to_tensor
from verifykit.spec import InputSpec
from verifykit_export.errors import ExportError
from verifykit_export.parity import (
    BATCH,
    LIMIT,
    Parity,
    bounded_fnmr,
    cosine_gap,
    embed_with_onnx,
    embed_with_torch,
    open_session,
    require_equal,
)
from verifykit_export.precision import to_float16, to_int8
from verifykit_export.torch_export import require_contract, to_onnx
from verifykit_training.encoders import EmbeddingNetwork, build_encoder, input_statistics
from verifykit_training.losses import build_loss

SPEC = InputSpec(32, 32, "rgb", *input_statistics("cnn5"))
CROPS = [drawn(subject, number) for subject in range(6) for number in range(4)]


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    """Hardly trained: it answers almost alike to all images."""
    torch.manual_seed(3)
    network = build_encoder("cnn5", embedding_size=16, weights="none").eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, -1.5, 1.5)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.3, 2.0)
    return network


@pytest.fixture(scope="module")
def trained() -> EmbeddingNetwork:
    torch.manual_seed(3)
    network = build_encoder("cnn5", embedding_size=16, weights="none")
    loss = build_loss("supervised_contrastive")
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    tensor, subjects = (
        torch.from_numpy(to_tensor(CROPS, SPEC)),
        torch.arange(6).repeat_interleave(4),
    )
    for _ in range(30):
        optimiser.zero_grad()
        loss(network(tensor), subjects).loss.backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def model(network: EmbeddingNetwork) -> onnx.ModelProto:
    return to_onnx(network, SPEC, 16)


def gate(network: EmbeddingNetwork, model: onnx.ModelProto) -> Parity:
    session = open_session(model)
    return require_equal(
        embed_with_torch(network, SPEC, CROPS),
        embed_with_onnx(session, SPEC, CROPS),
        embed_with_onnx(session, SPEC, CROPS[:BATCH], batch=1),
    )


def changed(model: onnx.ModelProto, amount: float, layer: int = 0) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensor = [item for item in other.graph.initializer if len(item.dims) == 4][layer]
    value = numpy_helper.to_array(tensor).copy()
    value *= 1.0 + amount * np.random.default_rng(0).normal(size=value.shape).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return other


def test_an_exported_network_passes(trained: EmbeddingNetwork) -> None:
    parity = gate(trained, to_onnx(trained, SPEC, 16))
    assert parity.gap <= LIMIT
    assert parity.score_gap <= 1e-6
    assert parity.score_deviation > 0.1
    assert not parity.is_noise


def test_a_hardly_trained_network_passes_and_its_rates_are_called_noise(
    network: EmbeddingNetwork, model: onnx.ModelProto
) -> None:
    parity = gate(network, model)
    assert 0.0 < parity.score_deviation < 1e-5
    assert parity.is_noise


@pytest.mark.parametrize("name", ["network", "trained"])
def test_weights_changed_by_one_percent_do_not_pass(
    name: str, request: pytest.FixtureRequest
) -> None:
    network = request.getfixturevalue(name)
    model = to_onnx(network, SPEC, 16)
    for layer in range(5):
        with pytest.raises(ExportError, match="is not the one it was made from: 1 - cosine"):
            gate(network, changed(model, 0.01, layer))


def test_scores_further_apart_than_their_spread_allows_do_not_pass() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    turned = rows.copy()
    turned[0] += 3.9e-5 * np.linalg.svd(rows[:1])[2][1]  # within LIMIT of its direction
    turned[1] = -turned[0]
    rows[1] = -rows[0]
    rows[2] = turned[2] = np.linalg.svd(rows[:1])[2][1]
    assert cosine_gap(rows, turned) < LIMIT
    with pytest.raises(ExportError, match=r"a score differs by 3\.90e-05, allowed is 3"):
        require_equal(rows, turned, turned[:BATCH])


def test_a_training_mode_is_not_exported_by_mistake(model: onnx.ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    modes = [item.i for node in nodes for item in node.attribute if item.name == "training_mode"]
    assert not any(modes)


def test_rows_that_depend_on_the_batch_are_found() -> None:
    rows = np.eye(8, dtype=np.float32)[np.arange(len(CROPS)) % 8]
    with pytest.raises(ExportError, match="otherwise for one image than for 7 at once"):
        require_equal(rows, rows, rows[:BATCH, ::-1])


@pytest.mark.parametrize("where", ["found", "alone"])
def test_nan_does_not_pass(where: str) -> None:
    rows = np.ones((len(CROPS), 4), np.float32)
    nan = rows * np.float32("nan")
    with pytest.raises(ExportError):
        require_equal(rows, nan if where == "found" else rows, nan[:BATCH])


def test_the_gap_resolves_what_float32_does_not() -> None:
    angle = 1e-5
    turned = np.array([[np.cos(angle), np.sin(angle)]])
    assert cosine_gap(np.array([[1.0, 0.0]]), turned) == pytest.approx(angle**2 / 2, rel=1e-5)


def test_the_interval_of_the_fnmr_holds_the_rate_of_the_network() -> None:
    noise = np.random.default_rng(0)
    subjects = [str(i // 5) for i in range(150)]
    centres = np.repeat(noise.normal(size=(30, 16)), 5, axis=0)
    rows = centres + noise.normal(size=centres.shape)
    none = [False] * len(rows)
    widths, moved = [], 0
    for amount in (0.0, 1e-6, 1e-2):
        other = rows + amount * noise.normal(size=rows.shape)
        score_gap = require_close(rows, other)
        expected, _ = bounded_fnmr(rows, subjects, none, 0.0)
        fnmr, (low, high) = bounded_fnmr(other, subjects, none, score_gap)
        assert low <= fnmr <= high
        assert low <= expected <= high
        widths.append(high - low)
        moved += fnmr != expected
    assert widths[0] == 0.0 <= widths[1] < widths[2]
    assert moved  # the rates of two equal networks may differ


def require_close(rows: np.ndarray, other: np.ndarray) -> float:
    """The greatest difference of scores, by a whole matrix."""
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (rows, other))
    return float(abs(first @ first.T - second @ second.T).max())


def test_forgeries_are_no_part_of_the_fnmr() -> None:
    rows = np.eye(4)[[0, 0, 1, 1, 2]]
    fnmr, interval = bounded_fnmr(rows, [*"aabba"], [False] * 4 + [True], 1e-9)
    assert (fnmr, interval) == (0.0, (0.0, 0.0))
    assert bounded_fnmr(rows, [*"aabba"], [False] * 5, 1e-9)[0] == 0.5


def test_nothing_of_this_machine_is_in_the_file(model: onnx.ModelProto) -> None:
    assert b".py" not in model.SerializeToString()
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_a_batch_that_is_not_free_is_refused(model: onnx.ModelProto) -> None:
    require_contract(model, SPEC, 16, 18)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(ExportError, match="number of images is not free"):
        require_contract(fixed, SPEC, 16, 18)
    with pytest.raises(ExportError, match=r"required \(N, \[32\]\), the exported file has \[16\]"):
        require_contract(model, SPEC, 32, 18)
    with pytest.raises(ExportError, match="opset 19 was requested"):
        require_contract(model, SPEC, 16, 19)


def test_float16_holds_the_weights_and_not_the_normalisation(model: onnx.ModelProto) -> None:
    half = to_float16(model)
    kinds = {item.data_type for item in half.graph.initializer if len(item.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
    # Scaled up, a sum of squares in float16 would be infinite.
    loud = changed(model, 0.0)
    for tensor in loud.graph.initializer:
        if list(tensor.dims) == [16, 256]:
            value = numpy_helper.to_array(tensor) * np.float32(3000.0)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    answers = [embed_with_onnx(open_session(m), SPEC, CROPS) for m in (loud, to_float16(loud))]
    assert cosine_gap(*answers) < 1e-3
    assert [item.type.tensor_type.elem_type for item in half.graph.input] == [1]
    assert [item.type.tensor_type.elem_type for item in half.graph.output] == [1]


def test_int8_is_static_and_per_channel(model: onnx.ModelProto) -> None:
    small = to_int8(model, SPEC, CROPS)
    operators = {node.op_type for node in small.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators
    assert not operators & {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
    weights = {
        item.name: item
        for item in small.graph.initializer
        if item.data_type == onnx.TensorProto.INT8
    }
    shapes = {tuple(item.dims) for item in weights.values()}
    assert {(16, 3, 3, 3), (256, 128, 3, 3)} <= shapes
    scales = {item.name: item.dims for item in small.graph.initializer}
    of_weights = [
        scales[node.input[1]]
        for node in small.graph.node
        if node.op_type == "DequantizeLinear" and len(scales.get(node.input[0], ())) == 4
    ]
    assert sorted(list(dims) for dims in of_weights) == [[16], [32], [64], [128], [256]]
    assert not small.metadata_props
