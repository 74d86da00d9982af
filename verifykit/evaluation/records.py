"""What evaluation data are made of: images, the pairs to compare, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["DataKind", "EvaluationData", "EvaluationImage", "FaceChoice", "ListedPair"]

DataKind: TypeAlias = Literal["folder", "images", "pairs", "lfw_pairs"]

FaceChoice: TypeAlias = Literal["error", "largest", "middle"]
"""What to do with several faces; ``"middle"`` takes the one nearest the image's centre, as LFW has it."""


@dataclass(frozen=True)
class EvaluationImage:
    """One image and what the data say about it.

    Attributes:
        path: The file; whether it is there is found out when it is read.
        name: As the data name it: relative where they do, with ``/`` between its parts.
        subject: Whose it is; of a forgery, whom it imitates.
        is_forgery: A skilled forgery of ``subject``: never mated with anything.
        groups: The further columns of an images CSV, by column; a cell may be empty.
    """

    path: Path
    name: str
    subject: str
    is_forgery: bool = False
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ListedPair:
    """Two images that the data ask to compare.

    Attributes:
        probe: Index of an image.
        reference: Index of another.
        mated: Both are genuine and of one subject.
        fold: Which part of a cross-validation it belongs to, if the data say so.
        groups: The further columns of a pairs CSV, by column; a cell may be empty.
        is_skilled: Not mated, and the probe is a skilled forgery of the reference's subject.
    """

    probe: int
    reference: int
    mated: bool
    fold: int | None = None
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_skilled: bool = False


@dataclass(frozen=True)
class EvaluationData:
    """Images with subjects, and the comparisons to make.

    Attributes:
        source: The folder or file that was read.
        kind: What it was.
        images: Each image once.
        pairs: The comparisons, as often as they are listed; None is every pair of images.
        has_subjects: Whether the data name the subjects; else they are those that mated pairs join.
        left_out: How many files of a folder are no images, by their ending.
    """

    source: Path
    kind: DataKind
    images: tuple[EvaluationImage, ...]
    pairs: tuple[ListedPair, ...] | None
    has_subjects: bool = True
    left_out: int = 0

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Names of all subjects, each once, sorted."""
        return tuple(sorted({image.subject for image in self.images}))
