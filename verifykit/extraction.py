"""From an image to the crops that a model takes: find, choose, judge, cut.

The runtime, training and calibration all come through here, so that they see the same crops.
"""

from __future__ import annotations

from typing import get_args

from verifykit.errors import AcquisitionError, InputError, ModelContractError
from verifykit.image import load_image
from verifykit.modalities import crop
from verifykit.modalities.face.detector import FaceDetector
from verifykit.modalities.face.quality import QualityLimits, face_reasons, measure_face
from verifykit.modalities.signature.crop import crop_signature
from verifykit.modalities.signature.ink import find_ink
from verifykit.modalities.signature.quality import (
    SignatureLimits,
    measure_signature,
    signature_reasons,
)
from verifykit.spec import CropSpec, FivePointCrop, SignatureCrop
from verifykit.types import Image, ImageLike, MultiFace, QualityGate, Sample


def require_options(multi_face: str, quality: str) -> None:
    """Refuse what is no option, rather than take it for another.

    Raises:
        InputError: Unknown ``multi_face`` or ``quality``.
    """
    for name, value, known in (
        ("multi_face", multi_face, get_args(MultiFace)),
        ("quality", quality, get_args(QualityGate)),
    ):
        if value not in known:
            raise InputError(f"{name} must be one of {known}, got {value!r}")


class SampleExtractor:
    """Turns images into samples; safe to share between threads.

    Attributes:
        spec: The model's crop.
        limits: Below or above which a face is refused.
        signature_limits: Below or above which a signature is refused.
        detector: What finds faces; None for crops that need none.
    """

    def __init__(
        self,
        spec: CropSpec,
        detector: FaceDetector | None = None,
        *,
        limits: QualityLimits | None = None,
        signature_limits: SignatureLimits | None = None,
    ) -> None:
        """Pair a crop with what it needs.

        Args:
            spec: The model's crop.
            detector: Required by ``five_point``.
            limits: Quality limits of faces; None takes the measured defaults.
            signature_limits: Those of signatures; likewise.

        Raises:
            ModelContractError: ``five_point`` without a detector.
        """
        if isinstance(spec, FivePointCrop) and detector is None:
            raise ModelContractError("a five_point crop needs a detector, and the model has none")
        self.spec = spec
        self.limits = limits or QualityLimits()
        self.signature_limits = signature_limits or SignatureLimits()
        self.detector = detector

    def load(self, image: ImageLike) -> Image:
        """The pixels in which samples are looked for.

        Args:
            image: A path, encoded bytes, an open binary file, or a uint8 RGB array.

        Returns:
            (H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: The image cannot be read.
        """
        return load_image(image)

    def samples(
        self, image: ImageLike, *, multi_face: MultiFace = "error", quality: QualityGate = "strict"
    ) -> list[Sample]:
        """The usable samples in an image.

        Args:
            image: A path, encoded bytes, an open binary file, or a uint8 RGB array.
            multi_face: What to do with several faces: refuse, take the largest, or take them all.
            quality: ``"strict"`` refuses a sample with a quality reason, ``"warn"`` only records it.

        Returns:
            At least one sample, largest face first. With ``multi_face="all"`` and ``"strict"``, those
            faces that pass.

        Raises:
            ImageError: The image cannot be read.
            AcquisitionError: Nothing usable in it; ``reason`` is ``"no_face"``, ``"several_faces"``,
                ``"blank"`` or the first quality reason.
            InputError: Unknown ``multi_face`` or ``quality``.
        """
        require_options(multi_face, quality)
        pixels = self.load(image)
        if isinstance(self.spec, SignatureCrop):
            return [self._signature(pixels, self.spec, quality)]
        if self.detector is None or not isinstance(self.spec, FivePointCrop):
            return [Sample(crop(pixels, self.spec))]
        samples = self._faces(pixels, self.spec, self.detector, multi_face)
        if quality == "warn":
            return samples
        usable = [sample for sample in samples if not sample.reasons]
        if not usable:
            raise _refusal("face", samples[0], self.limits)
        return usable

    def _signature(self, image: Image, spec: SignatureCrop, quality: QualityGate) -> Sample:
        ink = find_ink(image, spec)
        measures = measure_signature(ink)
        reasons = signature_reasons(measures, self.signature_limits)
        if "blank" in reasons:
            raise AcquisitionError(
                f"no ink was found in this image of {image.shape[0]}x{image.shape[1]} px: nothing on it is "
                f"darker than its paper by {spec.min_contrast:g} of 255; scan it again with more contrast",
                reason="blank",
            )
        sample = Sample(crop_signature(ink, spec), None, measures, reasons)
        if reasons and quality == "strict":
            raise _refusal("signature", sample, self.signature_limits)
        return sample

    def _faces(
        self, image: Image, spec: FivePointCrop, detector: FaceDetector, multi_face: MultiFace
    ) -> list[Sample]:
        detections = detector.detect(image)
        height, width = image.shape[:2]
        if not detections:
            raise AcquisitionError(
                f"no face was found in this image of {height}x{width} px; it may be too small, turned "
                "away, covered or badly lit",
                reason="no_face",
            )
        if len(detections) > 1 and multi_face == "error":
            raise AcquisitionError(
                f"{len(detections)} faces were found and one is wanted: crop the image, or say "
                "multi_face='largest' or 'all'",
                reason="several_faces",
            )
        if multi_face == "largest":
            detections = detections[:1]
        samples = []
        for detection in detections:
            face = crop(image, spec, landmarks_px=detection.landmarks_px)
            turned_deg = detector.turned_deg(image, detection)
            measures = measure_face(image, detection, face, turned_deg)
            reasons = face_reasons(measures, self.limits)
            samples.append(Sample(face, detection, measures, reasons))
        return samples


def _refusal(
    what: str, sample: Sample, limits: QualityLimits | SignatureLimits
) -> AcquisitionError:
    measured = ", ".join(f"{name} {value:.3g}" for name, value in sample.quality.items())
    return AcquisitionError(
        f"the {what} is not usable ({', '.join(sample.reasons)}); measured: {measured}; limits: {limits}; "
        "take another picture, or accept it with quality='warn'",
        reason=sample.reasons[0],
    )
