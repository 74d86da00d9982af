"""Detect faces and their five landmarks with an ONNX detector of the YuNet kind.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023. The
decoding is that of the reference implementation (libfacedetection, and OpenCV's FaceDetectorYN).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import ModelContractError
from verifykit.modalities.ops import split_channels
from verifykit.session import Provider, Session
from verifykit.spec import DetectorSpec
from verifykit.types import Detection, Image

_STRIDES = (8, 16, 32)

# No rotated face reaches this score (benchmarks.turned); the others take three more runs.
_UPRIGHT_SCORE = 0.91
_MIN_GAIN = 0.01
_HEADS = tuple(f"{head}_{stride}" for head in ("cls", "obj", "bbox", "kps") for stride in _STRIDES)


class FaceDetector:
    """Detect faces; safe to share between threads.

    Attributes:
        spec: How it is run.
        provider: Name of the provider that runs it.
    """

    def __init__(
        self,
        model: bytes,
        spec: DetectorSpec,
        *,
        providers: Provider = "auto",
        threads: int | None = None,
    ) -> None:
        """Open a detector.

        Args:
            model: The detector's ONNX bytes, with outputs ``cls_8 .. kps_32``.
            spec: How it is run.
            providers: As for :class:`~verifykit.session.Session`.
            threads: Threads within one run; None uses every core.

        Raises:
            ModelContractError: Its outputs are not those of a YuNet.
            ProviderError: The provider is not available.
            ModelIntegrityError: onnxruntime cannot load it.
        """
        self.spec = spec
        self._session = Session(
            model, name=f"detector {spec.name}", providers=providers, threads=threads
        )
        self.provider = self._session.provider
        if set(self._session.output_names) != set(_HEADS):
            raise ModelContractError(
                f"detector {spec.name}: outputs {sorted(_HEADS)} are required, it has "
                f"{sorted(self._session.output_names)}"
            )

    def detect(self, image: Image) -> list[Detection]:
        """Return every face in an image, largest first.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Detections in the image's own pixels; empty when no size in ``spec.long_sides_px`` shows a
            face.

        Raises:
            ProviderError: The provider failed.
        """
        tried = set()
        for long_side_px in self.spec.long_sides_px:
            scale = min(1.0, long_side_px / max(image.shape[:2]))
            if scale in tried:
                continue
            tried.add(scale)
            if found := self._detect_at(image, scale):
                return sorted(found, key=lambda d: -d.box_px[2] * d.box_px[3])
        return []

    def turned_deg(self, image: Image, detection: Detection) -> float:
        """Return how a face is rotated in its image: 0 when upright, else 90, 180 or 270.

        A face on its side or upside down is often found too, but with the landmarks of an upright one,
        so that its crop shows no face. In the image rotated upright it has a higher score.

        Args:
            image: (H, W, 3) uint8 RGB.
            detection: A face in it.

        Returns:
            Degrees by which the image must be rotated counter-clockwise to show the face upright.

        Raises:
            ProviderError: The provider failed.
        """
        if detection.score >= _UPRIGHT_SCORE:
            return 0.0
        import cv2

        best_deg, best_score = 0.0, detection.score + _MIN_GAIN
        left, top, width, height = detection.box_px
        x, y = left + width / 2.0, top + height / 2.0
        for degrees in (90.0, 180.0, 270.0):
            x, y = y, image.shape[1] - x
            image = np.asarray(cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8)
            for found in self.detect(image):
                left, top, width, height = found.box_px
                same = left <= x <= left + width and top <= y <= top + height
                if same and found.score > best_score:
                    best_deg, best_score = degrees, found.score
        return best_deg

    def _detect_at(self, image: Image, scale: float) -> list[Detection]:
        padded, factors = _padded(image, scale)
        tensor = np.empty((1, 3, *padded.shape[:2]), dtype=np.float32)
        split_channels(padded, tensor[0, ::-1] if self.spec.color == "bgr" else tensor[0])
        heads = dict(zip(self._session.output_names, self._session.run(tensor), strict=True))
        boxes, landmarks, scores = decode(heads, padded.shape[:2], self.spec.score_threshold)
        kept = _non_maximum_suppression(boxes, scores, self.spec.nms_threshold)
        boxes[:, :2] *= factors
        boxes[:, 2:] *= factors
        landmarks *= factors
        return [
            Detection(
                box_px=tuple(boxes[i].tolist()),
                landmarks_px=tuple((x, y) for x, y in landmarks[i].tolist()),
                score=float(scores[i]),
            )
            for i in kept
        ]


def decode(
    heads: Mapping[str, NDArray[np.float32]], size_px: tuple[int, ...], score_threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes, landmarks and scores from the network's twelve outputs, best first.

    Args:
        heads: ``cls_s`` (1, P, 1), ``obj_s`` (1, P, 1), ``bbox_s`` (1, P, 4), ``kps_s`` (1, P, 10) for
            each stride s, with P = (height / s) * (width / s) cells row by row.
        size_px: (height, width) of the network's input, multiples of 32.
        score_threshold: Cells below are dropped.

    Returns:
        (M, 4) boxes (left, top, width, height), (M, 5, 2) landmarks (x, y), in the input's pixels, and
        (M,) scores ``sqrt(cls * obj)`` in [0, 1].
    """
    boxes, landmarks, scores = [np.empty((0, 4))], [np.empty((0, 5, 2))], [np.empty(0)]
    for stride in _STRIDES:
        cls, obj = (heads[f"{head}_{stride}"][0, :, 0].clip(0.0, 1.0) for head in ("cls", "obj"))
        score = np.sqrt(cls.astype(np.float64) * obj)
        cells = np.flatnonzero(score >= score_threshold)
        if not len(cells):
            continue
        grid = np.column_stack([cells % (size_px[1] // stride), cells // (size_px[1] // stride)])
        box = heads[f"bbox_{stride}"][0, cells].astype(np.float64)
        centre, size = (grid + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride
        points = heads[f"kps_{stride}"][0, cells].astype(np.float64).reshape(-1, 5, 2)
        boxes.append(np.hstack([centre - size / 2.0, size]))
        landmarks.append((points + grid[:, None]) * stride)
        scores.append(score[cells])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return (
        np.concatenate(boxes)[order],
        np.concatenate(landmarks)[order],
        np.concatenate(scores)[order],
    )


def _padded(image: Image, scale: float) -> tuple[Image, NDArray[np.float64]]:
    """Return the reduced image, zero-padded to multiples of 32, and (x, y) factors to its own pixels."""
    height, width = image.shape[:2]
    if scale < 1.0:
        import cv2

        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    rows, columns = image.shape[:2]
    padded = np.zeros((-(-rows // 32) * 32, -(-columns // 32) * 32, 3), dtype=np.uint8)
    padded[:rows, :columns] = image
    return padded, np.array([width / columns, height / rows])


def _non_maximum_suppression(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float
) -> list[int]:
    if not len(boxes):
        return []
    import cv2

    # Every box is above the score threshold; 0.0 keeps them all.
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.0, threshold)
    return [int(i) for i in np.asarray(kept).ravel()]
