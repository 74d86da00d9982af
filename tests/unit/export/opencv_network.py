"""The carrier's networks, as they are and in OpenCV, which reads them as they are."""

from __future__ import annotations

import os

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from verifykit_export.face import SFACE, YUNET, WeightsSource
from verifykit_export.foreign import import_detector, import_encoder

HEADS = [f"{head}_{stride}" for head in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]


@pytest.fixture(scope="session")
def sface() -> onnx.ModelProto:
    return onnx.load_model_from_string(SFACE.read())


@pytest.fixture(scope="session")
def yunet() -> onnx.ModelProto:
    return onnx.load_model_from_string(YUNET.read())


@pytest.fixture(scope="session")
def encoder(sface: onnx.ModelProto) -> onnx.ModelProto:
    return import_encoder(sface, "sface")


@pytest.fixture(scope="session")
def detector(yunet: onnx.ModelProto) -> onnx.ModelProto:
    return import_detector(yunet, "yunet")


class OpenCVNetwork:
    """A carried file in OpenCV's own runtime, by none of our code."""

    def __init__(self, file: WeightsSource) -> None:
        data = np.frombuffer(file.read(), dtype=np.uint8)
        try:
            self._net = cv2.dnn.readNetFromONNX(data)
        except cv2.error as error:
            if "DequantizeLinear" not in str(error):
                raise
            pytest.skip(f"OpenCV {cv2.__version__} cannot read block-wise DequantizeLinear")

    def run(
        self, tensor: NDArray[np.float32], input_name: str, outputs: list[str]
    ) -> list[NDArray[np.float32]]:
        cv2.setNumThreads(min(2, os.cpu_count() or 1))
        self._net.setInput(tensor, input_name)
        return [np.asarray(answer) for answer in self._net.forward(outputs)]
