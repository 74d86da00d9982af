"""Models, image folders and processes for the tests of identify-batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as Picture

import verifykit as vk
from tests.helpers.model_specs import plain_spec
from verifykit import modelfile
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.modalities import golden_image, to_tensor
from verifykit.types import Embeddings, Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SIDE_PX = 8


def encode(crops: Sequence[Image]) -> Embeddings:
    """Return unit rows of the crops' first pixels."""
    rows = np.array([[*crop[0, 0], 1.0] for crop in crops], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def small_verifier(gallery: Path | None = None, **changes: Any) -> vk.Verifier:
    spec = plain_spec(**changes)
    verifier = vk.Verifier(Encoder(spec, encode, SampleExtractor(spec.crop)), gallery)
    if not len(verifier.gallery):
        verifier.enroll("red", np.full((8, 8, 3), RED, np.uint8))
        verifier.enroll("green", np.full((8, 8, 3), GREEN, np.uint8))
    return verifier


def small_folder(folder: Path) -> Path:
    images = {"b.png": RED, "a/é.png": GREEN, "a.png": BLUE, "a/z.PNG": RED, "a-b/x.png": GREEN}
    for name, color in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Picture.new("RGB", (8, 8), color).save(folder / name)
    (folder / "a/broken.jpg").write_bytes(b"\xff\xd8 not an image")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def many(folder: Path, count: int, size_px: tuple[int, int] = (8, 8)) -> Path:
    """Write images of random colors, one in ten damaged; 40 are drawn, the others are links."""
    folder.mkdir()
    rng = np.random.default_rng(count)
    for number in range(count):
        path = folder / f"{number:05}.jpg"
        if number >= 40:
            os.link(folder / f"{number % 40:05}.jpg", path)
            continue
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), cv2.resize(small, size_px))
        if number % 10 == 7:
            path.write_bytes(path.read_bytes()[:99])
    return folder


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def write_model(path: Path) -> Path:
    """Write a model file whose network is one matrix: quick to load, quick to run."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(3 * SIDE_PX * SIDE_PX, 4)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "matrix", [x], [y], [numpy_helper.from_array(weights, "w")])
    opset = [helper.make_opsetid("", 17)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    spec = plain_spec(SIDE_PX, SIDE_PX)
    golden = to_tensor([golden_image(SIDE_PX, SIDE_PX)], spec.input).reshape(1, -1) @ weights
    unit = (golden[0] / np.linalg.norm(golden)).tolist()
    spec = plain_spec(SIDE_PX, SIDE_PX, golden_embedding=tuple(unit))
    data += modelfile.metadata_entry(modelfile.SPEC_KEY, spec.to_json())
    path.write_bytes(modelfile.append_checksum(data))
    return path


def write_crowd(place: Path, count: int) -> Path:
    """Write a model, a gallery of twenty and a folder of images that are slow to decode."""
    images = many(place / "pictures", count, (640, 480))
    verifier = vk.Verifier(write_model(place / "m.onnx"), place / "g.db", threads=1)
    for number in range(20):
        if number % 10 != 7:
            verifier.enroll(f"s{number}", str(images / f"{number:05}.jpg"))
    return place


def start(crowd: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start identify-batch over the crowd in another process."""
    command = [sys.executable, "-m", "verifykit", "identify-batch", str(crowd / "pictures")]
    command += ["-g", str(crowd / "g.db"), "-m", str(crowd / "m.onnx"), "-o", str(out)]
    return subprocess.Popen(
        [*command, "--threshold", "0.9", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process, and return its status; damaged images among `many` make it 3, not 0."""
    errors = process.communicate()[1].decode()
    assert "Traceback" not in errors
    assert process.returncode <= 0 or process.returncode == 3, errors
    return process.returncode
