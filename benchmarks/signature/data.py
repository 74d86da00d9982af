"""Read the signatures of a folder with a ``manifest.csv``, and embed them."""

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

Result = TypeVar("Result")

_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Signatures:
    """Images with their subjects.

    Attributes:
        paths: N image files.
        subjects: (N,) the writer; for a forgery, the imitated writer.
        forged: (N,) True for skilled forgeries.
        sets: (N,) the data set of each image.
    """

    paths: tuple[Path, ...]
    subjects: NDArray[np.str_]
    forged: NDArray[np.bool_]
    sets: NDArray[np.str_]

    def set_names(self) -> list[str]:
        """Return the names of all sets, sorted."""
        return sorted(set(self.sets.tolist()))

    def writers(self, set_name: str) -> list[str]:
        """Return the writers of a set, sorted."""
        return sorted(set(self.subjects[self.sets == set_name].tolist()))


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of N images.

    Attributes:
        rows: (N, D) float32 unit rows; NaN where an image was refused.
        usable: (N,) True where there is an embedding.
        refused: (N,) the reason of a refusal, else empty.
    """

    rows: Embeddings
    usable: NDArray[np.bool_]
    refused: NDArray[np.str_]

    def reasons(self) -> Counter[str]:
        """Count the refusals by reason."""
        return Counter(reason for reason in self.refused.tolist() if reason)


def read_signatures(
    data: Path,
    *,
    writers: Collection[str] | None = None,
    sets: Collection[str] | None = None,
    limit: int | None = None,
) -> Signatures:
    """Read ``manifest.csv``: ``path,subject,label``.

    The part of a subject's name before the first slash is its set; without a slash it is the folder's name.

    Args:
        data: The folder of the manifest.
        writers: Subjects to keep; None keeps all.
        sets: Sets to keep; None keeps all.
        limit: Maximum number of writers of each set, drawn with a fixed seed.

    Raises:
        DataError: The manifest is missing or invalid, a set is unknown, or no writer is left.
    """
    records = read_records(data / "manifest.csv")
    folder = data.resolve().name
    set_of = {r.subject: r.subject.split("/")[0] if "/" in r.subject else folder for r in records}
    if unknown := set(sets or ()) - set(set_of.values()):
        known = ", ".join(sorted(set(set_of.values())))
        raise DataError(f"no set {', '.join(sorted(unknown))} in {data}: choose from {known}")
    kept = [
        name
        for name in sorted(set_of)
        if (writers is None or name in writers) and (sets is None or set_of[name] in sets)
    ]
    if limit is not None:
        kept = [
            name
            for set_name in sorted({set_of[name] for name in kept})
            for name in _draw([n for n in kept if set_of[n] == set_name], limit)
        ]
    names = set(kept)
    chosen = [record for record in records if record.subject in names]
    if not chosen:
        raise DataError(f"{data}: no writer is left; check --writers and --sets")
    return Signatures(
        tuple(record.path for record in chosen),
        np.array([record.subject for record in chosen]),
        np.array([record.is_forgery for record in chosen]),
        np.array([set_of[record.subject] for record in chosen]),
    )


def read_writers(path: Path) -> frozenset[str]:
    """Read subjects from a file.

    Args:
        path: The folder of a run or its ``subjects.json``, whose validation and test subjects are used; a
            JSON list; or a text file with a name in each line.

    Raises:
        DataError: The file cannot be read, or is empty.
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
        raise DataError(f"--writers: {file} contains no writer")
    return names


def writer_generator(seed: int, writer: str, *parts: int) -> np.random.Generator:
    """Return a random generator that depends on this writer only, not on the other writers."""
    return np.random.default_rng([seed, zlib.crc32(writer.encode()), *parts])


def each_image(
    signatures: Signatures,
    work: Callable[[Image], Result],
    *,
    chosen: NDArray[np.bool_] | None = None,
    workers: int = 2,
    description: str = "reading",
) -> Iterator[list[tuple[int, Result | str]]]:
    """Process every image in threads, in chunks, with a progress bar.

    Args:
        signatures: N images.
        work: Function of (H, W, 3) uint8 RGB.
        chosen: (N,) the images to process; None processes all.
        workers: Number of threads.
        description: Label of the progress bar.

    Yields:
        Chunks of (index of the image, its result or the reason of its refusal).
    """
    numbers = np.arange(len(signatures.paths)) if chosen is None else np.flatnonzero(chosen)

    def one(number: int) -> tuple[int, Result | str]:
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
    """Embed images as the runtime does, including its refusals.

    Args:
        encoder: A signature model.
        signatures: N images.
        change: Function applied to each image first; None leaves the images as they are.
        chosen: (N,) the images to embed; None embeds all. The others are neither usable nor refused.
        workers: Number of threads that read and crop.
        description: Label of the progress bar.
    """
    count = len(signatures.paths)
    rows = np.full((count, encoder.spec.embedding_size), np.nan, np.float32)
    refused = [""] * count

    def extract_crop(image: Image) -> Image:
        return encoder.extractor.samples(image if change is None else change(image))[0].crop

    for results in each_image(
        signatures, extract_crop, chosen=chosen, workers=workers, description=description
    ):
        crops: list[Image] = []
        numbers: list[int] = []
        for number, result in results:
            if isinstance(result, str):
                refused[number] = result
            else:
                numbers.append(number)
                crops.append(result)
        if crops:
            rows[numbers] = encoder.encode(crops)
    return Embedded(rows, ~np.isnan(rows[:, 0]), np.array(refused))


def _draw(names: Sequence[str], limit: int) -> list[str]:
    order = np.random.default_rng(0).permutation(len(names))
    return sorted(names[i] for i in order[:limit])
