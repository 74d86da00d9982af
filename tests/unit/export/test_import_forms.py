"""The forms that encoders come in: imported with the answer of the original, or refused in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from verifykit.models import load

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

from tests.unit.export.commands import command, refused
from tests.unit.export.networks import normal

SIZE_PX = 8
VALUES = 6
IMAGE = (3, SIZE_PX, SIZE_PX)


@dataclass
class Parts:
    """A network before it is a file: convolution, flattening, product."""

    nodes: list[onnx.NodeProto]
    constants: dict[str, NDArray[Any]]


def parts() -> Parts:
    node = helper.make_node
    return Parts(
        [
            node("Conv", ["x", "w"], ["map"], strides=[2, 2]),
            node("Flatten", ["map"], ["flat"]),
            node("MatMul", ["flat", "m"], ["y"]),
        ],
        {"w": normal(4, 3, 2, 2), "m": normal(64, VALUES, seed=1)},
    )


def save(
    path: Path,
    network: Parts,
    *,
    opset: int = 17,
    shape: Sequence[int | str] = ("N", *IMAGE),
    dtype: int = TensorProto.FLOAT,
    outputs: Mapping[str, Sequence[int | str | None]] | None = None,
    output_type: int = TensorProto.FLOAT,
    domains: Sequence[str] = (),
) -> Path:
    tensor = helper.make_tensor_value_info
    shapes = outputs or {"y": [shape[0], VALUES]}
    graph = helper.make_graph(
        network.nodes,
        "theirs",
        [tensor("x", dtype, shape)],
        [tensor(name, output_type, dims) for name, dims in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in network.constants.items()],
    )
    standard = helper.make_opsetid("", opset)
    model = helper.make_model(
        graph,
        opset_imports=[standard, *(helper.make_opsetid(domain, 1) for domain in domains)],
        ir_version=helper.find_min_ir_version_for([standard], ignore_unknown=True),
    )
    onnx.save(model, path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "theirs.onnx"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "mine.onnx"


def run_import(
    monkeypatch: pytest.MonkeyPatch,
    source: Path,
    target: Path,
    *more: object,
    mean: str = "127.5,127.5,127.5",
    std: str = "127.5,127.5,127.5",
) -> int:
    options = ("--modality", "face", "--color", "rgb", "--crop", "plain", "--licence", "MIT")
    values = ("--source", "a test", "--mean", mean, "--std", std, "--json")
    return command(monkeypatch, "import", source, target, *options, *values, *more)


class Import:
    """Runs the command on a file; what it printed, and the network that it wrote."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        source: Path,
        target: Path,
    ) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.source, self.target = source, target

    def works(self, *more: object, limit: float = 1e-9, **values: str) -> dict[str, Any]:
        assert run_import(self.monkeypatch, self.source, self.target, *more, **values) == 0
        report: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        assert report["gap"] <= limit
        assert report["batch_gap"] <= 1e-9
        return report

    def is_refused(self, because: str, *more: object, **values: str) -> None:
        status = run_import(self.monkeypatch, self.source, self.target, *more, **values)
        refused(self.capsys, status, self.target, because=because)

    def opset(self) -> int:
        model = onnx.load(self.target)
        return int(model.opset_import[0].version)


@pytest.fixture
def importing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: Path,
    target: Path,
) -> Import:
    return Import(monkeypatch, capsys, source, target)


@pytest.mark.parametrize(
    ("opset", "written"), [(11, 17), (16, 17), (17, 17), (18, 18), (21, 21), (22, 21), (24, 21)]
)
def test_the_opset_is_kept_where_every_allowed_onnxruntime_runs_it(
    opset: int, written: int, importing: Import
) -> None:
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("this onnx does not know the opset")
    save(importing.source, parts(), opset=opset)
    assert importing.works()["notes"] == []
    assert importing.opset() == written


def test_an_operator_of_a_newer_opset_is_kept_and_the_runtime_named(importing: Import) -> None:
    if onnx.defs.onnx_opset_version() < 23:
        pytest.skip("this onnx does not know the opset")
    network = parts()
    network.nodes[-1].output[0] = "rows"
    network.nodes.append(helper.make_node("RMSNormalization", ["rows", "scale"], ["y"]))
    network.constants["scale"] = normal(VALUES)
    save(importing.source, network, opset=23)
    (note,) = importing.works()["notes"]
    assert "onnxruntime>=1.22" in note
    assert importing.opset() == 23
    assert note in importing.target.with_suffix(".md").read_text()


def test_a_file_that_this_onnxruntime_does_not_run_names_another(importing: Import) -> None:
    save(importing.source, parts(), opset=99)
    importing.is_refused("which takes the newest onnxruntime")


def test_reductions_take_their_axes_as_the_opset_defines(importing: Import) -> None:
    node = helper.make_node
    for opset in (13, 18):
        network = parts()
        if opset == 13:
            mean = node("ReduceMean", ["map"], ["pooled"], axes=[2, 3], keepdims=0)
        else:
            mean = node(
                "ReduceMean", ["map", "axes"], ["pooled"], keepdims=0, noop_with_empty_axes=1
            )
            network.constants["axes"] = np.array([2, 3], np.int64)
        network.nodes[1:] = [mean, node("MatMul", ["pooled", "m"], ["y"])]
        network.constants["m"] = normal(4, VALUES)
        save(importing.source, network, opset=opset)
        importing.works()


def test_softmax_is_over_all_following_axes_before_opset_13(importing: Import) -> None:
    network = parts()
    network.nodes[1:2] = [
        helper.make_node("Softmax", ["map"], ["soft"]),
        helper.make_node("Flatten", ["soft"], ["flat"]),
    ]
    save(importing.source, network, opset=11)
    importing.works()


def test_nodes_out_of_order_are_sorted(importing: Import) -> None:
    network = parts()
    network.nodes.reverse()
    save(importing.source, network)
    importing.works()


def test_nodes_in_a_circle_are_refused(importing: Import) -> None:
    network = parts()
    network.nodes[0].input[0] = "sum"
    network.nodes.append(helper.make_node("Add", ["x", "flat"], ["sum"]))
    save(importing.source, network)
    importing.is_refused("onnxruntime cannot run the file")


@pytest.mark.parametrize(
    ("dtype", "limit"), [(TensorProto.FLOAT16, 5e-5), (TensorProto.DOUBLE, 1e-9)]
)
def test_other_floating_point_types_become_float32(
    dtype: int, limit: float, importing: Import
) -> None:
    network = parts()
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    network.constants = {name: value.astype(kind) for name, value in network.constants.items()}
    save(importing.source, network, dtype=dtype, output_type=dtype)
    (note,) = importing.works(limit=limit)["notes"]
    assert "float32" in note
    kinds = {item.data_type for item in onnx.load(importing.target).graph.initializer}
    assert kinds == {TensorProto.FLOAT}


def test_float16_weights_between_float32_input_and_output(importing: Import) -> None:
    network = parts()
    network.constants = {
        name: value.astype(np.float16) for name, value in network.constants.items()
    }
    network.nodes[0].input[0], network.nodes[-1].output[0] = "half", "half_rows"
    # As onnxruntime's converter leaves them: at the end.
    network.nodes += [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half_rows"], ["y"], to=TensorProto.FLOAT),
    ]
    save(importing.source, network)
    importing.works(limit=5e-5)


def _quantised() -> Parts:
    network = parts()
    network.nodes[0].input[0] = "rounded"
    network.nodes[0].input[1] = "weight"
    network.nodes[:0] = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["w", "steps", "zeros"], ["weight"], axis=0),
    ]
    network.constants |= {
        "w": np.clip(normal(4, 3, 2, 2) * 40, -127, 127).astype(np.int8),
        "step": np.array(1 / 64, np.float32),
        "zero": np.array(0, np.int8),
        "steps": np.full(4, 1 / 40, np.float32),
        "zeros": np.zeros(4, np.int8),
    }
    return network


def test_a_quantised_file_stays_quantised(importing: Import) -> None:
    save(importing.source, _quantised())
    (note,) = importing.works()["notes"]
    assert "int8 embeddings depend on the processor" in note
    operators = [node.op_type for node in onnx.load(importing.target).graph.node]
    assert operators.count("DequantizeLinear") == 2
    assert load(importing.target).spec.golden_tolerance == 0.99


def test_channels_last(importing: Import) -> None:
    network = parts()
    network.nodes[0].input[0] = "planes"
    network.nodes.insert(0, helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]))
    save(importing.source, network, shape=("N", SIZE_PX, SIZE_PX, 3))
    importing.is_refused("give --layout nhwc")
    importing.works("--layout", "nhwc")
    spec = load(importing.target).spec.input
    assert (spec.height_px, spec.width_px) == (SIZE_PX, SIZE_PX)


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.INT32])
def test_an_input_of_integers_takes_pixels(dtype: int, importing: Import) -> None:
    network = parts()
    network.nodes[0].input[0] = "scaled"
    network.nodes[:0] = [
        helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "most"], ["scaled"]),
    ]
    network.constants["most"] = np.array(255, np.float32)
    save(importing.source, network, dtype=dtype)
    importing.is_refused("the file takes integers and scales them itself: give --scale 1")
    importing.works(mean="0,0,0", std="1,1,1")


def test_an_input_of_another_type_is_refused(importing: Import) -> None:
    save(importing.source, parts(), dtype=TensorProto.INT8)
    importing.is_refused("input 'x' is of type INT8: supported are float32")


def test_one_of_two_outputs_is_chosen(importing: Import) -> None:
    network = parts()
    network.nodes.append(helper.make_node("Exp", ["y"], ["other"]))
    save(importing.source, network, outputs={"other": ["N", VALUES], "y": ["N", VALUES]})
    importing.is_refused("has the outputs other, y: choose the embedding with --output NAME")
    importing.is_refused("--output z: the file has no such output", "--output", "z")
    importing.works("--output", "y")
    assert "Exp" not in {node.op_type for node in onnx.load(importing.target).graph.node}


@pytest.mark.parametrize("shape", [[VALUES, 1, 1], [1, 1, VALUES], [1, VALUES]])
def test_rows_with_axes_of_one_are_rows(shape: list[int], importing: Import) -> None:
    network = parts()
    network.nodes[-1].output[0] = "rows"
    network.nodes.append(helper.make_node("Reshape", ["rows", "shape"], ["y"]))
    network.constants["shape"] = np.array([0, *shape], np.int64)
    save(importing.source, network, outputs={"y": ["N", *shape]})
    importing.works()
    assert load(importing.target).spec.embedding_size == VALUES


@pytest.mark.parametrize(
    ("product", "because"),
    [
        ((64, 1), "one value an image: every score would be 1 or -1"),
        ((4, VALUES), "has the shape (1, 16, 6) for 1 image(s)"),
    ],
)
def test_an_answer_that_is_no_row_is_refused(
    product: tuple[int, int], because: str, importing: Import
) -> None:
    network = parts()
    network.constants["m"] = normal(*product)
    if product[0] == 4:
        network.nodes[1] = helper.make_node("Reshape", ["map", "shape"], ["flat"])
        network.constants["shape"] = np.array([0, 16, 4], np.int64)
    outputs = {"y": ["N", 16, VALUES] if product[0] == 4 else ["N", 1]}
    save(importing.source, network, outputs=outputs)
    importing.is_refused(because)


def test_a_batch_of_one_in_a_reshape_is_freed(importing: Import) -> None:
    network = parts()
    network.nodes[1] = helper.make_node("Reshape", ["map", "shape"], ["flat"], allowzero=1)
    network.constants["shape"] = np.array([1, 64], np.int64)
    save(importing.source, network, shape=(1, *IMAGE))
    assert importing.works()["notes"] == []


def _with_token() -> Parts:
    """A vision transformer's first step: a token, stored for one image, joins those of the image."""
    network = parts()
    node = helper.make_node
    network.nodes[1:] = [
        node("Reshape", ["map", "shape"], ["tokens"]),
        node("Concat", ["token", "tokens"], ["joined"], axis=2),
        node("ReduceMean", ["joined"], ["pooled"], axes=[2], keepdims=0),
        node("MatMul", ["pooled", "m"], ["y"]),
    ]
    network.constants |= {
        "shape": np.array([1, 4, 16], np.int64),
        "token": normal(1, 4, 1),
        "m": normal(4, VALUES),
    }
    return network


def test_a_batch_of_one_in_the_weights_is_run_one_by_one(importing: Import) -> None:
    save(importing.source, _with_token(), shape=(1, *IMAGE))
    (note,) = importing.works()["notes"]
    assert "embedded one after the other" in note
    assert [node.op_type for node in onnx.load(importing.target).graph.node] == ["Scan"]


def test_a_batch_of_several_is_freed_or_refused(importing: Import) -> None:
    save(importing.source, parts(), shape=(4, *IMAGE))
    importing.works()
    importing.target.unlink()
    importing.target.with_suffix(".md").unlink()
    network = _with_token()
    network.constants["token"] = normal(4, 4, 1)
    network.constants["shape"][0] = 4
    save(importing.source, network, shape=(4, *IMAGE))
    importing.is_refused("the file takes 4 images at a time and its batch cannot be freed")


def test_branches_are_kept_with_what_they_read(importing: Import) -> None:
    network = parts()
    node, tensor = helper.make_node, helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [node(operator, ["rows"], [name])],
            name,
            [],
            [tensor(name, TensorProto.FLOAT, ["N", VALUES])],
        )
        for name, operator in (("then_branch", "Identity"), ("else_branch", "Neg"))
    }
    network.nodes[-1].output[0] = "product"
    network.nodes += [
        node("Identity", ["product"], ["rows"]),
        node("If", ["condition"], ["y"], **branches),
    ]
    network.constants["condition"] = np.array(True)
    save(importing.source, network)
    importing.works()


def test_weights_in_another_file_come_inside_and_count(importing: Import) -> None:
    save(importing.source, parts())
    model = onnx.load(importing.source)
    onnx.save(
        model, importing.source, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    data = importing.source.with_name("w.bin")
    importing.works()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (importing.source, data)]
    origin = load(importing.target).spec.provenance
    assert origin.source_sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    data.unlink()
    assert len(onnx.load(importing.target).graph.initializer) == 2
    importing.target.unlink()
    importing.target.with_suffix(".md").unlink()
    importing.is_refused("its weights are in w.bin, which cannot be read")


def test_more_than_a_file_can_hold_is_refused(importing: Import) -> None:
    save(importing.source, parts())
    model = onnx.load(importing.source)
    onnx.save(
        model, importing.source, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    with importing.source.with_name("w.bin").open("r+b") as file:
        file.truncate(5 << 29)
    importing.is_refused(
        "are 2.5 GiB; a model file holds its weights and cannot be larger than 2 GiB"
    )


def test_operators_of_another_domain_are_refused(importing: Import) -> None:
    network = parts()
    network.nodes[-1].output[0] = "rows"
    network.nodes.append(helper.make_node("Gelu", ["rows"], ["y"], domain="com.microsoft"))
    save(importing.source, network, domains=["com.microsoft"])
    importing.is_refused("operator Gelu is of the domain com.microsoft")


def test_local_functions_are_inlined(importing: Import) -> None:
    network = parts()
    network.nodes[-1].output[0] = "rows"
    network.nodes.append(helper.make_node("Negative", ["rows"], ["y"], domain="theirs"))
    save(importing.source, network, domains=["theirs"])
    model = onnx.load(importing.source)
    model.functions.append(
        helper.make_function(
            "theirs",
            "Negative",
            ["a"],
            ["b"],
            [helper.make_node("Neg", ["a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )
    onnx.save(model, importing.source)
    importing.works()


def test_a_card_replaces_only_a_card_of_the_same_model(importing: Import) -> None:
    save(importing.source, parts())
    importing.target = importing.target.with_name("README.onnx")
    card = importing.target.with_suffix(".md")
    card.write_text("# README\n\nWhat this project is about.\n")
    assert run_import(importing.monkeypatch, importing.source, importing.target) == 2
    assert "README.md exists and is not the card of a model 'README'" in (
        importing.capsys.readouterr().err
    )
    assert card.read_text().endswith("about.\n")
    assert not importing.target.exists()
    card.unlink()
    importing.works()
    importing.works()
    assert card.read_text().startswith("# README\n\n- modality: face\n")
