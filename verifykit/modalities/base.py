"""The base class of modalities: how a sample is found in an image, cropped and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from verifykit._given_faces import GivenFace
from verifykit.errors import InputError, ModelContractError, shown
from verifykit.session import Provider
from verifykit.spec import CropSpec
from verifykit.spec.model import MODALITIES
from verifykit.types import Detection, Image

Capture: TypeAlias = Literal["camera", "pen", "file"]
"""How a sample is given: by a camera, by a pen canvas, or only as a file."""


@runtime_checkable
class Detector(Protocol):
    """Protocol of detectors; see :class:`~verifykit.modalities.face.FaceDetector`."""

    def detect(self, image: Image) -> list[Detection]:
        """Return every detection in an (H, W, 3) uint8 RGB image, largest first."""
        ...


@dataclass(frozen=True, eq=False)
class Finding:
    """A sample in an image, before it is cropped.

    Attributes:
        detection: Where it is; None for a modality without a detector.
        landmarks_px: (x, y) in the image's pixels that the crop aligns; empty if it needs none.
        evidence: What the modality found and its checks need, such as a signature's ink.
        turned_deg: Degrees by which the image must be rotated counter-clockwise to show it upright; the crop
            does so.
        is_turn_sure: Whether that is beyond doubt; a sample of which it is not is never cropped.
        reasons: Reason codes of the modality that warn of this sample and do not refuse it.
    """

    detection: Detection | None = None
    landmarks_px: Sequence[tuple[float, float]] = ()
    evidence: Any = None
    turned_deg: float = 0.0
    is_turn_sure: bool = True
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FoundSample:
    """A cropped sample and everything that a check may use.

    Attributes:
        image: The whole image, (H, W, 3) uint8 RGB, upright.
        crop: (h, w, 3) uint8 RGB, the input of the network.
        finding: Where and how it was found.
        detector: The detector that found it; None for a modality without one.
        reduction: Pixels of the file, in each direction, for each pixel of ``image``, to which the
            coordinates of ``finding`` belong; 1 unless the check has ``takes_reduced``.
    """

    image: Image
    crop: Image
    finding: Finding
    detector: Any = None
    reduction: int = 1


class SampleCheck(ABC):
    """Base class of checks: measures a sample, and returns the reasons to refuse it.

    Attributes:
        name: Stable name of the check.
        reasons: Reason code to a sentence that tells the subject what to change.
        warnings_for_probe: The reason codes that refuse an image at enrollment and only warn of a probe.
        limits: Limits of the measures; the ``repr`` is shown when a sample is refused, and
            is part of the key under which embeddings are cached.
        takes_reduced: Whether it reckons with :attr:`FoundSample.reduction`; with a check that does not,
            every image is decoded at its full size.
    """

    name: ClassVar[str]
    takes_reduced: ClassVar[bool] = False
    reasons: ClassVar[Mapping[str, str]]
    warnings_for_probe: ClassVar[frozenset[str]] = frozenset()
    limits: Any = None

    @abstractmethod
    def measure(self, sample: FoundSample) -> Mapping[str, float]:
        """Return measured values by name; they become part of ``Sample.quality``."""

    @abstractmethod
    def judge(self, measures: Mapping[str, float]) -> Sequence[str]:
        """Return the reason codes that apply to these measures; empty for a good sample."""


class Modality(ABC):
    """Base class of modalities: a subclass finds, crops and checks one kind of sample.

    Attributes:
        name: Stable name, as in ``ModelSpec.modality``.
        label: Human-readable name: ``"Faces"``.
        noun: Name of one sample: ``"face"``.
        plural: Name of several samples: ``"faces"``.
        crop_spec: The geometry that its models state.
        capture: How a sample is given.
        takes_crops: Whether an image that is a crop already can be used whole.
        reference_count: References that an enrollment should have.
        reasons: Reason codes that finding a sample may give, each with a hint.
        warnings: Those of them that refuse no sample.
        checks: The checks that come with the modality, in order.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    noun: ClassVar[str]
    plural: ClassVar[str]
    crop_spec: ClassVar[type[CropSpec]]
    capture: ClassVar[Capture] = "file"
    takes_crops: ClassVar[bool] = False
    reference_count: ClassVar[int] = 3
    reasons: ClassVar[Mapping[str, str]] = {}
    warnings: ClassVar[frozenset[str]] = frozenset()
    checks: ClassVar[tuple[SampleCheck, ...]] = ()

    def open_detector(
        self, model: bytes, spec: CropSpec, *, providers: Provider, threads: int | None
    ) -> Detector | None:
        """Return the detector inside a model file, opened; None for a modality without one.

        Args:
            model: The detector's ONNX bytes.
            spec: The model's crop.
            providers: As for :class:`~verifykit.session.Session`.
            threads: Threads within one run; None uses every core.
        """
        return None

    def find(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        """Return the samples in an image, largest first, at least one.

        Args:
            image: (H, W, 3) uint8 RGB.
            spec: The model's crop.
            detector: What :meth:`open_detector` returned.

        Raises:
            AcquisitionError: There is none; ``reason`` is one of ``reasons``.
        """
        return [Finding()]

    def find_every(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        """Return :meth:`find` for a caller that needs every sample, small ones too, at a greater cost.

        Args:
            image: (H, W, 3) uint8 RGB.
            spec: The model's crop.
            detector: What :meth:`open_detector` returned.

        Raises:
            AcquisitionError: As :meth:`find`.
        """
        return self.find(image, spec, detector)

    def find_given(
        self, image: Image, spec: CropSpec, detector: Detector | None, faces: Sequence[GivenFace]
    ) -> list[Finding]:
        """Return the samples at given places, in their order.

        Args:
            image: (H, W, 3) uint8 RGB, whole.
            spec: The model's crop.
            detector: What :meth:`open_detector` returned.
            faces: Where they are, at least one.

        Raises:
            InputError: A place is not in the image, or the modality is not one of faces.
            AcquisitionError: There is no sample at a place.
        """
        raise InputError(
            f"faces= is for models of faces, and this one is of {self.plural}: leave it out"
        )

    def least_side_px(self, spec: CropSpec) -> int | None:
        """Return the longer side that a JPEG decoded at a reduced scale must keep; None decodes it whole.

        Args:
            spec: The model's crop.
        """
        return None

    def is_resolved(self, spec: CropSpec, finding: Finding) -> bool:
        """Return whether a sample in a reduced image is as large as its crop; if not, the whole is decoded.

        Args:
            spec: The model's crop.
            finding: One of :meth:`find`, in the reduced image.
        """
        return False

    @abstractmethod
    def crop(self, image: Image, spec: CropSpec, finding: Finding) -> Image:
        """Return the part that the network sees, (spec.height_px, spec.width_px, 3) uint8 RGB.

        Args:
            image: (H, W, 3) uint8 RGB.
            spec: The model's crop.
            finding: One of :meth:`find`.
        """


_REGISTERED: dict[str, Modality] = {}
_REGISTERED_CHECKS: dict[str, list[SampleCheck]] = {}


def register(modality: Modality) -> Modality:
    """Make a modality known to model files, extraction, command line, service and batch.

    Args:
        modality: The modality; one of the same class and name is replaced.

    Raises:
        ValueError: Another modality has its name or the kind of its crop.
    """
    kind = modality.crop_spec.kind
    for other in _REGISTERED.values():
        if type(other) is not type(modality) and (
            other.name == modality.name or other.crop_spec.kind == kind
        ):
            raise ValueError(
                f"modality {shown(modality.name)} with crop {shown(kind)}: {shown(other.name)} with crop "
                f"{shown(other.crop_spec.kind)} is already registered; choose another name and kind"
            )
    CropSpec.kinds[kind] = modality.crop_spec
    MODALITIES.add(modality.name)
    _REGISTERED[modality.name] = modality
    return modality


def register_check(check: SampleCheck, modality: str) -> None:
    """Add a check for every sample of a modality; it replaces one of the same name.

    Args:
        check: The check.
        modality: Name of a registered modality.

    Raises:
        ModelContractError: The modality is not registered.
    """
    get(modality)
    others = [each for each in _REGISTERED_CHECKS.get(modality, []) if each.name != check.name]
    _REGISTERED_CHECKS[modality] = [*others, check]


def unregister(name: str) -> None:
    """Remove a modality, or every check of that name; for tests and unloaded plug-ins.

    Args:
        name: Name of the modality or the check.
    """
    modality = _REGISTERED.pop(name, None)
    if modality is not None:
        MODALITIES.discard(name)
        CropSpec.kinds.pop(modality.crop_spec.kind, None)
    for checks in _REGISTERED_CHECKS.values():
        checks[:] = [check for check in checks if check.name != name]


def registered() -> tuple[Modality, ...]:
    """Return every modality, in the order of registration."""
    return tuple(_REGISTERED.values())


def get(name: str) -> Modality:
    """Return the modality of a name.

    Args:
        name: The name.

    Raises:
        ModelContractError: It is not registered.
    """
    if name not in _REGISTERED:
        raise ModelContractError(
            f"{shown(name)} is not a known modality; known: {', '.join(_REGISTERED)}"
        )
    return _REGISTERED[name]


def of_crop(spec: CropSpec) -> Modality:
    """Return the modality of a crop.

    Args:
        spec: The crop.

    Raises:
        ModelContractError: No modality has crops of this class.
    """
    for modality in _REGISTERED.values():
        if isinstance(spec, modality.crop_spec):
            return modality
    raise ModelContractError(f"no modality crops by {type(spec).__name__}; register one")


def checks_of(modality: Modality) -> tuple[SampleCheck, ...]:
    """Return the checks of a modality: its own, then those that were registered for it.

    Args:
        modality: The modality.
    """
    return (*modality.checks, *_REGISTERED_CHECKS.get(modality.name, ()))


def reason_hints() -> dict[str, str]:
    """Return every reason code that a sample may be refused for, with its hint."""
    hints: dict[str, str] = {}
    for modality in _REGISTERED.values():
        hints |= modality.reasons
        for check in checks_of(modality):
            hints |= check.reasons
    return hints
