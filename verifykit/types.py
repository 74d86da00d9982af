"""What goes in and what comes out: images, templates, decisions, candidates, reports."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import TemplateFormatError, TemplateMismatchError

Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, rows from the top."""

Embeddings: TypeAlias = NDArray[np.float32]
"""(N, D) float32, rows of unit length."""

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, BinaryIO, NDArray[Any]]
"""A path, encoded bytes, an open binary file, or a uint8 RGB (H, W, 3) or grey (H, W) array."""

MultiFace: TypeAlias = Literal["error", "largest", "all"]
QualityGate: TypeAlias = Literal["strict", "warn"]
Outcome: TypeAlias = Literal["accept", "review", "refuse"]

UNIT_TOLERANCE = 1e-3


class _Record:
    """Adds ``to_dict`` to a frozen dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready plain values (arrays become lists)."""
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
    """One face found in an image, in the image's own pixels after EXIF rotation.

    Attributes:
        box_px: (left, top, width, height); may reach beyond the image.
        landmarks_px: Five (x, y): right eye, left eye (the subject's), nose tip, right and left
            mouth corner.
        score: The detector's own score in [0, 1].
    """

    box_px: tuple[float, float, float, float]
    landmarks_px: tuple[tuple[float, float], ...]
    score: float


@dataclass(frozen=True, eq=False)
class Sample(_Record):
    """What one face, signature or picture in an image gave: the crop and what was seen on the way.

    Attributes:
        crop: (h, w, 3) uint8 RGB, the size that the model's crop states.
        detection: Where it was found; None for modalities without a detector.
        quality: Measured values by name (``blur``, ``brightness``, ...), for people and logs.
        reasons: Quality reason codes that applied; empty for a good sample.
    """

    crop: Image
    detection: Detection | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Template(_Record):
    """An embedding with the digest of the model that made it.

    Attributes:
        embedding: (D,) float32 of unit length; read-only.
        spec_digest: Digest of weights, input and crop; templates of another digest are refused.
        detection: Where in the image it was taken from, if the modality detects.
        reasons: Quality reason codes that applied.
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
        """Refuse to be compared with another model's templates.

        Args:
            spec_digest: Digest that is wanted.
            embedding_size: D that is wanted, if known.

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
    """The answer to a 1:1 question; its truth value is ``match``.

    Attributes:
        match: ``score >= threshold``.
        score: Cosine similarity in [-1, 1] after fusion, higher is more alike; not a probability.
        threshold: The one that was applied.
        fmr: The false match rate that the threshold stands for; None with a bare ``threshold=``.
        attack: Which non-mated comparisons the rate is about; None with a bare ``threshold=``.
        score_fmr: The false match rate that a threshold at this very score would stand for: how far it
            was from the limit. Never below the lowest rate of the calibration, where it reads "at most".
            None where the model is not calibrated.
        llr: Natural logarithm of the likelihood ratio of this score, mated over non-mated; None where the
            calibration has none.
        outcome: ``"accept"`` is a match and ``"refuse"`` none; ``"review"`` is none either, but reaches
            the policy's second threshold.
        review_threshold: That threshold; None without a policy.
        review_fmr: The false match rate that it stands for; None without a policy.
        subject_id: Who was claimed; None for ``compare``.
        reference_count: How many references the probe was compared with: those of the subject, 1 for
            ``compare``.
        warnings: Quality reason codes of the samples, in ``quality="warn"``.
        detections: Where the faces were found: the probe's, for ``compare`` both images'.
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

    def __bool__(self) -> bool:
        return self.match


@dataclass(frozen=True)
class Candidate(_Record):
    """One subject found by ``identify``; best first, only those over the threshold.

    Attributes:
        subject_id: Who.
        score: Cosine similarity in [-1, 1] after fusion.
        threshold: The one that was applied.
        fmr: The false match rate of one comparison at this threshold, or None.
        attack: Which non-mated comparisons the rate is about, or None.
        fpir: The false positive identification rate that the threshold stands for in this gallery, when
            it was asked for; else None.
        gallery_size: Subjects in the gallery that ``fpir`` is about, or None.
        metadata: What was enrolled with the subject.
        detection: The probe's face that this candidate answers.
        warnings: Quality reason codes of that face, in ``quality="warn"``.
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
    """The answer to a 1:N question for one face, also when nobody is over the threshold.

    Attributes:
        detection: The probe's face; None for modalities without a detector.
        reasons: Quality reason codes that applied to it.
        candidates: Best first, only those over the threshold; may be empty.
        threshold: The one that was applied.
        fmr: The false match rate of one comparison at this threshold, or None.
        attack: Which non-mated comparisons the rate is about, or None.
        fpir: The false positive identification rate that the threshold stands for in this gallery, when
            it was asked for; else None.
        gallery_size: Subjects in the gallery that ``fpir`` is about, or None.
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
    """What a gallery holds of one subject.

    ``enrolled_at`` is when templates were last enrolled, Unix seconds; None where the gallery does not say.
    """

    subject_id: str
    templates: tuple[Template, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    enrolled_at: int | None = None


@dataclass(frozen=True)
class RefusedImage(_Record):
    """An image that enrolment did not take.

    Attributes:
        image: The path, or ``"image 3"`` for one without a name (counted from 1).
        reason: Reason code: ``"no_face"``, ``"unreadable"``, ...
        message: A sentence for people.
    """

    image: str
    reason: str
    message: str


@dataclass(frozen=True)
class EnrollmentReport(_Record):
    """What an enrolment took and what it refused, image by image.

    Attributes:
        subject_id: Who.
        accepted: Names of the images whose templates are now stored.
        refused: The others, each with its reason.
        warnings: Sentences: images that disagree, a look-alike already enrolled, weak quality.
        template_count: Templates the subject has now.
    """

    subject_id: str
    accepted: tuple[str, ...]
    refused: tuple[RefusedImage, ...]
    warnings: tuple[str, ...]
    template_count: int
