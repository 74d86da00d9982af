"""Enrollment: which images are accepted, which are refused, and what the warnings are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from verifykit._given_faces import AnyFaces, PlacedImage, one_given_face, placed_each, unplaced
from verifykit.encoder import Encoder
from verifykit.errors import (
    AcquisitionError,
    GalleryError,
    ImageError,
    InputError,
    SubjectExistsError,
    SubjectNotFoundError,
    shown,
)
from verifykit.extraction import SampleOptions
from verifykit.gallery import (
    Gallery,
    SupportsCrops,
    SupportsTransfer,
    checked_entry,
    checked_subject_id,
    searcher,
)
from verifykit.gallery.base import require_one_spelling
from verifykit.gallery.penalised import Search
from verifykit.image import LoadedImage, image_name, is_pillow
from verifykit.scoring import scores_of
from verifykit.spec import Cohort
from verifykit.types import (
    Detection,
    EnrollmentReport,
    FaceLike,
    Image,
    ImageLike,
    RefusedImage,
    Template,
)

FACE_SIDE_PX = 1024
"""Longest side of an enrollment crop around a face."""

WHOLE_SIDE_PX = 2048
"""Longest side of a whole image: twice that of the copy in which a signature's ink is searched."""


def enrollment_crop(image: Image, detection: Detection | None) -> bytes:
    """Return the part of an image that another model may need, as a PNG without metadata.

    The box of a face is extended by its own size on each side and clipped to the image, so that another
    detector finds the face and another crop fits; without a detection it is the whole image. Reduced where
    the longer side would exceed ``FACE_SIDE_PX`` or ``WHOLE_SIDE_PX``.
    """
    import cv2

    part, max_side_px = image, WHOLE_SIDE_PX
    if detection is not None:
        part, max_side_px = _around(image, detection), FACE_SIDE_PX
    height, width = part.shape[:2]
    scale = max_side_px / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    _, encoded = cv2.imencode(".png", cv2.cvtColor(part, cv2.COLOR_RGB2BGR))
    return bytes(encoded)


def _around(image: Image, detection: Detection) -> Image:
    left, top, width, height = detection.box_px
    rows = slice(max(0, int(top - height)), max(1, int(np.ceil(top + 2 * height))))
    columns = slice(max(0, int(left - width)), max(1, int(np.ceil(left + 2 * width))))
    return image[rows, columns]


FacesOfImages: TypeAlias = AnyFaces | Sequence[FaceLike | None] | None
"""The face of each image, None where the detector finds it."""
MOST_LOOK_ALIKES = 100
"""Look-alikes that an enrollment counts; more would make it slow, and say no more."""

_NAMED = 2

IfEnrolled: TypeAlias = Literal["append", "error"]
"""What to do if the subject is already enrolled."""


def as_images(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """Return one image or an iterable of them as a list; raise :class:`InputError` for an empty one."""
    kinds = (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray)
    single = isinstance(images, kinds) or hasattr(images, "read") or is_pillow(images)
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
    options: SampleOptions,
    on_existing: IfEnrolled = "append",
    keep_crops: bool = False,
    faces: FacesOfImages = None,
    near: float | None = None,
) -> EnrollmentReport:
    """Store the usable images' templates in one durable step; report refusals and warnings.

    ``threshold`` is the score from which two templates count as alike, for the warnings; None gives no
    warnings about likeness. With ``on_existing="error"`` one of several calls at the same time, from any
    process, enrolls. ``keep_crops`` stores an enrollment crop with each template, in an encrypted gallery.
    ``near`` is the score from which an enrolled subject is counted as a look-alike; None counts none.
    """
    subject_id = checked_subject_id(subject_id)
    require_one_spelling(gallery, subject_id)
    if on_existing not in get_args(IfEnrolled):
        raise InputError(f"on_existing is one of {get_args(IfEnrolled)}, got {shown(on_existing)}")
    if on_existing == "error" and _stored(gallery, subject_id):
        # Saves the work; the gallery decides in the same step as it stores, below.
        raise SubjectExistsError(
            f"subject {shown(subject_id)} is already enrolled; nothing was stored"
        )
    if options.multi_face == "all":
        raise InputError(
            "multi_face='all' would enroll several people as one: use 'error' or 'largest'"
        )
    located = _located(images, faces)
    templates: list[Template] = []
    crops: list[bytes] = []
    accepted, refused, warnings = [], [], []
    failures: list[AcquisitionError | ImageError] = []
    work = partial(_enrolled, encoder, options, keep_crops)
    for index, result in enumerate(encoder.each_at_once(work, located), start=1):
        name = image_name(images[index - 1], index)
        try:
            template, crop = result()
        except (AcquisitionError, ImageError) as error:
            refused.append(RefusedImage(name, error.reason, str(error)))
            failures.append(error)
            continue
        templates.append(template)
        if crop is not None:
            crops.append(crop)
        accepted.append(name)
        warnings += [f"{name}: {reason}" for reason in template.reasons]
    if not templates:
        raise _no_usable_image(subject_id, failures, refused)

    stored, look_alikes = _stored(gallery, subject_id), None
    if threshold is not None:
        cohort = encoder.spec.cohort
        warnings += _disagreements(templates, stored, accepted, threshold, cohort)
        search = searcher(gallery, encoder.spec)
        said, look_alikes = look_alikes_of(search, subject_id, templates, threshold, near)
        warnings += said
    _add(gallery, subject_id, templates, metadata, on_existing, crops)
    # Another thread may have removed the subject since: that is not an error of this enrollment.
    count = len(_stored(gallery, subject_id))
    return EnrollmentReport(
        subject_id, tuple(accepted), tuple(refused), tuple(warnings), count, look_alikes
    )


def _located(
    images: Sequence[ImageLike], faces: FacesOfImages
) -> Sequence[ImageLike | PlacedImage]:
    """Return the images, those with a given face with it.

    Raises:
        InputError: Another number of faces than of images, or something that is not a face.
    """
    is_only_none = isinstance(faces, (list, tuple)) and len(faces) == 1 and faces[0] is None
    if len(images) == 1 and faces is not None and not is_only_none:
        return [PlacedImage(images[0], (one_given_face(cast("AnyFaces", faces)),))]
    located = placed_each(images, cast("Sequence[AnyFaces | None] | None", faces))
    for image in located:
        if isinstance(image, PlacedImage) and len(image.faces) > 1:
            raise InputError(
                f"faces: {len(image.faces)} faces were given for one image, and one is required"
            )
    return located


def _enrolled(
    encoder: Encoder, options: SampleOptions, keep_crops: bool, image: ImageLike | PlacedImage
) -> tuple[Template, bytes | None]:
    """Return the template of an image, and its enrollment crop if they are kept."""
    pure, faces = unplaced(image)
    loaded = pure if isinstance(pure, LoadedImage) else encoder.extractor.load(pure)
    located = PlacedImage(loaded, faces) if faces else loaded
    (template,) = encoder.templates(located, options, role="enrollment")
    if not keep_crops:
        return template, None
    return template, enrollment_crop(loaded.whole().pixels, template.detection)


def _no_usable_image(
    subject_id: str,
    failures: Sequence[AcquisitionError | ImageError],
    refused: Sequence[RefusedImage],
) -> AcquisitionError | ImageError:
    if len(failures) == 1:
        return failures[0]
    listed = "; ".join(f"{image.image}: {image.reason}" for image in refused)
    message = f"none of the {len(refused)} images of {shown(subject_id)} is usable: {listed}"
    reasons = [error.reason for error in failures if isinstance(error, AcquisitionError)]
    return AcquisitionError(message, reason=reasons[0]) if reasons else ImageError(message)


def _stored(gallery: Gallery, subject_id: str) -> tuple[Template, ...]:
    try:
        return gallery.get(subject_id).templates
    except SubjectNotFoundError:
        return ()


def _add(
    gallery: Gallery,
    subject_id: str,
    templates: Sequence[Template],
    metadata: Mapping[str, Any] | None,
    on_existing: IfEnrolled,
    crops: Sequence[bytes],
) -> None:
    if on_existing == "append" and not crops:
        gallery.add(subject_id, templates, metadata)
        return
    if not isinstance(gallery, SupportsTransfer):
        raise InputError(
            f"on_existing='error' or keep_crops: {type(gallery).__name__} cannot check and store in one "
            "step, it has no add_entries; use on_existing='append' without keep_crops"
        )
    entry = checked_entry(
        subject_id,
        templates,
        metadata,
        spec_digest=gallery.spec_digest,
        embedding_size=gallery.embedding_size,
        crops=crops,
    )
    gallery.add_entries([entry], on_existing)


def checked_keep_crops(keep_crops: bool, gallery: Gallery) -> bool:
    """Return ``keep_crops`` if the gallery allows it.

    Raises:
        GalleryError: Crops are requested, and the gallery is not encrypted.
    """
    if keep_crops and not (isinstance(gallery, SupportsCrops) and gallery.encrypted):
        raise GalleryError(
            "keep_crops: crops are images of people, and are kept in an encrypted gallery only: give its key "
            "(--key-file), after `verifykit gallery encrypt` for a file that exists"
        )
    return keep_crops


def _disagreements(
    templates: Sequence[Template],
    stored: Sequence[Template],
    names: Sequence[str],
    threshold: float,
    cohort: Cohort | None,
) -> list[str]:
    embeddings = np.stack([template.embedding for template in (*templates, *stored)])
    warnings = []
    for index, name in enumerate(names):
        others = scores_of(embeddings[index], np.delete(embeddings, index, axis=0), cohort)
        if others.size and float(others.max()) < threshold:
            warnings.append(
                f"{name} does not look like the subject's other images: best score "
                f"{float(others.max()):.3f}, threshold {threshold:.3f}"
            )
    return warnings


def look_alikes_of(
    search: Search,
    subject_id: str,
    templates: Sequence[Template],
    threshold: float,
    near: float | None,
) -> tuple[list[str], int | None]:
    """Return warnings about subjects over the threshold, and the number of those over ``near``.

    One search gives both. The warnings name at most two subjects for each template.
    """
    probes = np.stack([template.embedding for template in templates])
    limit, least = (
        (_NAMED, threshold) if near is None else (MOST_LOOK_ALIKES + 1, min(near, threshold))
    )
    best: dict[str, float] = {}
    others: set[str] = set()
    for candidates in search(probes, limit, least):
        others.update(candidate.subject_id for candidate in candidates)
        for candidate in candidates[:_NAMED]:
            if candidate.subject_id != subject_id and candidate.score >= threshold:
                score = max(candidate.score, best.get(candidate.subject_id, -1.0))
                best[candidate.subject_id] = score
    others.discard(subject_id)
    warnings = [
        f"looks like {shown(other)}, who is already enrolled: score {score:.3f}, threshold {threshold:.3f}"
        for other, score in sorted(best.items(), key=lambda item: -item[1])
    ]
    return warnings, None if near is None else min(len(others), MOST_LOOK_ALIKES)
