"""From an image to the crops that a model takes: find, choose, check, crop.

Runtime, training and calibration all use it, so that they see the same crops.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, get_args

from verifykit._given_faces import GivenFace, PlacedImage, unplaced
from verifykit.errors import AcquisitionError, InputError, ModelContractError, shown
from verifykit.image import MAX_PIXELS, LoadedImage, read_image
from verifykit.modalities import Detector, Finding, FoundSample, SampleCheck, checks_of, of_crop
from verifykit.spec import CropSpec
from verifykit.types import (
    Detection,
    ImageLike,
    MultiFace,
    QualityGate,
    Sample,
    SampleRole,
    TurnedChoice,
)

MAX_FACES = 1000

FURTHER_FRAMES = "further_frames"
"""Warning of a sample whose file has further pages or frames, which were not read."""


@dataclass(frozen=True)
class SampleOptions:
    """How samples are chosen and judged.

    Attributes:
        multi_face: What to do with several samples in an image: ``"error"`` refuses the image, ``"largest"``
            uses the largest sample, ``"all"`` uses all.
        quality: ``"strict"`` refuses a sample that a check objects to, ``"warn"`` accepts and reports it.
        turned: What to do with a sample on its side or upside down: ``"upright"`` turns its crop upright,
            ``"error"`` refuses it.
        max_faces: With ``multi_face="all"``, the number of samples of one image that are used, the largest;
            each of them then has the reason ``more_faces``, which refuses none.
        second_face_share: With ``multi_face="error"``, the share of the largest sample's area from which a
            further one counts, in [0, 1]; 0 counts every one. Where smaller ones are passed over, the largest
            has the reason ``smaller_faces``, which refuses none.

    Raises:
        InputError: An unknown value.
    """

    multi_face: MultiFace = field(
        default="error", metadata={"help": "What to do with several faces in an image."}
    )
    quality: QualityGate = field(
        default="strict", metadata={"help": "Refuse weak samples, or take them and warn."}
    )
    turned: TurnedChoice = field(
        default="upright", metadata={"help": "Turn a face that is on its side, or refuse it."}
    )
    max_faces: int = field(
        default=64,
        metadata={
            "help": "With all faces of an image: use at most this many, the largest.",
            "bounds": {"ge": 1, "le": MAX_FACES},
        },
    )
    second_face_share: float = field(
        default=0.25,
        metadata={
            "help": "A second face counts from this share of the largest one's area; 0 counts all.",
            "bounds": {"ge": 0, "le": 1},
        },
    )

    def __post_init__(self) -> None:
        for name, known in (
            ("multi_face", get_args(MultiFace)),
            ("quality", get_args(QualityGate)),
            ("turned", get_args(TurnedChoice)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"{name} must be one of {known}, got {shown(value)}")
        count = self.max_faces
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_FACES:
            raise InputError(f"max_faces is an integer from 1 to {MAX_FACES}, got {shown(count)}")
        share = self.second_face_share
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share <= 1:
            raise InputError(f"second_face_share is a number from 0 to 1, got {shown(share)}")
        object.__setattr__(self, "second_face_share", float(share))  # as JSON has it

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

    def load(self, image: ImageLike) -> LoadedImage:
        """Return the pixels in which samples are looked for, and whether frames were not read.

        A large JPEG is decoded at a reduced scale if the modality and every check allow it.

        Raises:
            ImageError: The image cannot be read.
        """
        return read_image(image, max_pixels=self.max_pixels, least_side_px=self.least_side_px)

    @property
    def least_side_px(self) -> int | None:
        """Return the longer side that a JPEG decoded at a reduced scale keeps; None decodes it whole."""
        if not all(check.takes_reduced for check in self.checks):
            return None
        return self.modality.least_side_px(self.spec)

    def samples(
        self,
        image: ImageLike | LoadedImage | PlacedImage,
        options: SampleOptions | None = None,
        *,
        role: SampleRole = "probe",
        limit: int | None = None,
    ) -> list[Sample]:
        """Return the usable samples in an image, largest first, at least one.

        With ``multi_face="all"`` and ``"strict"`` those are the samples that pass. Pages and frames behind
        the first are not looked at: each sample then has the reason ``"further_frames"``, which refuses none.
        Some reasons refuse an image only in the role ``"enrollment"``: see
        :attr:`SampleCheck.warnings_for_probe`.

        Args:
            image: A path, encoded bytes, an open binary file, a uint8 RGB array, what :meth:`load` gave, or
                an image whose faces are given: these are used, whatever ``multi_face`` is.
            options: How samples are chosen and judged; None takes the defaults.
            role: What the image is for: ``"enrollment"`` or ``"probe"``.
            limit: Return at most this many; samples behind them are not cropped or checked.

        Raises:
            ImageError: The image cannot be read.
            AcquisitionError: Nothing usable in it; ``reason`` is a code of the modality or of a check.
        """
        options = options or SampleOptions()
        pure, faces = unplaced(image)
        loaded = pure if isinstance(pure, LoadedImage) else self.load(pure)
        if not loaded.has_further_frames:
            return self._usable(loaded, options, role, limit, faces)
        try:
            found = self._usable(loaded, options, role, limit, faces)
        except AcquisitionError as error:
            raise AcquisitionError(
                f"{error}; only the first page or frame of the file was looked at, and more follow: save "
                "the right one as an image of its own",
                reason=error.reason,
                warnings=(FURTHER_FRAMES,),
            ) from error
        return [replace(each, reasons=(*each.reasons, FURTHER_FRAMES)) for each in found]

    def _usable(
        self,
        loaded: LoadedImage,
        options: SampleOptions,
        role: SampleRole,
        limit: int | None,
        faces: Sequence[GivenFace],
    ) -> list[Sample]:
        if faces:
            options = replace(options, multi_face="all", max_faces=len(faces))
            loaded = loaded.whole()
            found = self.modality.find_given(loaded.pixels, self.spec, self.detector, faces)
            findings = self._chosen(found, options)
        else:
            loaded, findings = self._found(loaded, options, limit)
        usable: list[Sample] = []
        refused: list[Sample] = []
        for finding in findings[: options.max_faces]:
            if len(usable) == limit:
                break
            sample = self._checked(loaded, finding)
            is_refused = options.quality == "strict" and bool(self.refusing(sample, role))
            (refused if is_refused else usable).append(sample)
        if not usable:
            raise self._refusal(refused[0], self.refusing(refused[0], role)[0])
        if len(findings) > options.max_faces:
            usable = [replace(each, reasons=(*each.reasons, self._more)) for each in usable]
        return usable

    def _found(
        self, loaded: LoadedImage, options: SampleOptions, limit: int | None
    ) -> tuple[LoadedImage, list[Finding]]:
        """Return the findings that the options choose, and the image at the scale that shows them."""
        every = options.multi_face == "all" and limit != 1
        find = self.modality.find_every if every else self.modality.find
        try:
            found = find(loaded.pixels, self.spec, self.detector)
        except AcquisitionError:
            if loaded.reduction == 1:
                raise
            return self._found(loaded.whole(), options, limit)
        findings = self._chosen(found, options)
        if loaded.reduction == 1 or all(
            self.modality.is_resolved(self.spec, finding)
            for finding in findings[: options.max_faces]
        ):
            return loaded, findings
        return self._found(loaded.whole(), options, limit)

    def _chosen(self, findings: list[Finding], options: SampleOptions) -> list[Finding]:
        """Return the findings that the options choose.

        Raises:
            AcquisitionError: Several, or all turned, where the options refuse that.
        """
        if options.multi_face == "error":
            findings = self._only(findings, options.second_face_share)
        if options.multi_face != "all":
            findings = findings[:1]
        usable = [
            finding
            for finding in findings
            if finding.is_turn_sure and (options.turned == "upright" or not finding.turned_deg)
        ]
        if not usable:
            raise AcquisitionError(
                f"the {self.modality.noun} is not upright: {_turned_advice(findings[0])}",
                reason="turned",
            )
        return usable

    def _only(self, findings: list[Finding], second_share: float) -> list[Finding]:
        """Return the largest finding, which says so if smaller ones do not count.

        Raises:
            AcquisitionError: Another one counts.
        """
        largest = _area(findings[0])
        count = 1 + sum(_area(each) >= second_share * largest for each in findings[1:])
        if count > 1:
            raise AcquisitionError(
                f"{count} {self.modality.plural} were found and one is required: crop the image, or "
                "pass multi_face='largest' or 'all'",
                reason=f"several_{self.modality.plural}",
            )
        if len(findings) == 1:
            return findings
        return [replace(findings[0], reasons=(*findings[0].reasons, self._smaller))]

    def refusing(self, sample: Sample, role: SampleRole = "probe") -> tuple[str, ...]:
        """Return the reasons of a sample that refuse it in a role; the others are warnings."""
        tolerated = {self._more, self._smaller, *self.modality.warnings}
        if role == "probe":
            tolerated = tolerated.union(*(check.warnings_for_probe for check in self.checks))
        return tuple(reason for reason in sample.reasons if reason not in tolerated)

    @property
    def _more(self) -> str:
        return f"more_{self.modality.plural}"

    @property
    def _smaller(self) -> str:
        return f"smaller_{self.modality.plural}"

    def _checked(self, loaded: LoadedImage, finding: Finding) -> Sample:
        crop = self.modality.crop(
            loaded.pixels, self.spec, _between_pixels(finding, loaded.reduction)
        )
        found = FoundSample(loaded.pixels, crop, finding, self.detector, loaded.reduction)
        measures: dict[str, float] = {}
        reasons: list[str] = []
        for check in self.checks:
            measured = check.measure(found)
            measures |= measured
            reasons += check.judge(measured)
        detection = finding.detection and _scaled(finding.detection, loaded.reduction)
        return Sample(crop, detection, measures, tuple(dict.fromkeys((*reasons, *finding.reasons))))

    def _refusal(self, sample: Sample, reason: str) -> AcquisitionError:
        measured = ", ".join(f"{name} {value:.3g}" for name, value in sample.quality.items())
        limits = ", ".join(repr(check.limits) for check in self.checks)
        return AcquisitionError(
            f"the {self.modality.noun} is not usable ({', '.join(sample.reasons)}); measured: {measured}; "
            f"limits: {limits}; take another image, or accept it with quality='warn'",
            reason=reason,
        )


def _area(finding: Finding) -> float:
    """Return the area of a finding; of one without a box, any positive number."""
    if finding.detection is None:
        return 1.0
    _, _, width, height = finding.detection.box_px
    return width * height


def _scaled(face: Detection, factor: int) -> Detection:
    """Return a face in an image of ``factor`` times the pixels in each direction."""
    if factor == 1:
        return face
    left, top, width, height = (factor * value for value in face.box_px)
    landmarks_px = tuple((factor * x, factor * y) for x, y in face.landmarks_px)
    return Detection((left, top, width, height), landmarks_px, face.score)


def _between_pixels(finding: Finding, reduction: int) -> Finding:
    """Return a finding in a reduced image at the place that its crop has in the whole image.

    Coordinates are those of pixels' centres, and a reduced pixel's centre is between those of its block.
    """
    if reduction == 1:
        return finding
    offset = 0.5 / reduction - 0.5
    landmarks_px = tuple((x + offset, y + offset) for x, y in finding.landmarks_px)
    return replace(finding, landmarks_px=landmarks_px)


def _turned_advice(finding: Finding) -> str:
    if not finding.is_turn_sure:
        return "it is not clear by how much it is turned; rotate the image until it stands upright"
    return (
        f"rotate the image by {finding.turned_deg:.0f} degrees counter-clockwise, or pass turned='upright', "
        "which does so"
    )


def _checked_max_pixels(max_pixels: int) -> int:
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise InputError(f"max_pixels must be an integer of at least 1, got {shown(max_pixels)}")
    return max_pixels
