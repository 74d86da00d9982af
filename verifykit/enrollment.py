"""Enrolment: which images are taken, which are refused, and what looks odd about the result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, ImageError, InputError, SubjectNotFoundError
from verifykit.gallery import Gallery, checked_subject_id
from verifykit.image import image_name
from verifykit.types import (
    EnrollmentReport,
    ImageLike,
    MultiFace,
    QualityGate,
    RefusedImage,
    Template,
)

__all__ = ["as_images", "enroll"]


def as_images(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """One image or several, as a list.

    Args:
        images: A single image of any kind, or an iterable of them.

    Returns:
        The images, at least one.

    Raises:
        InputError: The iterable is empty.
    """
    kinds = (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray)
    single = isinstance(images, kinds) or hasattr(images, "read")
    if single or not isinstance(images, Iterable):
        return [cast("ImageLike", images)]
    listed = list(cast("Iterable[ImageLike]", images))
    if not listed:
        raise InputError("no images were given: give at least one")
    return listed


def enroll(
    encoder: Encoder,
    gallery: Gallery,
    subject_id: str,
    images: Sequence[ImageLike],
    metadata: Mapping[str, Any] | None,
    *,
    threshold: float | None,
    multi_face: MultiFace,
    quality: QualityGate,
) -> EnrollmentReport:
    """Take what is usable, store it in one durable step, and say what was refused and what looks odd.

    Args:
        encoder: Images to templates.
        gallery: Where they are stored.
        subject_id: Who.
        images: At least one.
        metadata: JSON-ready values to store with the subject; None leaves what is there.
        threshold: Score from which two templates count as alike, for the warnings; None: no warnings
            about likeness.
        multi_face: ``"error"`` or ``"largest"``.
        quality: Whether a quality reason refuses or only warns.

    Returns:
        What was taken and refused, image by image.

    Raises:
        InputError: The subject id or ``multi_face`` is not allowed.
        AcquisitionError: None of the images is usable; nothing was stored.
        ImageError: None of the images can even be read; nothing was stored.
        GalleryError: The gallery could not store them; nothing was stored.
    """
    checked_subject_id(subject_id)
    if multi_face == "all":
        raise InputError(
            "multi_face='all' would enrol several people as one: use 'error' or 'largest'"
        )
    templates: list[Template] = []
    accepted, refused, warnings = [], [], []
    failures: list[AcquisitionError | ImageError] = []
    for index, image in enumerate(images, start=1):
        name = image_name(image, index)
        try:
            (template,) = encoder.templates(image, multi_face=multi_face, quality=quality)
        except (AcquisitionError, ImageError) as error:
            reason = error.reason if isinstance(error, AcquisitionError) else "unreadable"
            refused.append(RefusedImage(name, reason, str(error)))
            failures.append(error)
            continue
        templates.append(template)
        accepted.append(name)
        warnings += [f"{name}: {reason}" for reason in template.reasons]
    if not templates:
        raise _none_usable(subject_id, failures, refused)

    stored = _stored(gallery, subject_id)
    if threshold is not None:
        warnings += _disagreements(templates, stored, accepted, threshold)
        warnings += _look_alikes(gallery, subject_id, templates, threshold)
    gallery.add(subject_id, templates, metadata)
    # Another thread may have removed the subject since: that is no failure of this enrolment.
    count = len(_stored(gallery, subject_id))
    return EnrollmentReport(subject_id, tuple(accepted), tuple(refused), tuple(warnings), count)


def _none_usable(
    subject_id: str,
    failures: Sequence[AcquisitionError | ImageError],
    refused: Sequence[RefusedImage],
) -> AcquisitionError | ImageError:
    if len(failures) == 1:
        return failures[0]
    listed = "; ".join(f"{image.image}: {image.reason}" for image in refused)
    message = f"none of the {len(refused)} images of {subject_id!r} is usable: {listed}"
    reasons = [error.reason for error in failures if isinstance(error, AcquisitionError)]
    return AcquisitionError(message, reason=reasons[0]) if reasons else ImageError(message)


def _stored(gallery: Gallery, subject_id: str) -> tuple[Template, ...]:
    try:
        return gallery.get(subject_id).templates
    except SubjectNotFoundError:
        return ()


def _disagreements(
    templates: Sequence[Template],
    stored: Sequence[Template],
    names: Sequence[str],
    threshold: float,
) -> list[str]:
    everything = np.stack([template.embedding for template in (*templates, *stored)])
    scores = everything[: len(templates)] @ everything.T
    warnings = []
    for index, name in enumerate(names):
        others = np.delete(scores[index], index)
        if others.size and float(others.max()) < threshold:
            warnings.append(
                f"{name} does not look like the subject's other images: best score "
                f"{float(others.max()):.3f}, threshold {threshold:.3f}"
            )
    return warnings


def _look_alikes(
    gallery: Gallery, subject_id: str, templates: Sequence[Template], threshold: float
) -> list[str]:
    probes = np.stack([template.embedding for template in templates])
    best: dict[str, float] = {}
    for candidates in gallery.search(probes, limit=2, threshold=threshold):
        for candidate in candidates:
            if candidate.subject_id != subject_id:
                score = max(candidate.score, best.get(candidate.subject_id, -1.0))
                best[candidate.subject_id] = score
    return [
        f"looks like {other!r}, who is already enrolled: score {score:.3f}, threshold {threshold:.3f}"
        for other, score in sorted(best.items(), key=lambda item: -item[1])
    ]
