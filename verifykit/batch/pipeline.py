"""Decode, embed and search at once, with the same rows whatever the number of workers.

Images are worked on in blocks of a fixed number, in the order of the source, and the batches of a block
are made of its own faces in order. What a network computes for a face may depend, in its last bit, on
the faces beside it; here these depend on nothing but the source, neither on threads nor on where a run
was interrupted.

One thread, the caller's, moves blocks from stage to stage; it submits no further block before the oldest
was taken from it. So a slow disk holds up the decoding, and no queue grows.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from verifykit.batch.rows import Question, Refusal, Row, answer_row, refusal_row
from verifykit.batch.sources import SourceImage
from verifykit.encoder import BATCH_SIZES, Encoder
from verifykit.errors import AcquisitionError, ImageError, ModelContractError, VerifyKitError
from verifykit.gallery import Gallery
from verifykit.types import Candidate, Image, Sample
from verifykit.verifier import Verifier

__all__ = ["Answered", "Engine", "LocalEngine", "answer_block", "block_size", "gallery_state"]

_AHEAD = 2  # blocks that are being decoded while one is embedded and one is searched for
_LEAST_BLOCK = 16
# A large gallery is read from memory once a search, whatever the number of probes (benchmarks.batch). What
# is found does not depend on how many are searched for together.
_LARGE_GALLERY = 50_000
_TOGETHER = 8

_Acquired = list[Sample] | Refusal
_Embedded = NDArray[np.float32] | Refusal
_T = TypeVar("_T")


@dataclass(frozen=True)
class Answered:
    """The answers of a block, or of several that follow on one another.

    Attributes:
        rows: One an image, in order.
        gallery: The gallery's state after they were searched for.
    """

    rows: list[Row]
    gallery: dict[str, Any]


class Engine(Protocol):
    """What turns blocks of images into blocks of rows, in order.

    Attributes:
        seconds: Time in each stage, summed over workers.
    """

    seconds: dict[str, float]

    def answers(
        self, question: Question, blocks: Iterable[Sequence[SourceImage]]
    ) -> Generator[Answered, None, None]:
        """The answers, a block at a time, in order; closed early, it ends what it began.

        Args:
            question: What is asked.
            blocks: Images, read only as fast as answers are taken.

        Raises:
            VerifyKitError: What stops a run; a bad image does not.
        """


def block_size(encoder: Encoder) -> int:
    """How many images are worked on as a whole: several batches, so that most are full.

    Args:
        encoder: The model, on its provider.
    """
    return max(_LEAST_BLOCK, BATCH_SIZES[encoder.provider])


def gallery_state(gallery: Gallery) -> dict[str, Any]:
    """What tells this gallery from another, and changes when it is written to.

    A gallery in a file or on a server counts its changes. Of one in memory nothing but the number of
    subjects is known, so that one template in the place of another goes unnoticed.

    Args:
        gallery: The gallery.

    Raises:
        GalleryError: It cannot be read.
    """
    if not hasattr(gallery, "info"):
        return {"subject_count": len(gallery)}
    told = gallery.info()
    known = ("created", "revision", "subject_count", "template_count")
    return {name: told[name] for name in known if name in told}


@dataclass
class LocalEngine:
    """Threads of this process.

    Attributes:
        verifier: The model and the gallery.
        workers: Threads that decode, detect and embed.
        seconds: Time in each stage, summed over workers.
    """

    verifier: Verifier
    workers: int
    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answers(
        self, question: Question, blocks: Iterable[Sequence[SourceImage]]
    ) -> Generator[Answered, None, None]:
        """See :meth:`Engine.answers`."""
        decoding: deque[_Block] = deque()
        embedding: deque[_Block] = deque()
        searching: deque[Future[Answered]] = deque()
        pool = ThreadPoolExecutor(self.workers, "verifykit-batch")
        searcher = ThreadPoolExecutor(1, "verifykit-search")
        waiting, ahead = iter(blocks), _AHEAD + self.workers // block_size(self.verifier.encoder)
        together = _TOGETHER if question.gallery_size >= _LARGE_GALLERY else 1
        limits = _one_blas_thread()
        try:
            while True:
                for block in islice(waiting, ahead + 1 - len(decoding)):
                    decoding.append(self._decode(pool, question, block))
                if not (decoding or embedding or searching):
                    return
                if decoding:
                    embedding.append(self._embed(pool, decoding.popleft()))
                if embedding and (len(embedding) > together or not decoding):
                    ready = [embedding.popleft() for _ in range(min(together, len(embedding)))]
                    searching.append(searcher.submit(self._search, question, ready))
                if searching and (len(searching) > 1 or not embedding):
                    yield searching.popleft().result()
        finally:
            for stage in (pool, searcher):
                stage.shutdown(wait=True, cancel_futures=True)
            limits.restore_original_limits()

    def _decode(
        self, pool: ThreadPoolExecutor, question: Question, images: Sequence[SourceImage]
    ) -> _Block:
        acquired = [
            pool.submit(self._timed, "decode and detect", _acquire, self.verifier, image, question)
            for image in images
        ]
        # Not the images: a video's frame is given back as soon as its faces are cut.
        return _Block([image.name for image in images], acquired)

    def _embed(self, pool: ThreadPoolExecutor, block: _Block) -> _Block:
        encoder = self.verifier.encoder
        block.acquired = [future.result() for future in block.decoding]
        block.embedding = [
            pool.submit(self._timed, "embed", _embed, encoder, batch)
            for batch in _batches(encoder, block.acquired)
        ]
        return block

    def _search(self, question: Question, blocks: Sequence[_Block]) -> Answered:
        names = [name for block in blocks for name in block.names]
        acquired = [samples for block in blocks for samples in block.acquired]
        batches = (future.result() for block in blocks for future in block.embedding)
        embedded = [row for batch in batches for row in batch]
        return self._timed("search", _answers, self.verifier, question, names, acquired, embedded)

    def _timed(self, stage: str, work: Callable[..., _T], *arguments: object) -> _T:
        start = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            with self._lock:
                taken = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + taken


@dataclass
class _Block:
    names: list[str]
    decoding: list[Future[_Acquired]]
    acquired: list[_Acquired] = field(default_factory=list)
    embedding: list[Future[list[_Embedded]]] = field(default_factory=list)


def answer_block(verifier: Verifier, question: Question, images: Sequence[SourceImage]) -> Answered:
    """One block's answers, one step after the other in the thread of the caller.

    Args:
        verifier: The model and the gallery.
        question: What is asked.
        images: The block.

    Raises:
        GalleryError: The gallery cannot be read.
        ProviderError: The provider failed.
    """
    with _one_blas_thread():
        acquired = [_acquire(verifier, image, question) for image in images]
        batches = _batches(verifier.encoder, acquired)
        embedded = [row for batch in batches for row in _embed(verifier.encoder, batch)]
        return _answers(verifier, question, [image.name for image in images], acquired, embedded)


def _one_blas_thread() -> threadpool_limits:
    """Keep BLAS to the thread that calls it, for as long as the workers have use for every core.

    Its own threads spin for a while after each product: beside small galleries they took a fifth of
    the processor (benchmarks.batch).
    """
    return threadpool_limits(1, user_api="blas")


def _acquire(verifier: Verifier, image: SourceImage, question: Question) -> _Acquired:
    try:
        return verifier.encoder.acquisition.samples(
            image.image, multi_face=question.multi_face, quality=question.quality
        )
    except AcquisitionError as error:
        return Refusal(error.reason, str(error))
    except ImageError as error:
        return Refusal("unreadable", str(error))
    except (VerifyKitError, MemoryError):  # not the image's fault
        raise
    except Exception as error:  # noqa: BLE001 - one bad image never stops a run
        return Refusal("failed", f"{type(error).__name__}: {error}")


def _batches(encoder: Encoder, acquired: Sequence[_Acquired]) -> list[list[Image]]:
    crops = [s.crop for samples in acquired if isinstance(samples, list) for s in samples]
    size = BATCH_SIZES[encoder.provider]
    return [crops[start : start + size] for start in range(0, len(crops), size)]


def _embed(encoder: Encoder, crops: Sequence[Image]) -> list[_Embedded]:
    try:
        return list(encoder.encode(crops))
    except ModelContractError as error:
        if len(crops) == 1:
            return [Refusal("no_embedding", str(error))]
        return [row for crop in crops for row in _embed(encoder, [crop])]


def _answers(
    verifier: Verifier,
    question: Question,
    names: Sequence[str],
    acquired: Sequence[_Acquired],
    embedded: Sequence[_Embedded],
) -> Answered:
    probes = [row for row in embedded if not isinstance(row, Refusal)]
    found: Iterator[list[Candidate]] = iter(())
    if probes:
        threshold = question.criterion.threshold
        found = iter(
            verifier.gallery.search(np.stack(probes), limit=question.limit, threshold=threshold)
        )
    each = iter(embedded)
    rows = []
    for name, samples in zip(names, acquired, strict=True):
        if isinstance(samples, Refusal):
            rows.append(refusal_row(name, samples, question))
            continue
        mine = [next(each) for _ in samples]
        answers = [[] if isinstance(row, Refusal) else next(found) for row in mine]
        refused = next((row for row in mine if isinstance(row, Refusal)), None)
        rows.append(
            refusal_row(name, refused, question)
            if refused
            else answer_row(name, samples, answers, question)
        )
    return Answered(rows, gallery_state(verifier.gallery))
