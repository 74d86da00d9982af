"""From an image to the crops that a model takes: find, choose, check, crop.

Runtime, training and calibration all use it, so that they see the same crops.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from verifykit.errors import AcquisitionError, InputError, ModelContractError, shown
from verifykit.image import MAX_PIXELS, load_image
from verifykit.modalities import Detector, FoundSample, SampleCheck, checks_of, of_crop
from verifykit.spec import CropSpec
from verifykit.types import Image, ImageLike, MultiFace, QualityGate, Sample


@dataclass(frozen=True)
class SampleOptions:
    """How samples are chosen and judged.

    Attributes:
        multi_face: What to do with several samples in an image: ``"error"`` refuses the image, ``"largest"``
            uses the largest sample, ``"all"`` uses all.
        quality: ``"strict"`` refuses a sample that a check objects to, ``"warn"`` accepts and reports it.

    Raises:
        InputError: An unknown value.
    """

    multi_face: MultiFace = field(
        default="error", metadata={"help": "What to do with several faces in an image."}
    )
    quality: QualityGate = field(
        default="strict", metadata={"help": "Refuse weak samples, or take them and warn."}
    )

    def __post_init__(self) -> None:
        for name, known in (
            ("multi_face", get_args(MultiFace)),
            ("quality", get_args(QualityGate)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"{name} must be one of {known}, got {shown(value)}")

    def changed(self, **options: Any) -> SampleOptions:
        """Return these options with the given values that are not None."""
        return replace(
            self, **{name: value for name, value in options.items() if value is not None}
        )


class SampleExtractor:
    """Turn images into samples; safe to share between threads.

    Attributes:
        spec: The model's crop.
        modality: The modality of that crop.
        detector: Finds samples; None for crops that need none.
        checks: The checks of every sample, in order.
        max_pixels: Height x width beyond which an image is refused.
    """

    def __init__(
        self,
        spec: CropSpec,
        detector: Detector | None = None,
        *,
        checks: Sequence[SampleCheck] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Combine a crop with its detector and checks; None takes the checks registered for the modality.

        Raises:
            InputError: ``max_pixels`` is not a positive integer.
            ModelContractError: The crop needs a detector and none is given, or no modality has the crop.
        """
        if spec.detector_spec is not None and detector is None:
            raise ModelContractError(f"a {spec.kind} crop needs a detector, and the model has none")
        self.spec = spec
        self.modality = of_crop(spec)
        self.detector = detector
        self.checks = checks_of(self.modality) if checks is None else tuple(checks)
        self.max_pixels = _checked_max_pixels(max_pixels)

    def limited(self, max_pixels: int) -> SampleExtractor:
        """Return the same extractor for images of at most this height x width."""
        limited = copy.copy(self)
        limited.max_pixels = _checked_max_pixels(max_pixels)
        return limited

    def load(self, image: ImageLike) -> Image:
        """Return the pixels that samples are searched in, (H, W, 3) uint8 RGB, upright."""
        return load_image(image, max_pixels=self.max_pixels)

    def samples(self, image: ImageLike, options: SampleOptions | None = None) -> list[Sample]:
        """Return the usable samples in an image, largest first, at least one.

        With ``multi_face="all"`` and ``"strict"`` those are the samples that pass.

        Raises:
            ImageError: The image cannot be read.
            AcquisitionError: Nothing usable in it; ``reason`` is a code of the modality or of a check.
        """
        options = options or SampleOptions()
        pixels = self.load(image)
        findings = self.modality.find(pixels, self.spec, self.detector)
        if len(findings) > 1 and options.multi_face == "error":
            raise AcquisitionError(
                f"{len(findings)} {self.modality.plural} were found and one is required: crop the image, or "
                "pass multi_face='largest' or 'all'",
                reason=f"several_{self.modality.plural}",
            )
        if options.multi_face != "all":
            findings = findings[:1]
        samples = []
        for finding in findings:
            crop = self.modality.crop(pixels, self.spec, finding)
            samples.append(self._checked(FoundSample(pixels, crop, finding, self.detector)))
        if options.quality == "warn":
            return samples
        usable = [sample for sample in samples if not sample.reasons]
        if not usable:
            raise self._refusal(samples[0])
        return usable

    def _checked(self, found: FoundSample) -> Sample:
        measures: dict[str, float] = {}
        reasons: list[str] = []
        for check in self.checks:
            measured = check.measure(found)
            measures |= measured
            reasons += check.judge(measured)
        return Sample(found.crop, found.finding.detection, measures, tuple(dict.fromkeys(reasons)))

    def _refusal(self, sample: Sample) -> AcquisitionError:
        measured = ", ".join(f"{name} {value:.3g}" for name, value in sample.quality.items())
        limits = ", ".join(repr(check.limits) for check in self.checks)
        return AcquisitionError(
            f"the {self.modality.noun} is not usable ({', '.join(sample.reasons)}); measured: {measured}; "
            f"limits: {limits}; take another image, or accept it with quality='warn'",
            reason=sample.reasons[0],
        )


def _checked_max_pixels(max_pixels: int) -> int:
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise InputError(f"max_pixels must be an integer of at least 1, got {shown(max_pixels)}")
    return max_pixels
