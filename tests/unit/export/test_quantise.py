"""A float32 model becomes one in int8: other digest, no thresholds, measured on subjects it did not see."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.helpers.spoilt_model import spoilt_model
from verifykit import models
from verifykit.encoder import Encoder

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import verifykit_export.quantise
from tests.unit.export.commands import command, refused
from tests.unit.training.drawing import draw_folder

SIZE_PX = 32


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("people"), subjects=8, images=8)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "small.onnx"


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model with a PRelu, which the import wrote as convolutions."""
    random = np.random.default_rng(3)
    constants = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "slope": random.uniform(0.1, 0.4, (8, 1, 1)).astype(np.float32),
        "fc": random.normal(0, 0.1, (16, 8 * 16 * 16)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["a", "slope"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "fc"], ["out"], transB=1),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("data", kind, ["n", 3, SIZE_PX, SIZE_PX])],
        [helper.make_tensor_value_info("out", kind, ["n", 16])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "theirs.onnx")
    path = tmp_path / "mine.onnx"
    text = (
        "--modality plain --color bgr --mean 127.5,127.5,127.5 --std 127.5,127.5,127.5 --crop plain "
        "--licence MIT --source drawn"
    )
    assert command(monkeypatch, "import", tmp_path / "theirs.onnx", path, *text.split()) == 0
    return path


def test_the_int8_model_answers_nearly_alike_and_is_another_model(
    monkeypatch: pytest.MonkeyPatch,
    float32: Path,
    target: Path,
    people: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--data", people, "--max-fnmr-rise", "0.2", "--json")
    capsys.readouterr()
    assert command(monkeypatch, "quantise", float32, target, *options) == 0
    report = json.loads(capsys.readouterr().out)
    old, new = models.load(float32), models.load(target)
    assert report["digest"] == new.spec.digest != old.spec.digest
    assert (new.spec.name, new.spec.golden_tolerance) == ("mine-int8", 0.99)
    assert (new.spec.operating_points, new.spec.default_fmr) == ((), None)
    assert old.spec.digest in new.spec.provenance.source
    assert report["ranged"] == 32  # every second subject, and the rates are of the others
    assert report["int8"]["subjects"] == report["float32"]["subjects"] == 4
    assert 0.98 < report["least_cosine"] <= report["median_cosine"] < 1.0

    image = people / "s01" / "0.png"
    rows = [
        Encoder.open(path, providers="cpu").templates(image)[0].embedding
        for path in (float32, target)
    ]
    assert 0.98 < float(rows[0] @ rows[1]) < 1 - 1e-7
    operators = [node.op_type for node in onnx.load(target).graph.node]
    assert operators.count("PRelu") == 1
    # What the Conv and the Gemm read: its input, and not what comes out of it.
    assert operators.count("QuantizeLinear") == 2
    card = target.with_suffix(".md").read_text()
    assert "## Quantisation" in card
    assert f"median {report['median_cosine']:.4f}" in card

    status = command(monkeypatch, "quantise", target, target.with_name("b.onnx"), *options)
    assert status == 2
    assert "computes in int8 already" in capsys.readouterr().err


def test_a_model_whose_fnmr_rose_too_much_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
    float32: Path,
    target: Path,
    people: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def spoilt(model: onnx.ModelProto, *_: object) -> onnx.ModelProto:
        return spoilt_model(model, dimensions=2)

    monkeypatch.setattr(verifykit_export.quantise, "to_int8_convolutions", spoilt)
    capsys.readouterr()
    options = ("--data", people, "--max-fnmr-rise", "0")
    status = command(monkeypatch, "quantise", float32, target, *options)
    refused(capsys, status, target, because="raises the FNMR at FMR")


def test_too_few_images_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    float32: Path,
    target: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = draw_folder(tmp_path / "few", subjects=4, images=3)
    capsys.readouterr()
    status = command(monkeypatch, "quantise", float32, target, "--data", few)
    refused(capsys, status, target, because="6 images of every second subject give a crop")
