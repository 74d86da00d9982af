"""A teacher: what it is, what it sees of an image, and its embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from verifykit.encoder import Encode
from verifykit.extraction import SampleExtractor
from verifykit_training.run_folder import TeacherRecord
from verifykit_training.trained_on import TrainedOn


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that gives embeddings and is never changed.

    Attributes:
        record: Its name, digest and terms, for the student's model card.
        extractor: Images to its own crops, which need not be the student's.
        encode: Crops to (N, D) float32 unit rows.
        trained_on: The images and subjects of its run; None where they are not known.
    """

    record: TeacherRecord
    extractor: SampleExtractor
    encode: Encode
    trained_on: TrainedOn | None = None
