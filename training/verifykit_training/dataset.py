"""Training data: records of images, splits by subject, the check before a run, lists of triplets."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from verifykit._environment import cache_folder
from verifykit.datasets import Dataset, read_dataset, read_table
from verifykit.errors import ImageError, InputError, shortened, shown
from verifykit.image import load_image
from verifykit.types import Image
from verifykit_training.arrays import unpack
from verifykit_training.errors import DataError
from verifykit_training.parallel import in_threads

Split: TypeAlias = Literal["train", "validation", "test"]

_COLUMNS = ("anchor", "positive", "negative")


@dataclass(frozen=True)
class Record:
    """One image and what is known about it.

    Attributes:
        path: The image file.
        subject: Whose it is; of a forgery, who is imitated.
        is_forgery: An imitation of the subject: a negative for that subject, never an anchor and
            never anyone's positive.
        split: As the data themselves state it; None if they do not.
    """

    path: Path
    subject: str
    is_forgery: bool = False
    split: Split | None = None


def read_records(data: Path) -> list[Record]:
    """Read a folder for each subject, a table ``path,subject[,label][,split]`` or arrays (``.npz``).

    The images are those of `verifykit.datasets`, which evaluation reads too. ``split`` is empty,
    ``train``, ``validation`` or ``test``; further columns are left alone.
    """
    return to_records(read_training_data(data))


@contextmanager
def as_data_error() -> Iterator[None]:
    """Raise the reader's errors as `DataError`, which training raises about data."""
    try:
        yield
    except DataError:
        raise
    except InputError as error:
        raise DataError(str(error)) from error


def read_training_data(data: Path) -> Dataset:
    """Read labelled images, with what was left out; raise `DataError` for anything else."""
    with as_data_error():
        is_arrays = data.suffix.lower() == ".npz"
        found = read_dataset(unpack(data, cache_folder() / "crops") if is_arrays else data)
    if found.pairs is not None:
        raise DataError(
            f"{shown(str(data))} lists pairs, training takes images: give a folder with a folder for each "
            "subject, or a CSV file path,subject[,label][,split]"
        )
    return found


def to_records(data: Dataset) -> list[Record]:
    """Return a record for each image, with the split that the data state."""
    splits = {name: name for name in get_args(Split)}
    records = []
    for image in data.images:
        stated = image.groups.get("split", "")
        if stated and stated not in splits:
            raise DataError(
                f"{shown(str(data.source))}: split {shown(stated)} of {shown(image.name)} is not one of "
                f"{', '.join(splits)} or empty"
            )
        split: Split | None = splits.get(stated)
        records.append(Record(image.path, image.subject, image.is_forgery, split))
    return records


def divide(
    records: Sequence[Record], *, validation_share: float, test_share: float, seed: int
) -> dict[Split, list[Record]]:
    """Split by subject: no subject is in two parts.

    A subject whose records state a split goes there. The others are ordered by a hash of seed and
    name, so that a subject added later moves few others, and cut by the shares.
    """
    if leaking := leaking_subjects(records):
        raise DataError(
            f"{len(leaking)} subject(s) are in more than one split, for example "
            f"{shown(leaking[0])}: correct the split column"
        )
    stated = {record.subject: record.split for record in records if record.split}
    free = sorted(
        {record.subject for record in records} - set(stated), key=lambda name: _order(seed, name)
    )
    test_end = math.floor(test_share * len(free) + 0.5)
    validation_end = test_end + math.floor(validation_share * len(free) + 0.5)
    places: dict[str, Split] = dict(stated)
    for place, subject in enumerate(free):
        places[subject] = (
            "test" if place < test_end else "validation" if place < validation_end else "train"
        )
    parts: dict[Split, list[Record]] = {name: [] for name in get_args(Split)}
    for record in records:
        parts[places[record.subject]].append(record)
    if len({record.subject for record in parts["train"]}) < 2:
        raise DataError("fewer than two subjects are left to train on: lower the shares")
    return parts


def leaking_subjects(records: Iterable[Record]) -> list[str]:
    """Return the subjects whose records state more than one split, or a split for some only; sorted."""
    splits: dict[str, set[Split | None]] = {}
    for record in records:
        splits.setdefault(record.subject, set()).add(record.split)
    return sorted(subject for subject, stated in splits.items() if len(stated) > 1)


def _order(seed: int, subject: str) -> bytes:
    return hashlib.sha256(name_bytes(f"{seed}:{subject}")).digest()


def name_bytes(text: str) -> bytes:
    """Return a text with names of files in it as bytes; a name need not be UTF-8."""
    return text.encode(errors="backslashreplace")


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
        single: Subjects with one readable genuine image without a duplicate: no mated pair.
        leaking_subjects: Subjects in more than one split.
        leaking_images: Groups of duplicates that are in more than one split.
        left_out: (reason, count) of what a folder holds besides images.
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
    left_out: tuple[tuple[str, int], ...] = ()

    @property
    def problems(self) -> list[str]:
        """Return what must be corrected, a sentence each; empty when the data can be trained on."""
        found = (
            (self.unreadable, "file(s) cannot be read"),
            (self.conflicting, "group(s) of equal images carry different subjects or labels"),
            (self.leaking_subjects, "subject(s) are in more than one split"),
            (self.leaking_images, "group(s) of equal images are in more than one split"),
        )
        return [f"{len(items)} {sentence}" for items, sentence in found if items]


def check_records(
    records: Sequence[Record],
    *,
    places: dict[str, Split] | None = None,
    workers: int = 2,
    left_out: Mapping[str, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """Decode every image and compare all of them.

    Two images are equal when their decoded pixels are: a copy saved again without loss is found,
    one saved again as JPEG is not.
    """
    unreadable: list[tuple[Path, str]] = []
    groups: dict[str, list[Record]] = {}
    read = in_threads(_digest, records, workers=workers, progress=progress)
    for record, (digest, reason) in read:
        if digest is None:
            unreadable.append((record.path, reason))
        else:
            groups.setdefault(digest, []).append(record)
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
        left_out=tuple(sorted((left_out or {}).items())),
    )


def _place(record: Record, places: dict[str, Split] | None) -> Split | None:
    return record.split or (places or {}).get(record.subject)


def _paths(groups: Iterable[Sequence[Record]]) -> tuple[tuple[Path, ...], ...]:
    return tuple(tuple(record.path for record in group) for group in groups)


def pixel_digest(pixels: Image) -> str:
    """Return what names an image by its pixels: a SHA-256 of their shape and values."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _digest(record: Record) -> tuple[str | None, str]:
    try:
        return pixel_digest(load_image(record.path)), ""
    except ImageError as error:
        return None, str(error)


def read_triplets(path: Path, records: Sequence[Record]) -> list[list[int]]:
    """Read triplets as rows of the training records.

    Triplets with an image that is not trained on (of a held-out subject, or without a crop) are
    left out.
    """
    rows = {record.path.resolve(): row for row, record in enumerate(records)}
    triplets = []
    with as_data_error():
        table = read_table(path)
        if not set(_COLUMNS) <= set(table.columns):
            raise DataError(f"{shortened(path)}: its columns must be {','.join(_COLUMNS)}")
        for line in table.rows:
            places = [rows.get((path.parent / line.cells[name]).resolve()) for name in _COLUMNS]
            triplet = [place for place in places if place is not None]
            if len(triplet) == 3:
                _require_sense(
                    [records[row] for row in triplet], f"{shortened(path)}, line {line.line}"
                )
                triplets.append(triplet)
    if not triplets:
        raise DataError(f"{shortened(path)}: no triplet names three images that are trained on")
    return triplets


def _require_sense(triplet: Sequence[Record], where: str) -> None:
    anchor, positive, negative = triplet
    if anchor.is_forgery or positive.is_forgery:
        raise DataError(f"{where}: a forgery is a negative, never an anchor or a positive")
    if anchor.subject != positive.subject or anchor.path == positive.path:
        raise DataError(f"{where}: anchor and positive are not two images of one subject")
    if anchor.subject == negative.subject and not negative.is_forgery:
        raise DataError(f"{where}: anchor and negative are of one subject")
