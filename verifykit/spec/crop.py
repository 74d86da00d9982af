"""Geometry as the model file states it: which part of an image the network sees, and at what size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from verifykit.errors import ModelContractError
from verifykit.spec.values import Color, require_positive

__all__ = ["CropSpec", "DetectorSpec", "FivePointCrop", "PlainCrop"]


@dataclass(frozen=True)
class DetectorSpec:
    """How the face detector inside the model file is run.

    Attributes:
        name: What it is, for people.
        weights_sha256: Digest of its weights and graph.
        color: Channel order it wants, values 0..255.
        long_sides_px: Sizes of the longer side to look at, in this order, until a face is found: an
            image is reduced to each, never enlarged.
        score_threshold: Detections below are dropped, in [0, 1].
        nms_threshold: Intersection over union above which the lesser of two boxes is dropped.
        licence: SPDX identifier.
    """

    name: str
    weights_sha256: str
    color: Color
    long_sides_px: tuple[int, ...]
    score_threshold: float
    nms_threshold: float
    licence: str

    def __post_init__(self) -> None:
        if not self.long_sides_px:
            raise ModelContractError("detector: long_sides_px is empty")
        for size_px in self.long_sides_px:
            require_positive("detector", long_sides_px=size_px)


@dataclass(frozen=True)
class FivePointCrop:
    """A face: similarity transform of five landmarks onto a template, then a square crop.

    Attributes:
        height_px: Rows of the crop.
        width_px: Columns of the crop.
        landmarks_px: Five (x, y) targets in the crop: right eye, left eye (the subject's), nose tip,
            right and left mouth corner.
        detector: The detector that finds the landmarks.
    """

    kind: ClassVar[str] = "five_point"
    height_px: int
    width_px: int
    landmarks_px: tuple[tuple[float, float], ...]
    detector: DetectorSpec

    def __post_init__(self) -> None:
        if len(self.landmarks_px) != 5:
            raise ModelContractError(f"crop: five landmarks wanted, got {len(self.landmarks_px)}")
        require_positive("crop", height_px=self.height_px, width_px=self.width_px)


@dataclass(frozen=True)
class PlainCrop:
    """The whole image, resized; ``fit`` says what happens to its shape.

    Attributes:
        height_px: Rows of the crop.
        width_px: Columns of the crop.
        fit: ``"stretch"`` ignores the aspect ratio, ``"cover"`` scales to cover and cuts the centre.
    """

    kind: ClassVar[str] = "plain"
    height_px: int
    width_px: int
    fit: Literal["stretch", "cover"]

    def __post_init__(self) -> None:
        require_positive("crop", height_px=self.height_px, width_px=self.width_px)


CropSpec: TypeAlias = FivePointCrop | PlainCrop
