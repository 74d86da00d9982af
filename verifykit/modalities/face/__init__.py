"""Faces: found by a detector, aligned by five landmarks, checked for quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from verifykit._given_faces import GivenFace
from verifykit.errors import AcquisitionError
from verifykit.modalities.base import Capture, Detector, Finding, Modality, SampleCheck
from verifykit.modalities.face.covered import CoveredCheck, CoveredLimits
from verifykit.modalities.face.crop import crop_five_point
from verifykit.modalities.face.detector import FaceDetector, TurnedFace
from verifykit.modalities.face.given import find_at
from verifykit.modalities.face.quality import FaceQuality, QualityLimits
from verifykit.modalities.ops import similarity_transform
from verifykit.session import Provider
from verifykit.spec import CropSpec, FivePointCrop
from verifykit.types import Image

__all__ = [
    "CoveredCheck",
    "CoveredLimits",
    "FaceDetector",
    "FaceModality",
    "FaceQuality",
    "QualityLimits",
]

LEAST_SIDE_PX = 1280
"""Longer side that a JPEG keeps at the reduced scale at which it is decoded."""


class FaceModality(Modality):
    """Faces in front of a camera."""

    name = "face"
    label = "Faces"
    noun = "face"
    plural = "faces"
    crop_spec = FivePointCrop
    capture: ClassVar[Capture] = "camera"
    takes_crops: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]] = {
        "no_face": "Look at the camera, with the whole face in the image.",
        "several_faces": "One person only: ask the others to step aside.",
        "more_faces": "Crop the image: it shows more faces than are examined.",
        "smaller_faces": "Other people are in the background; the largest face is used.",
        "not_detected": "The face was given by its landmarks; no detector has confirmed it.",
        "turned": "Rotate the image: the face is on its side or upside down.",
    }
    warnings: ClassVar[frozenset[str]] = frozenset({"not_detected"})
    checks: ClassVar[tuple[SampleCheck, ...]] = (FaceQuality(), CoveredCheck())

    def open_detector(
        self, model: bytes, spec: CropSpec, *, providers: Provider, threads: int | None
    ) -> FaceDetector:
        """Return the detector inside a model file, opened."""
        assert isinstance(spec, FivePointCrop)  # noqa: S101 - by the registry
        return FaceDetector(model, spec.detector, providers=providers, threads=threads)

    def find(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        """Return the faces in an image, largest first, with the landmarks that turn each upright."""
        assert detector is not None  # noqa: S101 - by the extractor
        if isinstance(detector, FaceDetector):
            return _findings(detector.detect_turned(image), image)
        return _findings([TurnedFace(detection) for detection in detector.detect(image)], image)

    def find_every(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        """Return the faces of every size that the detector searches at, largest first."""
        if not isinstance(detector, FaceDetector):
            return self.find(image, spec, detector)
        return _findings(detector.detect_turned(image, every_size=True), image)

    def find_given(
        self, image: Image, spec: CropSpec, detector: Detector | None, faces: Sequence[GivenFace]
    ) -> list[Finding]:
        """Return given faces, in their order: aligned by their landmarks, or detected near their box."""
        return [find_at(image, face, detector) for face in faces]

    def least_side_px(self, spec: CropSpec) -> int:
        """Return what the detector looks at, at least ``LEAST_SIDE_PX``."""
        assert isinstance(spec, FivePointCrop)  # noqa: S101 - by the registry
        return max(LEAST_SIDE_PX, *spec.detector.long_sides_px)

    def is_resolved(self, spec: CropSpec, finding: Finding) -> bool:
        """Return whether a face is at least as large as the template that it is aligned to."""
        assert isinstance(spec, FivePointCrop)  # noqa: S101 - by the registry
        matrix = similarity_transform(finding.landmarks_px, spec.landmarks_px)
        return bool(np.hypot(*matrix[:, 0]) <= 1.0)

    def crop(self, image: Image, spec: CropSpec, finding: Finding) -> Image:
        """Return the aligned face."""
        assert isinstance(spec, FivePointCrop)  # noqa: S101 - by the registry
        if not len(finding.landmarks_px):
            raise ValueError("a five_point crop needs landmarks_px: run the detector first")
        return crop_five_point(image, spec, finding.landmarks_px)


def _findings(found: Sequence[TurnedFace], image: Image) -> list[Finding]:
    """Return faces as findings, at least one."""
    if not found:
        raise AcquisitionError(
            f"no face was found in this image of {image.shape[0]}x{image.shape[1]} px; it may be too "
            "small, turned away, covered or badly lit",
            reason="no_face",
        )
    return [
        Finding(
            face.detection,
            face.detection.landmarks_px,
            turned_deg=face.turned_deg,
            is_turn_sure=face.is_sure,
        )
        for face in found
    ]
