"""After a model change: who must be re-enrolled, and who can be enrolled from enrollment crops.

Templates of two models cannot be compared, so another model needs another gallery.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verifykit.encoder import Encoder
from verifykit.errors import (
    AcquisitionError,
    ImageError,
    InputError,
    SubjectNotFoundError,
    TemplateMismatchError,
)
from verifykit.extraction import SampleOptions
from verifykit.gallery import (
    Enrolment,
    Entry,
    KeySource,
    StoredGallery,
    SupportsCrops,
    checked_entry,
    open_existing,
)
from verifykit.spec import ModelSpec
from verifykit.types import QualityGate, Template


@dataclass(frozen=True)
class ReenrollPlan:
    """Who can be enrolled with another model from what was kept, and who must be re-enrolled.

    Attributes:
        needed: Whether the gallery is another model's at all; if not, there is nothing to do.
        model: Name of the model whose templates the gallery holds.
        new_model: Name of the other one.
        from_crops: All subjects of whom a crop was kept, sorted by id.
        must_come: The others.
    """

    needed: bool
    model: str
    new_model: str
    from_crops: tuple[Enrolment, ...]
    must_come: tuple[Enrolment, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class RefusedCrop:
    """A crop of which the other model made no template.

    Attributes:
        subject_id: Whose.
        crop: Which of the subject's, from 1, in the order of enrolment.
        reason: Reason code: ``"no_face"``, ...
        message: Human-readable.
    """

    subject_id: str
    crop: int
    reason: str
    message: str


@dataclass(frozen=True)
class ReenrollReport:
    """What was done now.

    Attributes:
        subject_count: Subjects who were enrolled.
        template_count: Their templates.
        skipped_count: Subjects who were in the new gallery already.
        refused: The crops that were not taken.
        must_come: Ids of those who are not in the new gallery: no crop was kept, or none was taken.
    """

    subject_count: int
    template_count: int
    skipped_count: int
    refused: tuple[RefusedCrop, ...]
    must_come: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain values."""
        return dataclasses.asdict(self)


def needs_reenroll(
    gallery: str | os.PathLike[str], spec: ModelSpec, *, key: KeySource | None = None
) -> bool:
    """Return whether a gallery holds another model's templates, so that this model needs a new one.

    Args:
        gallery: The path of a file that exists, or a URL.
        spec: What the model says about itself: ``Verifier(...).spec``.
        key: Of an encrypted gallery.

    Raises:
        GalleryError: There is none, or it cannot be opened.
    """
    with open_existing(os.fspath(gallery), key=key) as opened:
        return opened.spec_digest != spec.digest


def plan_reenroll(gallery: StoredGallery, spec: ModelSpec) -> ReenrollPlan:
    """Return who must be re-enrolled for another model; nothing is written.

    Args:
        gallery: The gallery as it is.
        spec: What the other model says about itself.

    Raises:
        GalleryError: The gallery cannot be read.
    """
    found = _enrolments(gallery)
    return ReenrollPlan(
        gallery.spec_digest != spec.digest,
        gallery.model,
        spec.name,
        tuple(each for each in found if each.crop_count),
        tuple(each for each in found if not each.crop_count),
    )


def reenroll(
    gallery: StoredGallery,
    encoder: Encoder,
    target: StoredGallery,
    *,
    quality: QualityGate = "strict",
    on_subject: Callable[[int, int], None] | None = None,
) -> ReenrollReport:
    """Fill another model's gallery from the crops that were kept; the old gallery is only read.

    Each subject is stored in one step, with metadata, the crops that were taken, and the time of the last
    enrolment in person, from which retention continues counting. Subjects who are in the new gallery are
    skipped, so a run that was interrupted is continued by another.

    Args:
        gallery: The old model's, with enrollment crops.
        encoder: The new model.
        target: The new model's gallery, encrypted.
        quality: ``"strict"`` refuses weak crops, ``"warn"`` takes them.
        on_subject: Called with the number of subjects that are done, and of all of them.

    Returns:
        What was enrolled, and crop by crop what was refused.

    Raises:
        InputError: The gallery is this model's already, or keeps no crops.
        TemplateMismatchError: The new gallery is not this model's.
        GalleryError: One of them cannot be read or written; subjects before that are stored.
        ModelError, ProviderError: The network failed; subjects before that are stored.
    """
    spec = encoder.spec
    require_crops(gallery, spec)
    if target.spec_digest != spec.digest:
        raise TemplateMismatchError(
            f"the new gallery holds templates of model {target.spec_digest[:12]}, not of {spec.name} "
            f"({spec.digest[:12]}): choose another file"
        )
    there = set(target.subject_ids())
    found = _enrolments(gallery)
    subjects = templates = skipped = 0
    refused: list[RefusedCrop] = []
    must_come: list[str] = []
    for number, enrolment in enumerate(found, start=1):
        if enrolment.subject_id in there:
            skipped += 1
        elif entry := _entry(gallery, encoder, enrolment, quality, refused):
            stored = target.add_entries([entry], "skip")
            subjects += stored.subject_count
            templates += stored.template_count
            skipped += stored.skipped_count
        else:
            must_come.append(enrolment.subject_id)
        if on_subject is not None:
            on_subject(number, len(found))
    return ReenrollReport(subjects, templates, skipped, tuple(refused), tuple(must_come))


def require_crops(gallery: StoredGallery, spec: ModelSpec) -> None:
    """Raise unless a gallery is another model's and keeps crops to enrol from.

    Raises:
        InputError: The gallery is this model's already, or keeps no crops.
    """
    if gallery.spec_digest == spec.digest:
        raise InputError(
            f"this gallery holds templates of model {spec.name} already: nothing need be enrolled again"
        )
    if not isinstance(gallery, SupportsCrops) or not gallery.info().get("crop_count"):
        raise InputError(
            "no crops are kept in this gallery, so all subjects must be re-enrolled: enrol them into a new "
            "gallery, with --keep-crops for the next time"
        )


def _entry(
    gallery: StoredGallery,
    encoder: Encoder,
    enrolment: Enrolment,
    quality: QualityGate,
    refused: list[RefusedCrop],
) -> Entry | None:
    """Return what the new gallery is to store; None without a crop that the model takes."""
    if not isinstance(gallery, SupportsCrops) or not enrolment.crop_count:
        return None
    subject_id = enrolment.subject_id
    try:
        metadata, crops = gallery.get(subject_id).metadata, gallery.crops(subject_id)
    except SubjectNotFoundError:  # removed meanwhile
        return None
    templates: list[Template] = []
    taken: list[bytes] = []
    for number, crop in enumerate(crops, start=1):
        try:
            # Of several faces the one that was enrolled is in the middle, and no other is larger.
            (template,) = encoder.templates(
                crop, SampleOptions("largest", quality), role="enrollment"
            )
        except (AcquisitionError, ImageError) as error:
            refused.append(RefusedCrop(subject_id, number, error.reason, str(error)))
            continue
        templates.append(template)
        taken.append(crop)
    if not templates:
        return None
    entry = checked_entry(
        subject_id,
        templates,
        metadata,
        spec_digest=encoder.spec.digest,
        embedding_size=encoder.spec.embedding_size,
        crops=taken,
        keep_id=True,
    )
    return dataclasses.replace(entry, enrolled_at=enrolment.enrolled_at)


def _enrolments(gallery: StoredGallery) -> list[Enrolment]:
    if isinstance(gallery, SupportsCrops):
        return sorted(gallery.enrolments(), key=lambda enrolment: enrolment.subject_id)
    return [
        Enrolment(subject_id, None, len(gallery.get(subject_id).templates), 0)
        for subject_id in gallery.subject_ids()
    ]
