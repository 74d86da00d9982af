"""A teacher's embeddings of training images, computed once and kept.

The teacher sees each image once and as it is: its own crop, without augmentation. The student sees augmented
crops and learns to answer to all of them what the teacher answers to the clean one. (The same
augmentation for both would cost the teacher's forward pass in every step, and could not be kept.)

What is kept is bound to the teacher's digest, its crop, and the bytes of the image file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import verifykit
from verifykit.datasets import FaceChoice, LabelledImage
from verifykit.errors import shortened
from verifykit.evaluation.embedding import EmbeddingCache, embed_images
from verifykit.extraction import SampleOptions
from verifykit.spec import Cohort, OperatingPoint
from verifykit.spec.strict_json import canonical, plain
from verifykit.types import QualityGate
from verifykit_training.dataset import Record
from verifykit_training.errors import DataError
from verifykit_training.preparation import Prepared
from verifykit_training.teachers.base import Teacher
from verifykit_training.trained_on import BEFORE, as_before


@dataclass(frozen=True, eq=False)
class Targets:
    """Embeddings to be learnt.

    Attributes:
        rows: (N, D) float32, unit rows in the order of the records; NaN where the teacher has none.
        missing: How many images gave the teacher no crop, by reason.
    """

    rows: NDArray[np.float32]
    missing: dict[str, int]


class _TeacherEmbedder:
    """A teacher as evaluation embeds: the largest face, whatever its quality, as for the student."""

    multi_face: FaceChoice = "largest"
    quality: QualityGate = "warn"
    fusion = "mean"
    operating_points: Sequence[OperatingPoint] = ()
    cohort: Cohort | None = None  # a student learns embeddings, not scores

    def __init__(self, teacher: Teacher) -> None:
        record = teacher.record
        self._teacher = teacher
        self.model = self.name = record.name
        self.digest, self.modality, self.licence = record.digest, record.modality, record.licence
        depends_on = {
            "teacher": record.digest,
            "crop": plain(teacher.extractor.spec),
            "verifykit": verifykit.__version__,
            "options": [self.multi_face, self.quality],
        }
        self.cache_key = hashlib.sha256(canonical(depends_on)).hexdigest()

    def embed(self, image: bytes, /) -> NDArray[np.float32]:
        """Return the teacher's row of the sample in an image."""
        options = SampleOptions("largest", "warn")
        samples = self._teacher.extractor.samples(image, options)
        row: NDArray[np.float32] = self._teacher.encode([samples[0].crop])[0]
        return row


def embed_targets(
    teacher: Teacher,
    records: Sequence[Record],
    cache: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> Targets:
    """Embed the images of records by a teacher; what a file in the cache's folder knows is not computed.

    Args:
        teacher: Open.
        records: The images.
        cache: The folder of crops, in which ``teachers.sqlite`` is kept.
        progress: Called with the number of images done.

    Returns:
        A row for each record.

    Raises:
        DataError: The teacher found nothing in any of them.
    """
    images = [LabelledImage(record.path, record.path.name, record.subject) for record in records]
    with EmbeddingCache(cache / "teachers.sqlite") as kept:
        found = embed_images(
            _TeacherEmbedder(teacher),
            images,
            cache=kept,
            on_progress=None if progress is None else lambda done, _: progress(done),
        )
    if not len(found.rows):
        first = found.reasons[0]
        raise DataError(
            f"the teacher {shortened(teacher.record.name)} has no embedding of any of {len(records)} images; "
            f"{shortened(records[0].path)}: {first}"
        )
    rows = np.full((len(records), found.rows.shape[1]), np.nan, np.float32)
    has_row = found.row_of >= 0
    rows[has_row] = found.rows[found.row_of[has_row]]
    return Targets(rows, dict(Counter(found.reasons.values())))


def seen_by_teacher(teacher: Teacher, data: Prepared) -> list[str]:
    """Return a sentence if the teacher was trained on images that the student is validated or tested on."""
    if teacher.trained_on is None:
        return []
    trained = (as_before(teacher.trained_on).images or {}).get(BEFORE, frozenset())
    seen = {part: len(trained.intersection(data.images[part])) for part in ("validation", "test")}
    counts = " and ".join(f"{count} {part}" for part, count in seen.items() if count)
    if not counts:
        return []
    sentence = (
        f"the teacher was trained on {counts} images of this run: what it knows of them reaches the student, "
        "whose error rates on them are too good"
    )
    return [sentence]
