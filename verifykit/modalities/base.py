"""What a modality is: how a sample is found in an image, cropped, checked, and talked about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from verifykit.errors import ModelContractError
from verifykit.session import Provider
from verifykit.spec import CropSpec
from verifykit.spec.model import MODALITIES
from verifykit.types import Detection, Image

Capture: TypeAlias = Literal["camera", "pen", "file"]
"""How a person gives a sample: a camera, a pen canvas, or a file alone."""


@runtime_checkable
class Detector(Protocol):
    """Finds samples in an image; see :class:`~verifykit.modalities.face.FaceDetector`."""

    def detect(self, image: Image) -> list[Detection]:
        """Return every detection in an (H, W, 3) uint8 RGB image, largest first."""
        ...


@dataclass(frozen=True, eq=False)
class Finding:
    """A sample in an image, before it is cropped.

    Attributes:
        detection: Where it is; None for a modality without a detector.
        landmarks_px: (x, y) in the image's pixels that the crop aligns; empty where it needs none.
        evidence: What the modality found on the way and its checks need, such as a signature's ink.
    """

    detection: Detection | None = None
    landmarks_px: Sequence[tuple[float, float]] = ()
    evidence: Any = None


@dataclass(frozen=True, eq=False)
class FoundSample:
    """A cropped sample with all that a check may look at.

    Attributes:
        image: The whole image, (H, W, 3) uint8 RGB, upright.
        crop: (h, w, 3) uint8 RGB, what the network will see.
        finding: Where and how it was found.
        detector: What found it; None for a modality without a detector.
    """

    image: Image
    crop: Image
    finding: Finding
    detector: Any = None


class SampleCheck(ABC):
    """Base of the checks: measures a sample, and gives the reasons that speak against it.

    Attributes:
        name: Stable name of the check.
        reasons: Reason code to a sentence that helps the person in front of the camera.
        limits: What the measures are held against; its ``repr`` is shown when a sample is refused, and
            is part of the key under which embeddings are cached.
    """

    name: ClassVar[str]
    reasons: ClassVar[Mapping[str, str]]
    limits: Any = None

    @abstractmethod
    def measure(self, sample: FoundSample) -> Mapping[str, float]:
        """Return measured values by name; they become part of ``Sample.quality``."""

    @abstractmethod
    def judge(self, measures: Mapping[str, float]) -> Sequence[str]:
        """Return the reason codes that apply to these measures; empty for a good sample."""


class Modality(ABC):
    """Base of the modalities: a subclass finds, crops and checks one kind of sample.

    Attributes:
        name: Stable name, as in ``ModelSpec.modality``.
        label: Heading of the modality, for people: ``"Faces"``.
        noun: One sample: ``"face"``; ``plural`` for several.
        crop_spec: The geometry that its models state.
        capture: How a person gives a sample.
        reference_count: References that an enrollment should have.
        reasons: Reason codes that finding a sample may give, each with a hint.
        checks: The checks that come with the modality, in order.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    noun: ClassVar[str]
    plural: ClassVar[str]
    crop_spec: ClassVar[type[CropSpec]]
    capture: ClassVar[Capture] = "file"
    reference_count: ClassVar[int] = 3
    reasons: ClassVar[Mapping[str, str]] = {}
    checks: ClassVar[tuple[SampleCheck, ...]] = ()

    def open_detector(
        self, model: bytes, spec: CropSpec, *, providers: Provider, threads: int | None
    ) -> Detector | None:
        """Return the detector inside a model file, opened; None for a modality without one."""
        return None

    def find(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        """Return the samples in an image, largest first, at least one.

        Raises:
            AcquisitionError: There is none; ``reason`` is one of ``reasons``.
        """
        return [Finding()]

    @abstractmethod
    def crop(self, image: Image, spec: CropSpec, finding: Finding) -> Image:
        """Return the part that the network sees, (spec.height_px, spec.width_px, 3) uint8 RGB."""


_REGISTERED: dict[str, Modality] = {}
_FURTHER_CHECKS: dict[str, list[SampleCheck]] = {}


def register(modality: Modality) -> Modality:
    """Make a modality known: to model files, extraction, command line, service and batch.

    Raises:
        ValueError: Another modality has its name or the kind of its crop.
    """
    kind = modality.crop_spec.kind
    for other in _REGISTERED.values():
        if type(other) is not type(modality) and (
            other.name == modality.name or other.crop_spec.kind == kind
        ):
            raise ValueError(
                f"modality {modality.name!r} with crop {kind!r}: {other.name!r} with crop "
                f"{other.crop_spec.kind!r} is registered already; choose another name and kind"
            )
    CropSpec.kinds[kind] = modality.crop_spec
    MODALITIES.add(modality.name)
    _REGISTERED[modality.name] = modality
    return modality


def register_check(check: SampleCheck, modality: str) -> None:
    """Add a check to those that every sample of a modality goes through; one name once."""
    get(modality)
    others = [each for each in _FURTHER_CHECKS.get(modality, []) if each.name != check.name]
    _FURTHER_CHECKS[modality] = [*others, check]


def unregister(name: str) -> None:
    """Forget a modality, or every check of that name; for tests and plug-ins that are unloaded."""
    modality = _REGISTERED.pop(name, None)
    if modality is not None:
        MODALITIES.discard(name)
        CropSpec.kinds.pop(modality.crop_spec.kind, None)
    for checks in _FURTHER_CHECKS.values():
        checks[:] = [check for check in checks if check.name != name]


def registered() -> tuple[Modality, ...]:
    """Return every modality, in the order in which they were registered."""
    return tuple(_REGISTERED.values())


def get(name: str) -> Modality:
    """Return the modality of a name.

    Raises:
        ModelContractError: There is none.
    """
    if name not in _REGISTERED:
        raise ModelContractError(
            f"{name[:80]!r} is not a known modality; known: {', '.join(_REGISTERED)}"
        )
    return _REGISTERED[name]


def of_crop(spec: CropSpec) -> Modality:
    """Return the modality whose geometry this is.

    Raises:
        ModelContractError: There is none.
    """
    for modality in _REGISTERED.values():
        if isinstance(spec, modality.crop_spec):
            return modality
    raise ModelContractError(f"no modality crops by {type(spec).__name__}; register one")


def checks_of(modality: Modality) -> tuple[SampleCheck, ...]:
    """Return the checks of a modality: its own, then those that were registered for it."""
    return (*modality.checks, *_FURTHER_CHECKS.get(modality.name, ()))


def reason_hints() -> dict[str, str]:
    """Return every reason code that a sample may be refused for, with its hint."""
    hints: dict[str, str] = {}
    for modality in _REGISTERED.values():
        hints |= modality.reasons
        for check in checks_of(modality):
            hints |= check.reasons
    return hints
