"""What is wrong with training data, found before an hour is lost: ``verifykit-train check``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from training.data import Record, Split, leaking_subjects
from verifykit.errors import ImageError
from verifykit.image import load_image

__all__ = ["DataReport", "check_records"]

_CHUNK = 256


@dataclass(frozen=True)
class DataReport:
    """What was found; ``problems`` makes a run worthless, the rest is worth knowing.

    Attributes:
        images: Number of records.
        forgeries: How many of them are skilled forgeries.
        subjects: Number of subjects.
        unreadable: (path, reason) of files that cannot be read.
        duplicates: Groups of paths with the same pixels.
        conflicting: Of those groups, the ones that name more than one subject, or the same subject as
            genuine and as forged.
        single: Subjects with one readable genuine image that is no duplicate: no mated pair.
        leaking_subjects: Subjects in more than one split.
        leaking_images: Groups of duplicates that lie in more than one split.
    """

    images: int
    forgeries: int
    subjects: int
    unreadable: tuple[tuple[Path, str], ...]
    duplicates: tuple[tuple[Path, ...], ...]
    conflicting: tuple[tuple[Path, ...], ...]
    single: tuple[str, ...]
    leaking_subjects: tuple[str, ...]
    leaking_images: tuple[tuple[Path, ...], ...]

    @property
    def problems(self) -> list[str]:
        """What must be put right, one sentence each; empty when the data can be trained on."""
        found = (
            (self.unreadable, "file(s) cannot be read"),
            (self.conflicting, "group(s) of equal images carry different subjects or labels"),
            (self.leaking_subjects, "subject(s) are in more than one split"),
            (self.leaking_images, "group(s) of equal images lie in more than one split"),
        )
        return [f"{len(items)} {sentence}" for items, sentence in found if items]


def check_records(
    records: Sequence[Record],
    *,
    places: dict[str, Split] | None = None,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """Decode every image and compare all of them.

    Two images are equal when their decoded pixels are: a copy saved again without loss is found,
    one saved again as JPEG is not.

    Args:
        records: As :func:`~training.data.read_records` gives them.
        places: Split of each subject where the data do not state it.
        workers: Threads that read images.
        progress: Called with the number of images done so far.

    Returns:
        What was found, in the records' order.
    """
    unreadable: list[tuple[Path, str]] = []
    groups: dict[bytes, list[Record]] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(records), _CHUNK):
            chunk = records[start : start + _CHUNK]
            for record, (digest, reason) in zip(chunk, pool.map(_digest, chunk), strict=True):
                if digest is None:
                    unreadable.append((record.path, reason))
                else:
                    groups.setdefault(digest, []).append(record)
            if progress:
                progress(start + len(chunk))
    copies = [group for group in groups.values() if len(group) > 1]
    genuine = Counter(
        subject
        for group in groups.values()
        for subject in {record.subject for record in group if not record.is_forgery}
    )
    subjects = list(dict.fromkeys(record.subject for record in records))
    return DataReport(
        images=len(records),
        forgeries=sum(record.is_forgery for record in records),
        subjects=len(subjects),
        unreadable=tuple(unreadable),
        duplicates=_paths(copies),
        conflicting=_paths(g for g in copies if len({(r.subject, r.is_forgery) for r in g}) > 1),
        single=tuple(subject for subject in subjects if genuine[subject] == 1),
        leaking_subjects=tuple(leaking_subjects(records)),
        leaking_images=_paths(g for g in copies if len({_place(r, places) for r in g}) > 1),
    )


def _place(record: Record, places: dict[str, Split] | None) -> Split | None:
    return record.split or (places or {}).get(record.subject)


def _paths(groups: Iterable[Sequence[Record]]) -> tuple[tuple[Path, ...], ...]:
    return tuple(tuple(record.path for record in group) for group in groups)


def _digest(record: Record) -> tuple[bytes | None, str]:
    try:
        pixels = load_image(record.path)
    except ImageError as error:
        return None, str(error)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest(), ""
