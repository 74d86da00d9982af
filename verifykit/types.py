"""Values that the API takes and returns: images, templates, decisions, candidates, reports."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import TemplateFormatError, TemplateMismatchError

if TYPE_CHECKING:
    import PIL.Image

Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, rows from the top."""

Embeddings: TypeAlias = NDArray[np.float32]
"""(N, D) float32, rows of unit length."""

ImageLike: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, BinaryIO, NDArray[Any], "PIL.Image.Image"
]
"""A path, a data URL, encoded bytes, an open binary file, a Pillow image, or a uint8 RGB (H, W, 3) or grey
(H, W) array."""

MultiFace: TypeAlias = Literal["error", "largest", "all"]
QualityGate: TypeAlias = Literal["strict", "warn"]
TurnedChoice: TypeAlias = Literal["upright", "error"]
SampleRole: TypeAlias = Literal["enrollment", "probe"]
Outcome: TypeAlias = Literal["accept", "review", "refuse"]

UNIT_TOLERANCE = 1e-3


class _Record:
    """Add ``to_dict`` to a frozen dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values for JSON; arrays become lists."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, _Record):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True)
class Detection(_Record):
    """A face in an image; coordinates are pixels of the image after EXIF rotation.

    Attributes:
        box_px: (left, top, width, height); may reach beyond the image.
        landmarks_px: Five (x, y): right eye, left eye (the subject's), nose tip, right and left
            mouth corner.
        score: The detector's own score in [0, 1]; None for a face that was given by its landmarks, of which
            no detector has said that it is one.
    """

    box_px: tuple[float, float, float, float]
    landmarks_px: tuple[tuple[float, float], ...]
    score: float | None


FaceLike: TypeAlias = (
    Detection | Sequence[float] | Sequence[Sequence[float]] | NDArray[Any] | Mapping[str, Any]
)
"""A face in an image, in pixels after EXIF rotation: a box (left, top, width, height); five landmarks (x, y),
in the order of :class:`Detection`; a :class:`Detection`; or a mapping with ``box_px`` or ``landmarks_px``."""


@dataclass(frozen=True, eq=False)
class Sample(_Record):
    """The crop of one face, signature or image, and what was measured on it.

    Attributes:
        crop: (h, w, 3) uint8 RGB, the size that the model's crop states.
        detection: Where it was found; None for modalities without a detector.
        quality: Measured values by name (``sharpness``, ``brightness``, ...), for display and logs.
        reasons: Quality reason codes that apply; empty for a good sample.
    """

    crop: Image
    detection: Detection | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Template(_Record):
    """An embedding with the digest of its model.

    Attributes:
        embedding: (D,) float32 of unit length; read-only.
        spec_digest: Digest of weights, input and crop; templates of another digest are refused.
        detection: Where in the image the sample was found, if the modality detects.
        reasons: Quality reason codes that apply.
    """

    embedding: NDArray[np.float32]
    spec_digest: str
    detection: Detection | None = None
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        embedding = np.array(self.embedding, dtype=np.float32)
        if embedding.ndim != 1 or embedding.size == 0:
            raise TemplateFormatError(f"an embedding has shape (D,), got {embedding.shape}")
        length = float(np.linalg.norm(embedding.astype(np.float64)))  # no overflow
        if not abs(length - 1.0) <= UNIT_TOLERANCE:
            raise TemplateFormatError(f"an embedding has unit length, got {length}")
        embedding.setflags(write=False)
        object.__setattr__(self, "embedding", embedding)

    def require(self, spec_digest: str, embedding_size: int | None = None) -> None:
        """Raise unless the template is one of the given model.

        Args:
            spec_digest: Required digest.
            embedding_size: Required D, if known.

        Raises:
            TemplateMismatchError: The template was made by another model.
            TemplateFormatError: The digest agrees but the length does not.
        """
        if self.spec_digest != spec_digest:
            raise TemplateMismatchError(
                f"this template was made by model {self.spec_digest[:12]}, not by "
                f"{spec_digest[:12]}: the two cannot be compared; extract it again from the image"
            )
        if embedding_size is not None and self.embedding.size != embedding_size:
            raise TemplateFormatError(
                f"an embedding of this model has {embedding_size} values, got {self.embedding.size}"
            )


@dataclass(frozen=True)
class Decision(_Record):
    """The result of a 1:1 comparison; its truth value is ``match``.

    Attributes:
        match: ``score >= threshold``.
        score: Cosine similarity in [-1, 1] after fusion, higher is more alike; not a probability.
        threshold: The threshold that was applied.
        fmr: The false match rate that the threshold represents; None with a bare ``threshold=``.
        attack: The kind of non-mated comparison that the rate is about; None with a bare ``threshold=``.
        score_fmr: The false match rate of a threshold equal to this score. Never below the lowest rate of
            the calibration, where it means "at most". None where the model is not calibrated.
        llr: Natural logarithm of the likelihood ratio of this score, mated over non-mated; None where the
            calibration has none.
        outcome: ``"accept"`` for a match, ``"review"`` for a non-match that reaches the policy's second
            threshold, else ``"refuse"``.
        review_threshold: The policy's second threshold; None without a policy.
        review_fmr: The false match rate that it represents; None without a policy.
        subject_id: The claimed subject; None for ``compare``.
        reference_count: Number of references that the probe was compared with: those of the subject, 1 for
            ``compare``.
        warnings: Reason codes of the samples: of quality, with ``quality="warn"``; always those that refuse
            no probe, such as ``covered`` and ``extreme_pose``, and ``more_faces``, ``smaller_faces`` and
            ``not_detected``, which refuse no image.
        detections: Where the faces were found: the probe's, for ``compare`` both images'.
        population: Of whom and of which conditions ``fmr`` is the rate, as the calibration states it; None
            if it does not, or with a bare ``threshold=``.
    """

    match: bool
    score: float
    threshold: float
    fmr: float | None
    attack: str | None = None
    score_fmr: float | None = None
    llr: float | None = None
    outcome: Outcome = "refuse"
    review_threshold: float | None = None
    review_fmr: float | None = None
    subject_id: str | None = None
    reference_count: int = 1
    warnings: tuple[str, ...] = ()
    detections: tuple[Detection, ...] = ()
    population: str | None = None

    def __bool__(self) -> bool:
        return self.match


@dataclass(frozen=True)
class Candidate(_Record):
    """A subject found by ``identify`` whose score reaches the threshold.

    Attributes:
        subject_id: The subject.
        score: Cosine similarity in [-1, 1] after fusion.
        threshold: The threshold that was applied.
        fmr: The false match rate of one comparison at this threshold, or None.
        attack: The kind of non-mated comparison that the rate is about, or None.
        fpir: The false positive identification rate that the threshold represents in this gallery, if it
            was requested; else None.
        gallery_size: Number of subjects in the gallery that ``fpir`` is about, or None.
        metadata: The metadata enrolled with the subject.
        detection: The probe's face that the candidate was found for.
        warnings: Reason codes of that face, as for a :class:`Decision`.
    """

    subject_id: str
    score: float
    threshold: float
    fmr: float | None = None
    attack: str | None = None
    fpir: float | None = None
    gallery_size: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    detection: Detection | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identification(_Record):
    """The result of a 1:N search for one face, also without any candidate.

    Attributes:
        detection: The probe's face; None for modalities without a detector.
        reasons: Quality reason codes that apply to it.
        candidates: Best first, only those over the threshold; may be empty.
        threshold: The threshold that was applied.
        fmr: The false match rate of one comparison at this threshold, or None.
        attack: The kind of non-mated comparison that the rate is about, or None.
        fpir: The false positive identification rate that the threshold represents in this gallery, if it
            was requested; else None.
        gallery_size: Number of subjects in the gallery that ``fpir`` is about, or None.
    """

    detection: Detection | None
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    threshold: float
    fmr: float | None
    attack: str | None = None
    fpir: float | None = None
    gallery_size: int | None = None


@dataclass(frozen=True)
class Subject(_Record):
    """What a gallery stores about one subject.

    Attributes:
        subject_id: The subject.
        templates: Its templates, in the order of enrollment.
        metadata: The metadata enrolled with it.
        enrolled_at: Time of the last enrollment of templates, Unix seconds; None where the gallery does not
            record it.
    """

    subject_id: str
    templates: tuple[Template, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    enrolled_at: int | None = None


@dataclass(frozen=True)
class RefusedImage(_Record):
    """An image that an enrollment refused.

    Attributes:
        image: The path, or ``"image 3"`` for one without a name (counted from 1).
        reason: Reason code: ``"no_face"``, ``"unreadable"``, ...
        message: The reason as a sentence.
    """

    image: str
    reason: str
    message: str


@dataclass(frozen=True)
class EnrollmentReport(_Record):
    """What an enrollment accepted and what it refused, image by image.

    Attributes:
        subject_id: The subject.
        accepted: Names of the images whose templates are now stored.
        refused: The other images, each with its reason.
        warnings: Sentences: images that disagree, a look-alike already enrolled, weak quality.
        template_count: Number of templates that the subject now has.
        look_alikes: Number of other enrolled subjects whose score reaches the threshold of ten times the
            rate, 100 for that many or more; None if they were not counted.
    """

    subject_id: str
    accepted: tuple[str, ...]
    refused: tuple[RefusedImage, ...]
    warnings: tuple[str, ...]
    template_count: int
    look_alikes: int | None = None
