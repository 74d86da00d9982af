"""Geometry as the model file states it: the part of an image that the network sees, and its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from verifykit.errors import ModelContractError
from verifykit.spec.values import Color, require_positive


@dataclass(frozen=True)
class DetectorSpec:
    """How the face detector inside the model file is run.

    Attributes:
        name: Its name, for display.
        weights_sha256: Digest of its weights and graph.
        color: Channel order of its input, values 0..255.
        long_sides_px: Sizes of the longer side to search at, in this order, until a face is found: an
            image is reduced to each, never enlarged.
        score_threshold: Detections below are dropped, in [0, 1].
        nms_threshold: Intersection over union above which the lower of two boxes is dropped.
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
class CropSpec:
    """Base class of the geometries.

    A subclass is a frozen dataclass with a ``kind`` of its own, registered by :func:`register_crop`.

    Attributes:
        height_px: Rows of the crop.
        width_px: Columns of the crop.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[CropSpec]]] = {}
    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        require_positive("crop", height_px=self.height_px, width_px=self.width_px)

    @property
    def detector_spec(self) -> DetectorSpec | None:
        """Return the detector that the crop needs; None for a crop without one."""
        return None


Crop = TypeVar("Crop", bound=CropSpec)


def register_crop(crop: type[Crop]) -> type[Crop]:
    """Make a crop's ``kind`` readable in model files; use it as a class decorator."""
    CropSpec.kinds[crop.kind] = crop
    return crop


@register_crop
@dataclass(frozen=True)
class FivePointCrop(CropSpec):
    """A face: similarity transform of five landmarks onto a template, then a square crop.

    Attributes:
        height_px: Rows of the crop.
        width_px: Columns of the crop.
        landmarks_px: Five (x, y) targets in the crop: right eye, left eye (the subject's), nose tip,
            right and left mouth corner.
        detector: The detector that finds the landmarks.
    """

    kind: ClassVar[str] = "five_point"
    landmarks_px: tuple[tuple[float, float], ...]
    detector: DetectorSpec

    def __post_init__(self) -> None:
        if len(self.landmarks_px) != 5:
            raise ModelContractError(
                f"crop: five landmarks are required, got {len(self.landmarks_px)}"
            )
        super().__post_init__()

    @property
    def detector_spec(self) -> DetectorSpec:
        """Return the detector that finds the landmarks."""
        return self.detector


@register_crop
@dataclass(frozen=True)
class PlainCrop(CropSpec):
    """The whole image, resized.

    Attributes:
        height_px: Rows of the crop.
        width_px: Columns of the crop.
        fit: ``"stretch"`` ignores the aspect ratio, ``"cover"`` scales to cover and cuts out the centre.
    """

    kind: ClassVar[str] = "plain"
    fit: Literal["stretch", "cover"]


@register_crop
@dataclass(frozen=True)
class SignatureCrop(CropSpec):
    """Ink on paper: found, separated from its paper, centred on its centroid, inverted, scaled to the canvas.

    The working copy is a reduced copy of the image in which the ink is searched; it is never enlarged.

    Attributes:
        height_px: Rows of the crop.
        width_px: Columns of the crop.
        working_side_px: Longer side of the working copy.
        background_side_px: Longer side of the smaller copy in which the light is measured.
        background_window_share: Window of that measurement, as a share of the longer side: wider than
            a stroke, narrower than a shadow.
        min_contrast: Least darkness of ink against its paper, 0..255; less is noise.
        box_sigma_share: Blur with which the ink's box is found, as a share of the longer side.
        box_level: Least blurred ink, as a share of that of a long stroke of mean width.
        margin_share: Empty margin of the crop on each side, as a share of the shorter side.
        full_darkness_percentile: Darkness of the ink that becomes 255, as a percentile over the ink.
        table_ratio: Greatest brightness of the area beyond the paper's edge, as a share of the paper's.
        ruled_length_share: Share of the paper's width that a ruled line shows as ink.
        ruled_beyond_share: Share of the width that a ruled line extends beyond the writing, either way.
        ruled_slope_deg: Steepest ruled line, either way.
        ruled_thickness_share: Thickest ruled line, as a share of the longer side.
        ruled_lightness: Greatest darkness of a single ruled line, as a share of the ink's.
        ruled_several: Number of ruled lines from which darker ones count too.
        rim_share: Strip along the image's border in which lines are the scanner's, as a share of the
            shorter side.
        rim_length_share: Shortest such line, as a share of the side that it runs along.
        rim_thickness: Thickest such line, as a share of the mean stroke.
    """

    kind: ClassVar[str] = "signature"
    working_side_px: int = 1024
    background_side_px: int = 256
    background_window_share: float = 0.06
    min_contrast: float = 40.0
    box_sigma_share: float = 0.012
    box_level: float = 0.3
    margin_share: float = 0.04
    full_darkness_percentile: float = 75.0
    table_ratio: float = 0.6
    ruled_length_share: float = 0.55
    ruled_beyond_share: float = 0.04
    ruled_slope_deg: float = 10.0
    ruled_thickness_share: float = 0.006
    ruled_lightness: float = 0.75
    ruled_several: int = 2
    rim_share: float = 0.12
    rim_length_share: float = 0.2
    rim_thickness: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            "crop",
            working_side_px=self.working_side_px,
            background_side_px=self.background_side_px,
        )
        for name, low, high in (
            ("background_window_share", 0.0, 0.5),
            ("min_contrast", 0.0, 255.0),
            ("box_sigma_share", 0.0, 0.5),
            ("box_level", 0.0, 1.0),
            ("full_darkness_percentile", 0.0, 100.0),
        ):
            value = getattr(self, name)
            if not low < value <= high:
                raise ModelContractError(f"crop: {name} must be in ({low}, {high}], got {value}")
        if not 0.0 <= self.margin_share < 0.5:
            raise ModelContractError(
                f"crop: margin_share must be in [0, 0.5), got {self.margin_share}"
            )
