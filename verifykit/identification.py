"""Identification: the faces of one image against everybody in a gallery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from verifykit.criterion import Criterion
from verifykit.encoder import Encoder
from verifykit.gallery import Gallery, checked_question
from verifykit.types import Identification, ImageLike, MultiFace, QualityGate

__all__ = ["identify_each"]


def identify_each(
    encoder: Encoder,
    gallery: Gallery,
    image: ImageLike,
    *,
    criterion: Criterion,
    limit: int,
    multi_face: MultiFace,
    quality: QualityGate,
) -> list[Identification]:
    """Search for every face of an image, and answer also for those whom nobody matches.

    One threshold holds for the whole gallery, however many references a subject has: the strictest
    (:meth:`~verifykit.spec.ModelSpec.operating_point` for any number of references). A
    threshold for each subject would need a search without a limit, since a best candidate that misses
    its own threshold may hide a lesser one that reaches its own.

    Args:
        encoder: Image to templates.
        gallery: Who may be found.
        image: The probe.
        criterion: From which score on a subject is a candidate; for any number of references.
        limit: At most so many candidates for each face.
        multi_face: What to do with several faces.
        quality: Whether a quality reason refuses or only warns.

    Returns:
        One answer a face, largest face first.

    Raises:
        AcquisitionError: Nothing usable in the image.
        ImageError: The image cannot be read.
        InputError: ``limit`` is not a positive integer.
        GalleryError: The gallery cannot be read.
    """
    checked_question(limit, criterion.threshold)
    probes = encoder.templates(image, multi_face=multi_face, quality=quality)
    embeddings = np.stack([probe.embedding for probe in probes])
    found = gallery.search(embeddings, limit=limit, threshold=criterion.threshold)
    return [
        Identification(
            detection=probe.detection,
            reasons=probe.reasons,
            candidates=tuple(
                replace(
                    candidate,
                    threshold=criterion.threshold,
                    fmr=criterion.fmr,
                    attack=criterion.attack,
                    fpir=criterion.fpir,
                    gallery_size=criterion.gallery_size,
                    detection=probe.detection,
                    warnings=probe.reasons,
                )
                for candidate in candidates
            ),
            threshold=criterion.threshold,
            fmr=criterion.fmr,
            attack=criterion.attack,
            fpir=criterion.fpir,
            gallery_size=criterion.gallery_size,
        )
        for probe, candidates in zip(probes, found, strict=True)
    ]
