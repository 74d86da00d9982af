"""A modality and a sample check as an application would add them: defined here, and registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.model_specs import FACE_INPUT, face_spec
from verifykit import modalities, modelfile
from verifykit.errors import AcquisitionError
from verifykit.modalities import Detector, Finding, FoundSample, Modality, SampleCheck, to_tensor
from verifykit.modalities.ops import golden_image
from verifykit.spec import CropSpec
from verifykit.types import Image

SIDE_PX = 8
SIZE = 32


@dataclass(frozen=True)
class PalmCrop(CropSpec):
    """The brightest row and what is below it."""

    kind: ClassVar[str] = "palm"
    min_brightness: float = 10.0


class PalmModality(Modality):
    """Palms: the image from its brightest row downwards."""

    name = "palm"
    label = "Palms"
    noun = "palm"
    plural = "palms"
    crop_spec = PalmCrop
    capture = "camera"
    reasons: ClassVar[Mapping[str, str]] = {"no_palm": "Hold your palm into the light."}

    def find(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        assert isinstance(spec, PalmCrop)
        rows = image.mean(axis=(1, 2))
        if rows.max() < spec.min_brightness:
            raise AcquisitionError("no palm was found in this image", reason="no_palm")
        return [Finding(evidence=int(rows.argmax()))]

    def crop(self, image: Image, spec: CropSpec, finding: Finding) -> Image:
        start = min(int(finding.evidence or 0), image.shape[0] - 1)
        rows = np.linspace(start, image.shape[0] - 1, spec.height_px).astype(int)
        columns = np.linspace(0, image.shape[1] - 1, spec.width_px).astype(int)
        return np.ascontiguousarray(image[rows][:, columns])


class BlueCheck(SampleCheck):
    """Objects to an image that is blue."""

    name = "blue"
    reasons: ClassVar[Mapping[str, str]] = {"too_blue": "Use white light."}
    limits = 0.8

    def measure(self, sample: FoundSample) -> dict[str, float]:
        return {"blue_share": float(sample.crop[..., 2].sum() / max(1, sample.crop.sum()))}

    def judge(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        return ("too_blue",) if measures["blue_share"] > self.limits else ()


@contextmanager
def registered_palm() -> Iterator[None]:
    """Register the modality, for as long as the context lasts."""
    modalities.register(PalmModality())
    try:
        yield
    finally:
        modalities.unregister("palm")


@contextmanager
def registered_check(modality: str) -> Iterator[None]:
    """Register the check for a modality, for as long as the context lasts."""
    modalities.register_check(BlueCheck(), modality)
    try:
        yield
    finally:
        modalities.unregister("blue")


def write_palm_model(path: Path) -> Path:
    """Write a model file whose network is one matrix."""
    weights = np.random.default_rng(7).normal(size=(3 * SIDE_PX * SIDE_PX, SIZE)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", SIZE])
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "matrix", [x], [y], [numpy_helper.from_array(weights, "w")])
    opset = [helper.make_opsetid("", 17)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    spec = face_spec(
        name="palm",
        modality="palm",
        crop=PalmCrop(SIDE_PX, SIDE_PX),
        embedding_size=SIZE,
        golden_embedding=(1.0,) + (0.0,) * (SIZE - 1),
        input=replace(FACE_INPUT, height_px=SIDE_PX, width_px=SIDE_PX, mean=(100.0, 100.0, 100.0)),
    )
    golden = to_tensor([golden_image(SIDE_PX, SIDE_PX)], spec.input).reshape(1, -1) @ weights
    unit = tuple((golden[0] / np.linalg.norm(golden)).tolist())
    spec = replace(spec, golden_embedding=unit)
    data += modelfile.metadata_entry(modelfile.SPEC_KEY, spec.to_json())
    path.write_bytes(modelfile.append_checksum(data))
    return path
