"""The ONNX encoder of another project becomes a verifykit model with the same embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from verifykit import models
from verifykit.encoder import Encoder

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

from tests.unit.export.commands import command, refused
from tests.unit.training.drawing import draw_folder

SIZE_PX = 32


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "mine.onnx"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An encoder as others write them: of fixed batch, weights among the inputs, opset 11."""
    random = np.random.default_rng(3)
    constants = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "slope": random.uniform(0.1, 0.4, (8, 1, 1)).astype(np.float32),
        "gamma": random.uniform(0.5, 2.0, 8).astype(np.float32),
        "beta": random.normal(size=8).astype(np.float32),
        "mean": random.normal(size=8).astype(np.float32),
        "var": random.uniform(0.5, 2.0, 8).astype(np.float32),
        "fc": random.normal(0, 0.1, (16, 8 * 16 * 16)).astype(np.float32),
        "bias": random.normal(size=16).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["b"]),
        helper.make_node("PRelu", ["b", "slope"], ["c"]),
        helper.make_node("Dropout", ["c"], ["d"], ratio=0.4),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "fc", "bias"], ["out"], transB=1),
    ]
    float32 = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("data", float32, [1, 3, SIZE_PX, SIZE_PX])]
    inputs += [helper.make_tensor_value_info(k, float32, v.shape) for k, v in constants.items()]
    graph = helper.make_graph(
        nodes,
        "foreign",
        inputs,
        [helper.make_tensor_value_info("out", float32, [1, 16])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path = tmp_path / "theirs.onnx"
    onnx.save(model, path)
    return path


def import_foreign(
    monkeypatch: pytest.MonkeyPatch,
    foreign: Path,
    target: Path,
    *more: object,
    mean: str = "127.5,127.5,127.5",
) -> int:
    options = {
        "--modality": "face",
        "--color": "bgr",
        "--mean": mean,
        "--std": "127.5,127.5,127.5",
        "--licence": "MIT",
        "--source": "somebody's file",
    }
    spread = [part for option in options.items() for part in option]
    return command(monkeypatch, "import", foreign, target, *spread, *more)


def test_a_foreign_encoder_becomes_a_model_that_answers_alike(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    foreign: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    people = draw_folder(tmp_path / "people", subjects=11, images=6)
    more = ("--crop", "plain", "--data", people, "--json")
    assert import_foreign(monkeypatch, foreign, target, *more) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["real_images"] == 64
    assert report["gap"] <= 1e-6

    picture = people / "s00" / "0.png"
    session = onnxruntime.InferenceSession(foreign, providers=["CPUExecutionProvider"])
    bgr = cv2.imread(str(picture)).astype(np.float32)
    (expected,) = session.run(None, {"data": ((bgr - 127.5) / 127.5).transpose(2, 0, 1)[None]})
    found = Encoder.open(target).templates(picture)[0].embedding
    cosine = float(expected[0] @ found / np.linalg.norm(expected))
    assert cosine == pytest.approx(1.0, abs=1e-6)
    assert models.load(target).spec.name == "mine"
    assert "error rates: not measured here" in target.with_suffix(".md").read_text()


def test_a_foreign_face_encoder_takes_its_detector_from_the_face_model(
    monkeypatch: pytest.MonkeyPatch,
    foreign: Path,
    target: Path,
    face_model: Path,
    portraits: Mapping[str, Path],
) -> None:
    assert import_foreign(monkeypatch, foreign, target, "--crop", "five_point") == 0
    assert models.load(target).detector == models.load(face_model).detector
    sample = Encoder.open(target).templates(portraits["person_a_1"])[0]
    assert sample.detection is not None


@pytest.mark.parametrize(
    ("more", "mean", "because"),
    [
        ((), "127.5,127.5", "bgr has 3 channel(s)"),
        ((), "127.5;127.5;127.5", "--mean takes numbers with commas"),
        (("--height", 48), "0,0,0", "--height 48 was given, the file takes 32 px"),
        (("--color", "grey", "--std", "1"), "0", "--color grey has 1 channel(s), the file takes 3"),
    ],
)
def test_an_import_that_contradicts_the_file_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    foreign: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[object, ...],
    mean: str,
    because: str,
) -> None:
    status = import_foreign(monkeypatch, foreign, target, "--crop", "plain", *more, mean=mean)
    refused(capsys, status, target, because=because)


def test_a_file_that_is_no_onnx_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    target: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(b"\xff\xfenot a model")
    status = import_foreign(monkeypatch, path, target, "--crop", "plain")
    refused(capsys, status, target, because="no ONNX file that can be read")
