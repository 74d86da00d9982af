"""From images to embeddings, one image at a time; what gave none is kept, with the reason."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import AcquisitionError, ImageError
from verifykit.evaluation.embedding_cache import EmbeddingCache, EmbeddingOrReason
from verifykit.evaluation.model_embedder import ModelEmbedder
from verifykit.evaluation.records import EvaluationImage, FaceChoice
from verifykit.evaluation.results import Failure
from verifykit.image import MAX_BYTES
from verifykit.spec import OperatingPoint

__all__ = [
    "Embedded",
    "Embedder",
    "FaceChoice",
    "ModelEmbedder",
    "embed_images",
    "failures",
]

MISSING, UNREADABLE = "missing", "unreadable"
_SAVED_IMAGES, _SAVED_S = 100, 1.0
_EXAMPLES = 5


class Embedder(Protocol):
    """What turns an image into one embedding.

    Attributes:
        model: The model as it was asked for: a registered name or a path.
        name: Its own name.
        digest: Digest of weights, input and crop.
        modality: What it compares.
        licence: SPDX identifier.
        fusion: How scores against several references become one.
        cache_key: Changes with everything that an embedding depends on besides the image.
        operating_points: Its own thresholds for cosines; may be empty.
    """

    model: str
    name: str
    digest: str
    modality: str
    licence: str
    fusion: str
    cache_key: str
    operating_points: Sequence[OperatingPoint]

    def embed(self, image: bytes, /) -> NDArray[np.float32]:
        """The embedding of the one sample in an image.

        Args:
            image: Bytes of an image file.

        Returns:
            (D,) float32 of unit length.

        Raises:
            ImageError: It cannot be read.
            AcquisitionError: It has no usable sample.
        """


@dataclass(frozen=True, eq=False)
class Embedded:
    """What images gave.

    Attributes:
        rows: (A, D) float32 unit rows of the A images with an embedding, in their order; (0, 0) when no
            image has one.
        row_of: (N,) int64, the row of each image, -1 for an image without.
        reasons: Index of each image without an embedding to the reason.
        file_digests: (N,) SHA-256 of each image's file in hexadecimal; ``"missing"`` or
            ``"unreadable"`` where there is nothing to digest.
    """

    rows: NDArray[np.float32]
    row_of: NDArray[np.int64]
    reasons: Mapping[int, str]
    file_digests: tuple[str, ...]


def embed_images(
    embedder: Embedder,
    images: Sequence[EvaluationImage],
    *,
    cache: EmbeddingCache | None,
    on_image: Callable[[int, int], None] | None = None,
) -> Embedded:
    """Embed images; each file is read once, and what is embedded is what was digested.

    Whatever ends the run, what it has computed is in the cache; a kill that cannot be handled costs at
    most the last second or the last 100 images.

    Args:
        embedder: What turns an image into an embedding.
        images: The images.
        cache: What is known of files from earlier runs; None computes everything.
        on_image: Called with the number of images that are done and of all, also before the first.

    Returns:
        Embeddings and reasons. A reason is ``"missing"`` for a file that is not there, ``"unreadable"``
        for one that cannot be read as an image, else that of the :class:`AcquisitionError`.

    Raises:
        InputError: The cache cannot be used.
        ModelContractError: The network returned a row that is zero or not finite.
        ProviderError: The provider failed.
    """
    digests: list[str] = []
    row_of = np.full(len(images), -1, dtype=np.int64)
    rows: list[NDArray[np.float32]] = []
    reasons: dict[int, str] = {}
    if on_image:
        on_image(0, len(images))
    with _Memory(embedder, cache) as memory:
        for number, image in enumerate(images):
            data = _read(image.path)
            digests.append(data if isinstance(data, str) else hashlib.sha256(data).hexdigest())
            outcome = data if isinstance(data, str) else memory.outcome(data, digests[-1])
            if isinstance(outcome, str):
                reasons[number] = outcome
            else:
                row_of[number] = len(rows)
                rows.append(outcome)
            if on_image:
                on_image(number + 1, len(images))
    stacked = np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)
    return Embedded(stacked, row_of, reasons, tuple(digests))


def failures(images: Sequence[EvaluationImage], embedded: Embedded) -> tuple[Failure, ...]:
    """Images without an embedding, by reason.

    Args:
        images: The images.
        embedded: What they gave.

    Returns:
        The most frequent reason first, then by name; each with up to five examples.
    """
    names: dict[str, list[str]] = {}
    for number, reason in sorted(embedded.reasons.items()):
        names.setdefault(reason, []).append(images[number].name)
    found = (Failure(reason, len(each), tuple(each[:_EXAMPLES])) for reason, each in names.items())
    return tuple(sorted(found, key=lambda failure: (-failure.count, failure.reason)))


class _Memory:
    """What is known of files: from the cache, and from this run, of which nothing is lost."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache | None) -> None:
        self._embedder, self._cache = embedder, cache
        self._known: dict[str, EmbeddingOrReason] = {}
        self._unsaved: dict[str, EmbeddingOrReason] = {}
        self._saved_at = time.monotonic()

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()

    def outcome(self, data: bytes, digest: str) -> EmbeddingOrReason:
        key = self._embedder.cache_key
        if digest not in self._known:
            stored = self._cache.get(key, [digest]) if self._cache is not None else {}
            self._known[digest] = (
                stored[digest] if digest in stored else self._compute(data, digest)
            )
        waited = time.monotonic() - self._saved_at >= _SAVED_S
        if waited or len(self._unsaved) >= _SAVED_IMAGES:
            self._save()
        return self._known[digest]

    def _compute(self, data: bytes, digest: str) -> EmbeddingOrReason:
        outcome: EmbeddingOrReason
        try:
            outcome = self._embedder.embed(data)
        except AcquisitionError as error:
            outcome = error.reason
        except ImageError:
            outcome = UNREADABLE
        self._unsaved[digest] = outcome
        return outcome

    def _save(self) -> None:
        if self._cache is not None and self._unsaved:
            self._cache.put(self._embedder.cache_key, self._unsaved)
        self._unsaved = {}
        self._saved_at = time.monotonic()


def _read(path: Path) -> bytes | str:
    """A file's bytes, or why there are none."""
    try:
        status = path.stat()
        # A pipe would never end, and load_image refuses such sizes too.
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return UNREADABLE
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError:
        return UNREADABLE
