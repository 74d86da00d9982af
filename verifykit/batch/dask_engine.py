"""Run a batch on the workers of a Dask cluster.

A task is a block of images and gives its rows: the same rows wherever and however often it runs. The blocks
of a lost worker are done again by another; only the calling process writes, in order. Every worker opens
its own model and gallery once, from the paths that it was given: they lead to the same files on every
machine, and so do the images' paths.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from verifykit.batch.run import Answered, answer_block
from verifykit.batch.sources import SourceImage
from verifykit.batch.tables import Question
from verifykit.datasets import optional_library
from verifykit.decision import DecisionRule
from verifykit.errors import GalleryError, InputError, ProviderError, shown
from verifykit.gallery import open_gallery
from verifykit.gallery.open import gallery_path
from verifykit.models import calibration_digest
from verifykit.session import Provider
from verifykit.verifier import Verifier, open_encoder

_AHEAD = 3  # blocks a worker's thread has been given: one to work on, the next, and one to spare
_RETRIES = 3

_lock = threading.Lock()
_open: dict[tuple[str, ...], Verifier] = {}
"""The verifiers of this worker, by what they were opened from."""


@dataclass
class DaskEngine:
    """Workers of a Dask cluster.

    Attributes:
        scheduler: Its address, ``tcp://host:8786``.
        model: The model's registered name or path, as the workers are to open it.
        gallery: The gallery's file or URL, as the workers open it; a password in it goes over the network.
        calibration: The calibration's file, as the workers open it; None for the model's own.
        providers: Where the workers' networks run.
        threads: Threads within one network run.
        key: Of an encrypted gallery, as the workers are to read it: ``"env:NAME"``, or the path of a file
            that each of them has. The key itself does not go over the network.
        max_pixels: Height x width beyond which an image is refused; None is that of the library.
        wait_s: How long to wait for the scheduler, and for a first worker.
        seconds: Time in each stage, summed over workers.
    """

    scheduler: str
    model: str
    gallery: str
    calibration: str | None = None
    providers: Provider = "auto"
    threads: int = 1
    key: str | None = None
    max_pixels: int | None = None
    wait_s: float = 30.0
    seconds: dict[str, float] = field(default_factory=dict)

    def answers(
        self, question: Question, blocks: Iterable[Sequence[SourceImage]]
    ) -> Generator[Answered, None, None]:
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
            yield from self._gathered(dask, client, question, iter(blocks))

    def _gathered(
        self, dask: Any, client: Any, question: Question, blocks: Iterator[Sequence[SourceImage]]
    ) -> Iterator[Answered]:
        try:
            client.wait_for_workers(1, timeout=self.wait_s)
        except TimeoutError as error:
            raise ProviderError(
                f"the Dask scheduler at {shown(self.scheduler)} has no workers: start some with `dask worker "
                f"{self.scheduler}`"
            ) from error
        run, number = uuid.uuid4().hex, 0
        opening, plain = self._opening(), asdict(question)
        waiting: deque[Any] = deque()
        while True:
            # Looked up each time, since workers come and go.
            room = _AHEAD * max(1, sum(client.nthreads().values()))
            while len(waiting) < room and (block := next(blocks, None)):
                waiting.append(
                    client.submit(
                        answer_on_worker,
                        opening,
                        plain,
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
                rows, gallery, taken = waiting.popleft().result()
            except dask.KilledWorker as error:
                raise ProviderError(
                    f"the same block was lost with several Dask workers: {error}; look at their logs, "
                    "most often memory ran out"
                ) from error
            self.seconds["workers"] = self.seconds.get("workers", 0.0) + taken
            yield Answered(rows, gallery)

    def _opening(self) -> dict[str, Any]:
        return {
            "model": _absolute(self.model),
            "gallery": str(path.resolve())
            if (path := gallery_path(self.gallery))
            else self.gallery,
            "calibration": self.calibration and str(Path(self.calibration).resolve()),
            "providers": self.providers,
            "threads": self.threads,
            "max_pixels": self.max_pixels,
            "key": _absolute_key(self.key),
        }


def answer_on_worker(
    opening: dict[str, Any], plain: dict[str, Any], images: Sequence[tuple[str, str]]
) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    """Answer a block on a worker; return rows, the gallery's state after the search, and seconds."""
    start = time.perf_counter()
    question = Question(**{**plain, "rule": DecisionRule(**plain["rule"])})
    verifier = _verifier(opening)
    spec = verifier.spec
    if (spec.digest, calibration_digest(spec)) != (question.model, question.calibration):
        raise GalleryError(
            f"model {shown(opening['model'])} on this worker is not the one that the run was begun with: "
            "bring the same model and calibration to every machine"
        )
    block = [SourceImage(name, path) for name, path in images]
    answered = answer_block(verifier, question, block)
    return answered.rows, answered.gallery, time.perf_counter() - start


def _verifier(opening: dict[str, Any]) -> Verifier:
    with _lock:
        key = tuple(str(value) for value in opening.values())
        if key not in _open:
            encoder = open_encoder(
                opening["model"],
                opening["calibration"],
                providers=opening["providers"],
                threads=opening["threads"],
                max_pixels=opening["max_pixels"],
            )
            gallery = open_gallery(
                opening["gallery"], encoder.spec, key=opening["key"], create=False, read_only=True
            )
            _open[key] = Verifier(encoder, gallery)
        return _open[key]


def _named(image: SourceImage) -> tuple[str, str]:
    if not isinstance(image.image, str):
        raise InputError(
            f"{shown(image.name)} has no path that a Dask worker could read: a video is worked on by one "
            "machine, with the engine 'local'"
        )
    return image.name, str(Path(image.image).resolve())


def _absolute_key(key: str | None) -> str | None:
    return key if key is None or key.startswith("env:") else str(Path(key).resolve())


def _absolute(model: str) -> str:
    # A registered name is not a path; a worker may run in another folder.
    return str(Path(model).resolve()) if Path(model).is_file() else model
