"""Turn blocks of images into blocks of rows: decode, embed, search.

Images are worked on in blocks of a fixed number, in the order of the source, and the batches of a block
are made of its own faces in order. What a network computes for a face may depend, in its last bit, on
the faces next to it; here these depend on nothing but the source, neither on threads nor on where a run
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
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from verifykit.batch.sources import SourceImage
from verifykit.batch.tables import Question, Refusal, Row, answer_row, refusal_row
from verifykit.encoder import BATCH_SIZES, Encoder
from verifykit.errors import AcquisitionError, ImageError, ModelContractError, VerifyKitError
from verifykit.extraction import SampleOptions
from verifykit.gallery import GallerySnapshot
from verifykit.types import Candidate, Image, Sample

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
class EmbeddedBlock:
    """Images whose faces are to be searched for.

    Attributes:
        names: Of the images, in order.
        acquired: The samples of each, or why there are none.
        embedded: The embedding of each sample, in order.
    """

    names: list[str]
    acquired: list[_Acquired]
    embedded: list[_Embedded]


class Engine(Protocol):
    """What turns blocks of images into blocks of rows, in order.

    Attributes:
        seconds: Time in each stage, summed over workers.
    """

    seconds: dict[str, float]

    def answers(
        self,
        question: Question,
        gallery: GallerySnapshot,
        blocks: Iterable[Sequence[SourceImage]],
    ) -> Generator[list[Row], None, None]:
        """Yield a row an image, some at a time, in order; closed early, end what was begun.

        Args:
            question: The options of the run.
            gallery: What is searched: the gallery as it was when the run began.
            blocks: Images, read only as fast as answers are taken.

        Raises:
            VerifyKitError: What stops a run; a bad image does not.
        """


@dataclass
class LocalEngine:
    """Threads of this process.

    Attributes:
        encoder: The model.
        workers: Threads that decode, detect and embed.
        seconds: Time in each stage, summed over workers.
    """

    encoder: Encoder
    workers: int
    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answers(
        self,
        question: Question,
        gallery: GallerySnapshot,
        blocks: Iterable[Sequence[SourceImage]],
    ) -> Generator[list[Row], None, None]:
        """See :meth:`Engine.answers`."""
        decoding: deque[_Block] = deque()
        embedding: deque[_Block] = deque()
        searching: deque[Future[list[Row]]] = deque()
        pool = ThreadPoolExecutor(self.workers, "verifykit-batch")
        searcher = ThreadPoolExecutor(1, "verifykit-search")
        waiting, ahead = iter(blocks), _AHEAD + self.workers // block_size(self.encoder)
        together = _TOGETHER if question.gallery_size >= _LARGE_GALLERY else 1
        limits = _one_blas_thread()
        try:
            while True:
                for block in islice(waiting, ahead + 1 - len(decoding)):
                    decoding.append(self._decode(pool, question.sample, block))
                if not (decoding or embedding or searching):
                    return
                if decoding:
                    embedding.append(self._embed(pool, decoding.popleft()))
                if embedding and (len(embedding) > together or not decoding):
                    ready = [embedding.popleft() for _ in range(min(together, len(embedding)))]
                    searching.append(searcher.submit(self._search, question, gallery, ready))
                if searching and (len(searching) > 1 or not embedding):
                    yield searching.popleft().result()
        finally:
            for stage in (pool, searcher):
                stage.shutdown(wait=True, cancel_futures=True)
            limits.restore_original_limits()

    def _decode(
        self, pool: ThreadPoolExecutor, options: SampleOptions, images: Sequence[SourceImage]
    ) -> _Block:
        acquired = [
            pool.submit(self._timed, "decode and detect", _acquire, self.encoder, image, options)
            for image in images
        ]
        # Not the images: a video's frame is given back as soon as its faces are cut.
        return _Block([image.name for image in images], acquired)

    def _embed(self, pool: ThreadPoolExecutor, block: _Block) -> _Block:
        block.acquired = [future.result() for future in block.decoding]
        block.embedding = [
            pool.submit(self._timed, "embed", _embed, self.encoder, batch)
            for batch in _batches(self.encoder, block.acquired)
        ]
        return block

    def _search(
        self, question: Question, gallery: GallerySnapshot, blocks: Sequence[_Block]
    ) -> list[Row]:
        batches = (future.result() for block in blocks for future in block.embedding)
        together = EmbeddedBlock(
            [name for block in blocks for name in block.names],
            [samples for block in blocks for samples in block.acquired],
            [row for batch in batches for row in batch],
        )
        return self._timed("search", search_block, gallery, question, together)

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


def block_size(encoder: Encoder) -> int:
    """Return how many images are worked on as a whole: several batches, so that most are full."""
    return max(_LEAST_BLOCK, BATCH_SIZES[encoder.provider])


def embed_block(
    encoder: Encoder, options: SampleOptions, images: Sequence[SourceImage]
) -> EmbeddedBlock:
    """Embed one block, one step after the other in the thread of the caller."""
    with _one_blas_thread():
        acquired = [_acquire(encoder, image, options) for image in images]
        embedded = [row for batch in _batches(encoder, acquired) for row in _embed(encoder, batch)]
        return EmbeddedBlock([image.name for image in images], acquired, embedded)


def search_block(gallery: GallerySnapshot, question: Question, block: EmbeddedBlock) -> list[Row]:
    """Search for the faces of a block, and return the row of each image."""
    probes = [row for row in block.embedded if not isinstance(row, Refusal)]
    found: Iterator[list[Candidate]] = iter(())
    if probes:
        threshold = question.rule.threshold
        found = iter(gallery.search(np.stack(probes), question.limit, threshold))
    each = iter(block.embedded)
    rows = []
    for name, samples in zip(block.names, block.acquired, strict=True):
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
    return rows


def _one_blas_thread() -> threadpool_limits:
    """Keep BLAS to the thread that calls it, for as long as the workers have use for every core.

    Its own threads spin for a while after each product: with small galleries they took a fifth of
    the processor (benchmarks.batch).
    """
    return threadpool_limits(1, user_api="blas")


def _acquire(encoder: Encoder, image: SourceImage, options: SampleOptions) -> _Acquired:
    if image.problem:
        return Refusal("unreadable", image.problem)
    try:
        return encoder.extractor.samples(image.image, options)
    except (AcquisitionError, ImageError) as error:
        return Refusal(error.reason, str(error), error.warnings)
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
