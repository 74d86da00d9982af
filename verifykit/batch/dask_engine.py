"""Run a batch on the workers of a Dask cluster.

A task is a block of images and gives the embeddings of its faces: the same wherever and however often it
runs. The blocks of a lost worker are done again by another. The calling process alone searches and writes,
in order: so one state of the gallery answers for all blocks, and neither the gallery nor its key are needed
on a worker. Every worker opens its own model once; its path leads to the same file on every machine, and so
do the images' paths.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from verifykit.batch.engine import EmbeddedBlock, embed_block, search_block
from verifykit.batch.sources import SourceImage
from verifykit.batch.tables import Question, Row
from verifykit.datasets import optional_library
from verifykit.encoder import Encoder
from verifykit.errors import InputError, ModelContractError, ProviderError, shown
from verifykit.extraction import SampleOptions
from verifykit.gallery import GallerySnapshot
from verifykit.session import Precision, Provider
from verifykit.verifier import open_encoder

_AHEAD = 3  # blocks a worker's thread has been given: one to work on, the next, and one to spare
_RETRIES = 3
_NO_CROP = np.empty((0, 0, 3), np.uint8)

_Opening: TypeAlias = tuple[str, Provider, int, int | None, Precision]
"""What a worker opens its model with: model, providers, threads, max_pixels and precision."""

_lock = threading.Lock()
_open: dict[tuple[str, ...], Encoder] = {}
"""The models of this worker, by what they were opened from."""


@dataclass
class DaskEngine:
    """Workers of a Dask cluster.

    Attributes:
        scheduler: Its address, ``tcp://host:8786``.
        model: The model's registered name or path, as the workers are to open it.
        providers: Where the workers' networks run.
        threads: Threads within one network run.
        max_pixels: Height x width beyond which an image is refused; None is that of the library.
        precision: What the workers' encoders compute in.
        wait_s: How long to wait for the scheduler, and for a first worker.
        seconds: Time in each stage, summed over workers.
    """

    scheduler: str
    model: str
    providers: Provider = "auto"
    threads: int = 1
    max_pixels: int | None = None
    precision: Precision = "fp32"
    wait_s: float = 30.0
    seconds: dict[str, float] = field(default_factory=dict)

    def answers(
        self,
        question: Question,
        gallery: GallerySnapshot,
        blocks: Iterable[Sequence[SourceImage]],
    ) -> Generator[list[Row], None, None]:
        """See :meth:`Engine.answers`."""
        dask = optional_library("distributed", self.scheduler)
        try:
            client = dask.Client(self.scheduler, timeout=self.wait_s, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ProviderError(
                f"no Dask scheduler answers at {shown(self.scheduler)}: {error}; start one with "
                "`dask scheduler`, and workers with `dask worker`"
            ) from error
        with client:
            for block in self._gathered(dask, client, question, iter(blocks)):
                start = time.perf_counter()
                rows = search_block(gallery, question, block)
                self._spent("search", time.perf_counter() - start)
                yield rows

    def _gathered(
        self, dask: Any, client: Any, question: Question, blocks: Iterator[Sequence[SourceImage]]
    ) -> Iterator[EmbeddedBlock]:
        try:
            client.wait_for_workers(1, timeout=self.wait_s)
        except TimeoutError as error:
            raise ProviderError(
                f"the Dask scheduler at {shown(self.scheduler)} has no workers: start some with `dask worker "
                f"{self.scheduler}`"
            ) from error
        run, number = uuid.uuid4().hex, 0
        opening: _Opening = (
            _absolute(self.model),
            self.providers,
            self.threads,
            self.max_pixels,
            self.precision,
        )
        waiting: deque[Any] = deque()
        while True:
            # Looked up each time, since workers come and go.
            room = _AHEAD * max(1, sum(client.nthreads().values()))
            while len(waiting) < room and (block := next(blocks, None)):
                waiting.append(
                    client.submit(
                        embed_on_worker,
                        opening,
                        question.model,
                        asdict(question.sample),
                        [_named(image) for image in block],
                        key=f"verifykit-{run}-{number}",
                        retries=_RETRIES,
                        pure=False,
                    )
                )
                number += 1
            if not waiting:
                return
            try:
                block, taken = waiting.popleft().result()
            except dask.KilledWorker as error:
                raise ProviderError(
                    f"the same block was lost with several Dask workers: {error}; look at their logs, "
                    "most often memory ran out"
                ) from error
            self._spent("workers", taken)
            yield block

    def _spent(self, stage: str, taken: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + taken


def embed_on_worker(
    opening: _Opening,
    digest: str,
    options: dict[str, Any],
    images: Sequence[tuple[str, str]],
) -> tuple[EmbeddedBlock, float]:
    """Embed a block on a worker; return it without its crops, and the seconds that it took."""
    start = time.perf_counter()
    encoder = _encoder(opening)
    if encoder.spec.digest != digest:
        raise ModelContractError(
            f"model {shown(opening[0])} on this worker is not the one that the run was begun with: bring "
            "the same model to every machine"
        )
    block = embed_block(
        encoder, SampleOptions(**options), [SourceImage(name, path) for name, path in images]
    )
    for samples in block.acquired:
        if isinstance(samples, list):
            samples[:] = [replace(sample, crop=_NO_CROP) for sample in samples]
    return block, time.perf_counter() - start


def _encoder(opening: _Opening) -> Encoder:
    model, providers, threads, max_pixels, precision = opening
    with _lock:
        key = tuple(map(str, opening))
        if key not in _open:
            _open[key] = open_encoder(
                model,
                providers=providers,
                threads=threads,
                precision=precision,
                max_pixels=max_pixels,
            )
        return _open[key]


def _named(image: SourceImage) -> tuple[str, str]:
    if not isinstance(image.image, str):
        raise InputError(
            f"{shown(image.name)} has no path that a Dask worker could read: a video is worked on by one "
            "machine, with the engine 'local'"
        )
    return image.name, str(Path(image.image).resolve())


def _absolute(model: str) -> str:
    # A registered name is not a path; a worker may run in another folder.
    return str(Path(model).resolve()) if Path(model).is_file() else model
