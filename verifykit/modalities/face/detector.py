"""Detect faces and their five landmarks with an ONNX detector of the YuNet kind.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023. The
decoding is that of the reference implementation (libfacedetection, and OpenCV's FaceDetectorYN).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
# A face in a given box (benchmarks.gates): longer sides of the box in the searched image, the window's margin
# in sides of the box, and the score that suffices.
_NEAR_SIDES_PX = (128, 64, 256)
_NEAR_MARGIN = 0.75
_NEAR_SCORE = 0.5
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

    def detect_turned(self, image: Image, *, every_size: bool = False) -> list[TurnedFace]:
        """Return every face in an image, also rotated by quarter turns, largest first.

        A face on its side or upside down is often found too, but with the landmarks of an upright one,
        so that its crop shows no face. In the image rotated upright it has a higher score. The image that
        the detector saw is therefore rotated, once for all faces, if one of them has a low score, or if none
        was found.

        Args:
            image: (H, W, 3) uint8 RGB.
            every_size: Search at every size in ``spec.long_sides_px``, for small faces next to a large one.

        Returns:
            Each face with its rotation; coordinates are the given image's pixels.

        Raises:
            ProviderError: The provider failed.
        """
        found, searched = self._search(image)
        faces = [TurnedFace(face) for face in found]
        if not found or any(_score(face) < _UPRIGHT_SCORE for face in found):
            faces = choose_turned(found, self._search_rotated(searched, *image.shape[:2]))
        if every_size and faces:
            faces += self._search_further(image, faces)
        return sorted(faces, key=lambda face: -_area(face.detection))

    def detect_near(
        self, image: Image, box_px: tuple[float, float, float, float]
    ) -> TurnedFace | None:
        """Return the face in a box, which the search of the whole image may have missed.

        The window around the box is searched at several sizes, enlarged too, and rotated, and a lower score
        suffices: the box says that there is a face.

        Args:
            image: (H, W, 3) uint8 RGB.
            box_px: (left, top, width, height) in its pixels; must touch it.

        Returns:
            The best face that overlaps the box; None without one.

        Raises:
            ProviderError: The provider failed.
        """
        window, (x, y) = _window(image, box_px)
        height, width = window.shape[:2]
        given = Detection((box_px[0] - x, box_px[1] - y, *box_px[2:]), (), None)
        best: TurnedFace | None = None
        for side_px in _NEAR_SIDES_PX:
            scaled = _scaled_to(window, side_px / max(box_px[2:]))
            found = _near(self._run(scaled, height, width, _NEAR_SCORE), given)
            rotated: list[tuple[Detection, float]] = []
            if not any(_score(face) >= _UPRIGHT_SCORE for face in found):
                for quarters in (1, 2, 3):
                    faces = self._run_rotated(scaled, height, width, quarters, _NEAR_SCORE)
                    rotated += [(face, 90.0 * quarters) for face in _near(faces, given)]
            for turned in choose_turned(found, rotated):
                if best is None or _score(turned.detection) > _score(best.detection):
                    best = turned
            if best is not None and _score(best.detection) >= _UPRIGHT_SCORE:
                break
        return best and replace(best, detection=_moved(best.detection, x, y))

    def _search(self, image: Image) -> tuple[list[Detection], list[Image]]:
        """Return the faces of the first size that shows any, and the image at the sizes so far."""
        searched: list[Image] = []
        for scale in self._scales(image):
            searched.append(_reduced(image, scale))
            if found := self._run(searched[-1], *image.shape[:2]):
                return sorted(found, key=lambda face: -_area(face)), searched
        return [], searched

    def _search_further(self, image: Image, known: Sequence[TurnedFace]) -> list[TurnedFace]:
        """Return the faces that only the larger sizes show, in the rotation of most that are known."""
        height, width = image.shape[:2]
        turned_deg = Counter(face.turned_deg for face in known).most_common(1)[0][0]
        quarters = round(turned_deg / 90.0)
        found = [face.detection for face in known]
        further: list[Detection] = []
        for scale in self._scales(image)[1:]:
            for face in self._run_rotated(_reduced(image, scale), height, width, quarters):
                if not _is_known(face, [*found, *further]):
                    further.append(face)
        return [TurnedFace(face, turned_deg) for face in further]

    def _scales(self, image: Image) -> list[float]:
        """Return the scales at which an image is searched, each once."""
        longest = max(image.shape[:2])
        return list(dict.fromkeys(min(1.0, side / longest) for side in self.spec.long_sides_px))

    def _search_rotated(
        self, searched: Sequence[Image], height: int, width: int
    ) -> list[tuple[Detection, float]]:
        """Return the faces in each rotation of an image, in the image's pixels, with the rotation."""
        found: list[tuple[Detection, float]] = []
        for quarters in (1, 2, 3):
            for reduced in searched:
                if faces := self._run_rotated(reduced, height, width, quarters):
                    found += [(face, 90.0 * quarters) for face in faces]
                    break
        return found

    def _run_rotated(
        self,
        reduced: Image,
        height: int,
        width: int,
        quarters: int,
        score_threshold: float | None = None,
    ) -> list[Detection]:
        """Return the faces in a reduced image rotated counter-clockwise, in the image's pixels."""
        size = (height, width) if quarters % 2 == 0 else (width, height)
        rotated = np.ascontiguousarray(np.rot90(reduced, quarters))
        found = self._run(rotated, *size, score_threshold)
        if not quarters:
            return found
        return [_rotated_back(face, quarters, height, width) for face in found]

    def _run(
        self, reduced: Image, height: int, width: int, score_threshold: float | None = None
    ) -> list[Detection]:
        """Return the faces in a reduced image, best first, in the pixels of the one of the given size."""
        rows, columns = reduced.shape[:2]
        size = (-(-rows // _ALIGNED_PX) * _ALIGNED_PX, -(-columns // _ALIGNED_PX) * _ALIGNED_PX)
        make = np.empty if size == (rows, columns) else np.zeros
        tensor = make((1, 3, *size), dtype=np.float32)
        planes = tensor[0, :, :rows, :columns]
        split_channels(reduced, planes[::-1] if self.spec.color == "bgr" else planes)
        session = self._single if cores_are_shared() else self._session
        heads = dict(zip(session.output_names, session.run(tensor), strict=True))
        least = self.spec.score_threshold if score_threshold is None else score_threshold
        boxes, landmarks, scores = decode(heads, size, least)
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
    best_face, turned_deg = max(rotated, key=lambda each: _score(each[0]))
    upright = max(map(_score, found), default=0.0)
    others = [_score(face) for face, degrees in rotated if degrees != turned_deg]
    if _is_sure(_score(best_face), upright):
        is_sure = bool(found) or _is_sure(_score(best_face), max(others, default=0.0))
        return [TurnedFace(*each, is_sure) for each in rotated if each[1] == turned_deg]
    scores = np.array([_score(face) for face, _ in rotated])
    overlaps = _overlaps(found, [face for face, _ in rotated])
    # A face that is partly hidden by another must not become that one, upside down.
    own = overlaps == overlaps.max(axis=0, initial=_MIN_OVERLAP)
    chosen = []
    for number, face in enumerate(found):
        better = own[number] & (scores > _score(face) + _MIN_GAIN)
        if _score(face) >= _UPRIGHT_SCORE or not better.any():
            chosen.append(TurnedFace(face))
            continue
        best_face, turned_deg = rotated[int(np.argmax(np.where(better, scores, -1.0)))]
        chosen.append(TurnedFace(best_face, turned_deg, _is_sure(_score(best_face), _score(face))))
    return chosen


def _score(face: Detection) -> float:
    return face.score or 0.0


def _is_known(face: Detection, others: Sequence[Detection]) -> bool:
    """Return whether a face is one of those that are known, or the part of one."""
    left, top, width, height = face.box_px
    boxes = np.array([other.box_px for other in others]).reshape(-1, 4)
    offset = np.array([left + width / 2, top + height / 2]) - boxes[:, :2]
    is_inside = ((offset > 0) & (offset < boxes[:, 2:])).all(axis=1)
    return bool((is_inside | (_overlaps([face], others)[0] > _MIN_OVERLAP)).any())


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


def _near(faces: Sequence[Detection], given: Detection) -> list[Detection]:
    """Return the faces that overlap a given box."""
    overlaps = _overlaps(faces, [given])[:, 0]
    return [face for face, shared in zip(faces, overlaps, strict=True) if shared > _MIN_OVERLAP]


def _window(
    image: Image, box_px: tuple[float, float, float, float]
) -> tuple[Image, tuple[int, int]]:
    """Return the part of an image around a box, with a margin, and its left and top."""
    left, top, width, height = box_px
    margin = _NEAR_MARGIN * max(width, height)
    x, y = (max(0, int(edge - margin)) for edge in (left, top))
    right, bottom = (int(np.ceil(edge + margin)) for edge in (left + width, top + height))
    return np.ascontiguousarray(image[y:bottom, x:right]), (x, y)


def _scaled_to(image: Image, scale: float) -> Image:
    """Return an image reduced or enlarged."""
    import cv2

    if scale <= 1.0:
        return _reduced(image, scale)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    enlarged = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged, dtype=np.uint8)


def _moved(face: Detection, x: int, y: int) -> Detection:
    left, top, width, height = face.box_px
    landmarks_px = tuple((each_x + x, each_y + y) for each_x, each_y in face.landmarks_px)
    return Detection((left + x, top + y, width, height), landmarks_px, face.score)


def _non_maximum_suppression(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float
) -> list[int]:
    if len(boxes) < 2:
        return list(range(len(boxes)))
    import cv2

    # Every box is above the score threshold; 0.0 keeps them all.
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.0, threshold)
    return [int(i) for i in np.asarray(kept).ravel()]
