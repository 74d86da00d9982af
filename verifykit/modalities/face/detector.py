"""Detect faces and their five landmarks with an ONNX detector of the YuNet kind.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023. The
decoding is that of the reference implementation (libfacedetection, and OpenCV's FaceDetectorYN).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from verifykit._cpus import cores_are_shared
from verifykit.errors import ModelContractError
from verifykit.modalities.ops import split_channels
from verifykit.session import Provider, Session
from verifykit.spec import DetectorSpec
from verifykit.types import Detection, Image

_STRIDES = (8, 16, 32)
_ALIGNED_PX = 32

# No rotated face reaches this score (benchmarks.turned); the others take three more runs.
_UPRIGHT_SCORE = 0.91
_MIN_GAIN = 0.01
# Of low scores, the better one by less may be that of the wrong rotation (benchmarks.turned).
_SURE_GAIN = 0.05
_MIN_OVERLAP = 0.3
_HEADS = tuple(f"{head}_{stride}" for head in ("cls", "obj", "bbox", "kps") for stride in _STRIDES)


@dataclass(frozen=True)
class TurnedFace:
    """A face with its rotation.

    Attributes:
        detection: Its box in the image as given, and its landmarks: the right eye is the subject's.
        turned_deg: Degrees by which the image must be rotated counter-clockwise to show it upright: 0, 90,
            180 or 270.
        is_sure: Whether the scores of the rotations differ enough.
    """

    detection: Detection
    turned_deg: float = 0.0
    is_sure: bool = True


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
        self._session = self._open(model, providers, threads)
        self._open_single = partial(self._open, model, providers, 1)
        self.provider = self._session.provider
        if set(self._session.output_names) != set(_HEADS):
            raise ModelContractError(
                f"detector {spec.name}: outputs {sorted(_HEADS)} are required, it has "
                f"{sorted(self._session.output_names)}"
            )

    def _open(self, model: bytes, providers: Provider, threads: int | None) -> Session:
        return Session(
            model, name=f"detector {self.spec.name}", providers=providers, threads=threads
        )

    @functools.cached_property
    def _single(self) -> Session:
        """Return the same network on one thread, for images that are worked on at once; it is small."""
        return self._open_single()

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
        return self._search(image)[0]

    def detect_turned(self, image: Image) -> list[TurnedFace]:
        """Return every face in an image, also rotated by quarter turns, largest first.

        A face on its side or upside down is often found too, but with the landmarks of an upright one,
        so that its crop shows no face. In the image rotated upright it has a higher score. The image that
        the detector saw is therefore rotated, once for all faces, if one of them has a low score, or if none
        was found.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Each face with its rotation; coordinates are the given image's pixels.

        Raises:
            ProviderError: The provider failed.
        """
        found, searched = self._search(image)
        if found and all(face.score >= _UPRIGHT_SCORE for face in found):
            return [TurnedFace(face) for face in found]
        chosen = choose_turned(found, self._search_rotated(searched, *image.shape[:2]))
        return sorted(chosen, key=lambda face: -_area(face.detection))

    def _search(self, image: Image) -> tuple[list[Detection], list[Image]]:
        """Return the faces of the first size that shows any, and the image at the sizes so far."""
        searched: list[Image] = []
        tried = set()
        for long_side_px in self.spec.long_sides_px:
            scale = min(1.0, long_side_px / max(image.shape[:2]))
            if scale in tried:
                continue
            tried.add(scale)
            searched.append(_reduced(image, scale))
            if found := self._run(searched[-1], *image.shape[:2]):
                return sorted(found, key=lambda face: -_area(face)), searched
        return [], searched

    def _search_rotated(
        self, searched: Sequence[Image], height: int, width: int
    ) -> list[tuple[Detection, float]]:
        """Return the faces in each rotation of an image, in the image's pixels, with the rotation."""
        found: list[tuple[Detection, float]] = []
        for quarters in (1, 2, 3):
            size = (height, width) if quarters == 2 else (width, height)
            for reduced in searched:
                rotated = np.ascontiguousarray(np.rot90(reduced, quarters))
                if faces := self._run(rotated, *size):
                    found += [
                        (_rotated_back(face, quarters, height, width), 90.0 * quarters)
                        for face in faces
                    ]
                    break
        return found

    def _run(self, reduced: Image, height: int, width: int) -> list[Detection]:
        """Return the faces in a reduced image, best first, in the pixels of the one of the given size."""
        rows, columns = reduced.shape[:2]
        size = (-(-rows // _ALIGNED_PX) * _ALIGNED_PX, -(-columns // _ALIGNED_PX) * _ALIGNED_PX)
        make = np.empty if size == (rows, columns) else np.zeros
        tensor = make((1, 3, *size), dtype=np.float32)
        planes = tensor[0, :, :rows, :columns]
        split_channels(reduced, planes[::-1] if self.spec.color == "bgr" else planes)
        session = self._single if cores_are_shared() else self._session
        heads = dict(zip(session.output_names, session.run(tensor), strict=True))
        boxes, landmarks, scores = decode(heads, size, self.spec.score_threshold)
        kept = _non_maximum_suppression(boxes, scores, self.spec.nms_threshold)
        factors = np.array([width / reduced.shape[1], height / reduced.shape[0]])
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


def choose_turned(
    found: Sequence[Detection], rotated: Sequence[tuple[Detection, float]]
) -> list[TurnedFace]:
    """Return the faces of an image, each as it is upright.

    If the best face of a rotation is clearly better than any as the image is, the image is turned, and
    its faces are those of that rotation. Else each face may be turned on its own.

    Args:
        found: Faces in the image as it is.
        rotated: Faces in its rotations, in the same pixels, with the rotation.
    """
    if not rotated:
        return [TurnedFace(face) for face in found]
    best_face, turned_deg = max(rotated, key=lambda each: each[0].score)
    upright = max((face.score for face in found), default=0.0)
    others = [face.score for face, degrees in rotated if degrees != turned_deg]
    if _is_sure(best_face.score, upright):
        is_sure = bool(found) or _is_sure(best_face.score, max(others, default=0.0))
        return [TurnedFace(*each, is_sure) for each in rotated if each[1] == turned_deg]
    scores = np.array([face.score for face, _ in rotated])
    overlaps = _overlaps(found, [face for face, _ in rotated])
    # A face that is partly hidden by another must not become that one, upside down.
    own = overlaps == overlaps.max(axis=0, initial=_MIN_OVERLAP)
    chosen = []
    for number, face in enumerate(found):
        better = own[number] & (scores > face.score + _MIN_GAIN)
        if face.score >= _UPRIGHT_SCORE or not better.any():
            chosen.append(TurnedFace(face))
            continue
        best_face, turned_deg = rotated[int(np.argmax(np.where(better, scores, -1.0)))]
        chosen.append(TurnedFace(best_face, turned_deg, _is_sure(best_face.score, face.score)))
    return chosen


def _is_sure(score: float, other: float) -> bool:
    """Return whether a face's score in one rotation leaves no doubt about another one."""
    return score > other + (_MIN_GAIN if score >= _UPRIGHT_SCORE else _SURE_GAIN)


def _overlaps(faces: Sequence[Detection], others: Sequence[Detection]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes, (N, M)."""
    a = np.array([face.box_px for face in faces]).reshape(-1, 1, 4)
    b = np.array([face.box_px for face in others]).reshape(1, -1, 4)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.maximum(high - low, 0.0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - shared
    return np.asarray(shared / union)


def _rotated_back(face: Detection, quarters: int, height: int, width: int) -> Detection:
    """Return a face in an image's pixels from one in the image rotated counter-clockwise."""

    def back(x: float, y: float) -> tuple[float, float]:
        if quarters == 2:
            return width - 1 - x, height - 1 - y
        return (width - 1 - y, x) if quarters == 1 else (y, height - 1 - x)

    left, top, box_width, box_height = face.box_px
    (x0, y0), (x1, y1) = back(left, top), back(left + box_width, top + box_height)
    box_px = (min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
    return Detection(box_px, tuple(back(x, y) for x, y in face.landmarks_px), face.score)


def _area(face: Detection) -> float:
    return face.box_px[2] * face.box_px[3]


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
    # Nearly every cell is far below: its product in float32, not clipped and compared with a little less
    # than the threshold's square, leaves none out.
    least = np.float32(0.999 * score_threshold**2)
    for stride in _STRIDES:
        cls, obj = (heads[f"{head}_{stride}"][0, :, 0] for head in ("cls", "obj"))
        cells = np.flatnonzero(cls * obj >= least)
        if not len(cells):
            continue
        cls, obj = (values[cells].clip(0.0, 1.0) for values in (cls, obj))
        score = np.sqrt(cls.astype(np.float64) * obj)
        reached = score >= score_threshold
        cells, score = cells[reached], score[reached]
        grid = np.column_stack([cells % (size_px[1] // stride), cells // (size_px[1] // stride)])
        box = heads[f"bbox_{stride}"][0, cells].astype(np.float64)
        centre, size = (grid + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride
        points = heads[f"kps_{stride}"][0, cells].astype(np.float64).reshape(-1, 5, 2)
        boxes.append(np.hstack([centre - size / 2.0, size]))
        landmarks.append((points + grid[:, None]) * stride)
        scores.append(score)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return (
        np.concatenate(boxes)[order],
        np.concatenate(landmarks)[order],
        np.concatenate(scores)[order],
    )


def _reduced(image: Image, scale: float) -> Image:
    if scale >= 1.0:
        return image
    import cv2

    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _non_maximum_suppression(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float
) -> list[int]:
    if len(boxes) < 2:
        return list(range(len(boxes)))
    import cv2

    # Every box is above the score threshold; 0.0 keeps them all.
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.0, threshold)
    return [int(i) for i in np.asarray(kept).ravel()]
