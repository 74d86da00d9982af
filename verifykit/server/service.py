"""Everything that is open while the service runs, and how it is closed.

From settings to the verifiers that answer: models whose runs are shared, and their galleries.

A bounded number of threads does the library's work; the event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from verifykit.audit import AuditLog
from verifykit.decision import DecisionOptions
from verifykit.encoder import BATCH_SIZES, Encoder
from verifykit.errors import InputError
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.gallery import open_gallery
from verifykit.gallery.open import gallery_path
from verifykit.image import load_image
from verifykit.models import registered
from verifykit.server.auth import Gate, KeyStore
from verifykit.server.batching import Batcher
from verifykit.server.errors import ProblemError
from verifykit.server.idempotency import Idempotency
from verifykit.server.limits import FailureLimiter, RateLimiter
from verifykit.server.observability import Metrics
from verifykit.server.settings import ServerSettings
from verifykit.server.state import ServerState
from verifykit.types import Image, ImageLike, MultiFace, QualityGate, Sample
from verifykit.verifier import Verifier, open_encoder

SIGNATURE = "signature"
"""The registered model of the second gallery."""

_WAIT_S = 0.003


@dataclass(frozen=True)
class ServedModel:
    """A verifier under the name by which requests ask for it.

    Attributes:
        name: The registered name, or the one in the model file.
        verifier: The model, open, with its gallery.
        usual: What decides, unless a request says otherwise.
        multi_face: What to do with several faces, unless a request says otherwise.
        quality: Whether a quality reason refuses or warns, likewise.
    """

    name: str
    verifier: Verifier
    usual: DecisionOptions
    multi_face: MultiFace
    quality: QualityGate

    def close(self) -> None:
        """Close the gallery."""
        self.verifier.gallery.close()


class ServedExtractor(SampleExtractor):
    """Images to crops, with the service's limit of pixels; tells the batcher that crops are coming."""

    def __init__(self, extractor: SampleExtractor, batcher: Batcher, max_pixels: int) -> None:
        """Take over another's crop, detector and limits.

        Args:
            extractor: The model's own.
            batcher: Where its crops will go.
            max_pixels: Images of more are refused before they are decoded.
        """
        super().__init__(extractor.spec, extractor.detector, checks=extractor.checks)
        self._batcher, self._max_pixels = batcher, max_pixels

    def load(self, image: ImageLike) -> Image:
        """See :meth:`SampleExtractor.load`."""
        return load_image(image, max_pixels=self._max_pixels)

    def samples(self, image: ImageLike, options: SampleOptions | None = None) -> list[Sample]:
        """See :meth:`SampleExtractor.samples`."""
        with self._batcher.coming():
            return super().samples(image, options)


def open_models(
    settings: ServerSettings, on_batch: Callable[[int], None]
) -> Mapping[str, ServedModel]:
    """Open the models and galleries of the settings, the default first.

    Args:
        settings: What the operator decided.
        on_batch: Told the number of crops of each run of a network.

    Raises:
        ModelError: A model is not found, damaged, or not what it says it is.
        ProviderError: The provider is not there.
        GalleryError: A gallery cannot be made or opened, or is to keep crops and is not encrypted.
        TemplateMismatchError: A gallery was made with another model.
        CalibrationError: The calibration is of another model, or none goes down to this ``fmr``.
        InputError: An option is not allowed.
    """
    with contextlib.ExitStack() as undo:
        encoder = _encoder(settings, settings.model, settings.calibration, on_batch)
        name = settings.model if settings.model in registered() else encoder.spec.name
        first = ServedModel(
            name,
            Verifier(
                encoder,
                settings.gallery,
                key=settings.key,
                keep_crops=settings.keep_crops,
                fmr=settings.fmr,
                multi_face=settings.multi_face,
                quality=settings.quality,
            ),
            DecisionOptions(settings.fmr),
            settings.multi_face,
            settings.quality,
        )
        undo.callback(first.close)
        served = {name: first}
        location = settings.signature_gallery
        if location is not None and encoder.spec.modality != SIGNATURE:
            second = _encoder(settings, SIGNATURE, None, on_batch)
            key = settings.key if gallery_path(location) else None
            gallery = open_gallery(location, second.spec, key=key)
            served[SIGNATURE] = ServedModel(
                SIGNATURE,
                Verifier(second, gallery, keep_crops=settings.keep_crops, quality=settings.quality),
                DecisionOptions(),
                "error",
                settings.quality,
            )
        undo.pop_all()
        return served


def _encoder(
    settings: ServerSettings, model: str, calibration: str | None, on_batch: Callable[[int], None]
) -> Encoder:
    encoder = open_encoder(
        model, calibration, providers=settings.providers, threads=settings.thread_count
    )
    on_gpu = encoder.provider == "cuda"
    batcher = Batcher(
        encoder.encode,
        BATCH_SIZES[encoder.provider],
        # A GPU wants one large batch; a CPU has other cores for other runs, and gains nothing by waiting.
        runs=1 if on_gpu else max(1, settings.worker_count // 4),
        wait_s=_WAIT_S if on_gpu else 0.0,
        on_batch=on_batch,
    )
    extractor = ServedExtractor(encoder.extractor, batcher, settings.max_pixels)
    return Encoder(encoder.spec, batcher.encode, extractor, encoder.provider)


T = TypeVar("T")

_RETRY_S = 1


class Work:
    """Workers, and a queue of limited length before them."""

    def __init__(self, workers: int, queue: int, *, timeout_s: float = 30.0) -> None:
        """Start the workers.

        Args:
            workers: Jobs that run at the same time.
            queue: Jobs that wait; one more is refused.
            timeout_s: How long a job is waited for. A gallery's server that hangs is no reason to leave
                clients without an answer.
        """
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="verifykit-work")
        self._workers, self._room = workers, workers + queue
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._accepted = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Jobs that were accepted, and that no worker has taken yet."""
        return max(0, self._accepted - self._workers)

    async def run(self, job: Callable[[], T]) -> T:
        """Do a job in a worker's thread.

        Args:
            job: What to do; whatever it raises is raised here.

        Raises:
            ProblemError: ``queue_full``, or ``shutting_down`` after :meth:`close`; nothing was done.
                ``gallery_unavailable`` when it takes too long; then it goes on, and is done or not.
        """
        with self._lock:
            if self._is_closed:
                raise ProblemError("shutting_down", "the service is stopping", retry_s=_RETRY_S)
            if self._accepted >= self._room:
                raise ProblemError(
                    "queue_full",
                    f"{self._accepted} requests are being worked on or waiting, and no more can",
                    retry_s=_RETRY_S,
                )
            self._accepted += 1
            future = self._executor.submit(contextvars.copy_context().run, job)
        # Also when the request is cancelled before a worker took the job.
        future.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s)
        except asyncio.TimeoutError as error:
            if future.done() and not future.cancelled():
                raise  # the job's own
            code, detail = "gallery_unavailable", "it may still be done"
            if future.cancelled():
                code, detail = "queue_full", "no worker was free, nothing was done"
            raise ProblemError(
                code, f"no answer within {self._timeout_s:g} s: {detail}", retry_s=_RETRY_S
            ) from error

    def close(self) -> None:
        """Refuse new jobs and wait for those that were accepted; may be called twice."""
        with self._lock:
            self._is_closed = True
        self._executor.shutdown(wait=True)

    def _finished(self, _: Future[Any]) -> None:
        with self._lock:
            self._accepted -= 1


_FAILURE_WINDOW_S = 900.0


@dataclass(frozen=True)
class Service:
    """What the handlers work with.

    Attributes:
        settings: What the operator decided.
        models: The verifiers by name, the default first.
        work: Where the library's work is done.
        audit: The audit log.
        keys: The API keys.
        gate: Who may ask, and how often.
        idempotency: Answers to requests with a key.
        metrics: What Prometheus reads.
        failures: Limit of failed verifications of one subject; None for none.
    """

    settings: ServerSettings
    models: Mapping[str, ServedModel]
    work: Work
    audit: AuditLog
    keys: KeyStore
    gate: Gate
    idempotency: Idempotency
    metrics: Metrics
    failures: FailureLimiter | None
    _state: ServerState

    @classmethod
    def open(cls, settings: ServerSettings, metrics: Metrics) -> Service:
        """Open the state file, the audit log, the models and their galleries.

        Args:
            settings: What the operator decided.
            metrics: Where runs of the networks, decisions and refusals are counted.

        Raises:
            InputError: It would be open to other machines without a key.
            VerifyKitError: As :func:`~verifykit.server.service.open_models`.
            GalleryError: The state file cannot be made or opened.
            AuditError: The audit log cannot be made or written.
        """
        with contextlib.ExitStack() as undo:
            state = ServerState(settings.state_path)
            undo.callback(state.close)
            keys = KeyStore(state)
            if not settings.is_loopback and not keys.any():
                raise InputError(
                    f"host {settings.host!r} can be reached from other machines, and there is no API key: "
                    "make one with `verifykit serve keys create`, or listen at 127.0.0.1"
                )
            audit = AuditLog(settings.audit_path)
            models = open_models(settings, metrics.batch)
            undo.pop_all()
        rate, failed = settings.rate_per_minute, settings.failed_verifications
        work = Work(settings.worker_count, settings.queue)
        metrics.watch_queue(lambda: work.waiting)
        return cls(
            settings,
            models,
            work,
            audit,
            keys,
            Gate(
                keys,
                rate=RateLimiter(rate) if rate else None,
                open_without_keys=settings.is_loopback,
            ),
            Idempotency(state),
            metrics,
            FailureLimiter(failed, _FAILURE_WINDOW_S) if failed else None,
            state,
        )

    def close(self) -> None:
        """Finish what was accepted, then close everything; may be called twice."""
        self.work.close()
        for model in self.models.values():
            model.close()
        self._state.close()

    def model(self, name: str | None) -> ServedModel:
        """The verifier of a name; the first one for None.

        Raises:
            ProblemError: ``unknown_model``.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ProblemError(
                "unknown_model", f"no model {name[:64]!r} is served here: {', '.join(self.models)}"
            )
        return self.models[name]
