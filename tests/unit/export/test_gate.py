"""What the gate lets through, what the exporter is held to, and what smaller precisions keep."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch

from tests.unit.training.drawing import drawn
from verifykit.spec import InputSpec
from verifykit.types import Image
from verifykit_export.errors import ExportError
from verifykit_export.parity import (
    Parity,
    cosine_gap,
    embed_with_onnx,
    embed_with_torch,
    open_session,
    require_equal,
    require_same_fnmr,
)
from verifykit_export.precision import to_float16, to_int8
from verifykit_export.torch_export import require_contract, to_onnx
from verifykit_training.encoders import EmbeddingNetwork, build_encoder, input_statistics
from verifykit_training.evaluation import Scores

SPEC = InputSpec(32, 32, "rgb", *input_statistics("cnn5"))
CROPS = [drawn(subject, number) for subject in range(6) for number in range(4)]


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    torch.manual_seed(3)
    network = build_encoder("cnn5", embedding_size=16, weights="none").eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, -1.5, 1.5)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.3, 2.0)
    return network


@pytest.fixture(scope="module")
def model(network: EmbeddingNetwork) -> onnx.ModelProto:
    return to_onnx(network, SPEC, 16)


def gate(network: EmbeddingNetwork, model: onnx.ModelProto) -> Parity:
    session = open_session(model)
    expected = embed_with_torch(network, SPEC, CROPS)
    return require_equal(
        expected, lambda crops, batch: embed_with_onnx(session, SPEC, crops, batch=batch), CROPS
    )


def changed(model: onnx.ModelProto, amount: float) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensor = next(item for item in other.graph.initializer if len(item.dims) == 4)
    value = numpy_helper.to_array(tensor).copy()
    value *= 1.0 + amount * np.random.default_rng(0).normal(size=value.shape).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return other


def test_an_exported_network_passes(network: EmbeddingNetwork, model: onnx.ModelProto) -> None:
    assert gate(network, model).gap < 1e-9


def test_a_network_that_is_slightly_another_does_not(
    network: EmbeddingNetwork, model: onnx.ModelProto
) -> None:
    with pytest.raises(ExportError, match="is not the one it was made from"):
        gate(network, changed(model, 0.05))


def test_a_training_mode_is_not_exported_by_mistake(model: onnx.ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    modes = [item.i for node in nodes for item in node.attribute if item.name == "training_mode"]
    assert not any(modes)


def test_answers_that_depend_on_the_batch_are_found() -> None:
    rows = np.eye(8, dtype=np.float32)[np.arange(len(CROPS)) % 8]

    def by_batch(crops: Sequence[Image], batch: int) -> np.ndarray:
        answers = rows[: len(crops)]
        return answers if batch > 1 else answers[:, ::-1]

    with pytest.raises(ExportError, match="otherwise for one image than for 7 at once"):
        require_equal(rows, by_batch, CROPS)


def test_nan_does_not_pass() -> None:
    rows = np.ones((len(CROPS), 4), np.float32)
    with pytest.raises(ExportError):
        require_equal(rows, lambda crops, batch: rows * np.float32("nan"), CROPS)


def test_the_gap_resolves_what_float32_does_not() -> None:
    angle = 1e-5
    turned = np.array([[np.cos(angle), np.sin(angle)]])
    assert cosine_gap(np.array([[1.0, 0.0]]), turned) == pytest.approx(angle**2 / 2, rel=1e-5)


def test_another_fnmr_is_refused() -> None:
    others = np.linspace(0, 0.5, 100, dtype=np.float32)
    none = np.empty(0, np.float32)
    good = Scores(np.array([0.6, 0.7], np.float32), others, none)
    bad = Scores(np.array([0.6, 0.1], np.float32), others, none)
    assert require_same_fnmr(good, good) == 0.0
    with pytest.raises(ExportError, match=r"0\.0000% in torch and 50\.0000% by the exported file"):
        require_same_fnmr(good, bad)


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
    with pytest.raises(ExportError, match=r"wanted \(N, \[32\]\), the exported file has \[16\]"):
        require_contract(model, SPEC, 32, 18)
    with pytest.raises(ExportError, match="opset 19 was asked for"):
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
