"""Signatures of a folder with a ``manifest.csv``: which there are, and their embeddings."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, ImageError
from verifykit.image import load_image
from verifykit.types import Embeddings, Image
from verifykit_training.dataset import read_records
from verifykit_training.errors import DataError

__all__ = [
    "Embedded",
    "Signatures",
    "each_image",
    "embed",
    "read_signatures",
    "read_writers",
    "writer_generator",
]

Answer = TypeVar("Answer")

_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Signatures:
    """Images, and whose they are.

    Attributes:
        paths: N image files.
        subjects: (N,) whose each is; of a forgery, whom it imitates.
        forged: (N,) which are imitations.
        sets: (N,) the set that each belongs to.
    """

    paths: tuple[Path, ...]
    subjects: NDArray[np.str_]
    forged: NDArray[np.bool_]
    sets: NDArray[np.str_]

    def set_names(self) -> list[str]:
        """Every set, in order of name."""
        return sorted(set(self.sets.tolist()))

    def writers(self, set_name: str) -> list[str]:
        """The writers of a set, in order of name."""
        return sorted(set(self.subjects[self.sets == set_name].tolist()))


@dataclass(frozen=True, eq=False)
class Embedded:
    """What became of N images.

    Attributes:
        rows: (N, D) float32 unit rows; NaN where an image was refused.
        usable: (N,) which were not.
        refused: (N,) why not; empty for the others.
    """

    rows: Embeddings
    usable: NDArray[np.bool_]
    refused: NDArray[np.str_]

    def reasons(self) -> Counter[str]:
        """How often each reason applies."""
        return Counter(reason for reason in self.refused.tolist() if reason)


def read_signatures(
    data: Path,
    *,
    writers: Collection[str] | None = None,
    sets: Collection[str] | None = None,
    limit: int | None = None,
) -> Signatures:
    """Read ``manifest.csv``: ``path,subject,label``.

    What stands before the first slash of a subject's name is its set; without one it is the folder's name.

    Args:
        data: The folder that holds the manifest.
        writers: Subjects to keep; None is all.
        sets: Sets to keep; None is all.
        limit: Keep at most so many writers of each set, drawn with a fixed seed.

    Raises:
        DataError: There is no such manifest, it is of another form, a set has another name, or nothing
            is left.
    """
    records = read_records(data / "manifest.csv")
    folder = data.resolve().name
    owner = {r.subject: r.subject.split("/")[0] if "/" in r.subject else folder for r in records}
    if unknown := set(sets or ()) - set(owner.values()):
        raise DataError(
            f"no set {', '.join(sorted(unknown))}: {data} has {', '.join(sorted(set(owner.values())))}"
        )
    kept = [
        name
        for name in sorted(owner)
        if (writers is None or name in writers) and (sets is None or owner[name] in sets)
    ]
    if limit is not None:
        kept = [
            name
            for set_name in sorted({owner[name] for name in kept})
            for name in _drawn([n for n in kept if owner[n] == set_name], limit)
        ]
    names = set(kept)
    chosen = [record for record in records if record.subject in names]
    if not chosen:
        raise DataError(f"{data}: no writer is left; check --writers and --sets")
    return Signatures(
        tuple(record.path for record in chosen),
        np.array([record.subject for record in chosen]),
        np.array([record.is_forgery for record in chosen]),
        np.array([owner[record.subject] for record in chosen]),
    )


def read_writers(path: Path) -> frozenset[str]:
    """The subjects that a file names.

    Args:
        path: A run's folder or its ``subjects.json``, of which validation and test are taken; a JSON list;
            or a text file with one name a line.

    Raises:
        DataError: It cannot be read, or names nobody.
    """
    file = path / "subjects.json" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8-sig")
        body = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"--writers: {file} cannot be read: {error}") from error
    if isinstance(body, dict):
        body = [*body.get("validation", ()), *body.get("test", ())]
    names = frozenset(str(name).strip() for name in body) - {""}
    if not names:
        raise DataError(f"--writers: {file} names no writer")
    return names


def writer_generator(seed: int, writer: str, *parts: int) -> np.random.Generator:
    """A generator of one writer's own, so that another writer more or less changes nothing for it."""
    return np.random.default_rng([seed, zlib.crc32(writer.encode()), *parts])


def each_image(
    signatures: Signatures,
    work: Callable[[Image], Answer],
    *,
    chosen: NDArray[np.bool_] | None = None,
    workers: int = 2,
    description: str = "reading",
) -> Iterator[list[tuple[int, Answer | str]]]:
    """Do something with every image, in threads, a chunk at a time, under a progress bar.

    Args:
        signatures: N images.
        work: From (H, W, 3) uint8 RGB to an answer.
        chosen: (N,) which images; None is all.
        workers: Threads.
        description: Of the bar.

    Yields:
        Numbers of images, each with its answer or with the reason for which it was refused.
    """
    numbers = np.arange(len(signatures.paths)) if chosen is None else np.flatnonzero(chosen)

    def one(number: int) -> tuple[int, Answer | str]:
        try:
            return number, work(load_image(signatures.paths[number]))
        except AcquisitionError as error:
            return number, error.reason
        except ImageError:
            return number, "unreadable"

    starts = range(0, len(numbers), _CHUNK)
    with ThreadPoolExecutor(workers) as pool:
        for start in track(starts, description=description, transient=True):
            yield list(pool.map(one, numbers[start : start + _CHUNK].tolist()))


def embed(
    encoder: Encoder,
    signatures: Signatures,
    *,
    change: Callable[[Image], Image] | None = None,
    chosen: NDArray[np.bool_] | None = None,
    workers: int = 2,
    description: str = "embedding",
) -> Embedded:
    """Embed images as the runtime does, its refusals included.

    Args:
        encoder: A signature model.
        signatures: N images.
        change: What is done to an image first; None is nothing.
        chosen: (N,) which images; None is all. The others count as neither usable nor refused.
        workers: Threads that read and crop.
        description: Of the progress bar.
    """
    count = len(signatures.paths)
    rows = np.full((count, encoder.spec.embedding_size), np.nan, np.float32)
    refused = [""] * count

    def cropped(image: Image) -> Image:
        return encoder.extractor.samples(image if change is None else change(image))[0].crop

    for answers in each_image(
        signatures, cropped, chosen=chosen, workers=workers, description=description
    ):
        crops: list[Image] = []
        numbers: list[int] = []
        for number, answer in answers:
            if isinstance(answer, str):
                refused[number] = answer
            else:
                numbers.append(number)
                crops.append(answer)
        if crops:
            rows[numbers] = encoder.encode(crops)
    return Embedded(rows, ~np.isnan(rows[:, 0]), np.array(refused))


def _drawn(names: Sequence[str], limit: int) -> list[str]:
    order = np.random.default_rng(0).permutation(len(names))
    return sorted(names[i] for i in order[:limit])
