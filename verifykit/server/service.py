"""The service: the models with their galleries, the worker threads, and everything else that is open.

A bounded number of threads does the library's work; the event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from verifykit._given_faces import PlacedImage
from verifykit.audit import AuditLog
from verifykit.decision import DecisionOptions
from verifykit.drift import DriftReport, ScoreWatch
from verifykit.encoder import BATCH_SIZES, Encoder
from verifykit.errors import CalibrationError, InputError, shortened, shown
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.gallery import open_gallery
from verifykit.image import LoadedImage
from verifykit.models import registered
from verifykit.server.auth import Authenticator, KeyStore
from verifykit.server.batching import Batcher
from verifykit.server.errors import ProblemError
from verifykit.server.idempotency import Idempotency
from verifykit.server.limits import FailureLimiter, RateLimiter
from verifykit.server.observability import Metrics
from verifykit.server.settings import SIGNATURES, ServerSettings, is_url
from verifykit.server.state import ServerState
from verifykit.types import ImageLike, Sample, SampleRole
from verifykit.verifier import Verifier, open_encoder

T = TypeVar("T")

_RETRY_S = 1
_BATCH_WAIT_S = 0.003
_FAILURE_WINDOW_S = 900.0


class WorkerPool:
    """Worker threads with a queue of limited length."""

    def __init__(self, workers: int, queue: int, *, timeout_s: float = 30.0) -> None:
        """Start the workers; ``queue`` is the number of jobs that may wait for one."""
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="verifykit-work")
        self._workers, self._capacity = workers, workers + queue
        # The server of a gallery that hangs must not leave clients without a response.
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._accepted = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Number of jobs that were accepted and not yet started."""
        return max(0, self._accepted - self._workers)

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job in a worker thread and return or raise what it does.

        ``queue_full`` and ``shutting_down`` are raised before anything is done; after
        ``gallery_unavailable``, for a job that takes too long, the job continues.
        """
        with self._lock:
            if self._is_closed:
                raise ProblemError("shutting_down", "the service is stopping", retry_s=_RETRY_S)
            if self._accepted >= self._capacity:
                raise ProblemError(
                    "queue_full",
                    f"{self._accepted} requests are in progress or waiting, which is the maximum",
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
            code, detail = "gallery_unavailable", "it may still be carried out"
            if future.cancelled():
                code, detail = "queue_full", "no worker was free, nothing was done"
            raise ProblemError(
                code, f"no result within {self._timeout_s:g} s: {detail}", retry_s=_RETRY_S
            ) from error

    def close(self) -> None:
        """Refuse new jobs and wait for those that were accepted; may be called twice."""
        with self._lock:
            self._is_closed = True
        self._executor.shutdown(wait=True)

    def _finished(self, _: Future[Any]) -> None:
        with self._lock:
            self._accepted -= 1


@dataclass(frozen=True)
class ServedModel:
    """A model with its gallery; the verifier's options hold unless a request says otherwise."""

    name: str
    verifier: Verifier
    gallery_kind: str

    def close(self) -> None:
        """Store the counts of scores, and close the gallery."""
        if self.verifier.watch is not None:
            self.verifier.watch.flush()
        self.verifier.gallery.close()


class ServedExtractor(SampleExtractor):
    """A model's extractor, which announces its crops to the batcher."""

    def __init__(self, extractor: SampleExtractor, batcher: Batcher) -> None:
        """Take over the crop, the detector and the limits of another extractor."""
        super().__init__(
            extractor.spec,
            extractor.detector,
            checks=extractor.checks,
            max_pixels=extractor.max_pixels,
        )
        self._batcher = batcher

    def samples(
        self,
        image: ImageLike | LoadedImage | PlacedImage,
        options: SampleOptions | None = None,
        *,
        role: SampleRole = "probe",
        limit: int | None = None,
    ) -> list[Sample]:
        """See :meth:`SampleExtractor.samples`."""
        with self._batcher.coming():
            return super().samples(image, options, role=role, limit=limit)


def open_models(
    settings: ServerSettings, on_batch: Callable[[int], None]
) -> Mapping[str, ServedModel]:
    """Return the models of the settings by name, the default first, each with its gallery open."""
    served: dict[str, ServedModel] = {}
    with contextlib.ExitStack() as undo:

        def add(model: str, location: str) -> None:
            opened = _open_model(settings, model, location, on_batch, is_default=not served)
            undo.callback(opened.close)
            if opened.name in served:
                raise InputError(
                    f"model {shortened(f'{model}={location}')}: a model named {shown(opened.name)} is "
                    "already served; give each model once"
                )
            served[opened.name] = opened

        for model, location in settings.galleries:
            add(model, location)
        default = next(iter(served.values()))
        if settings.signature_gallery and default.verifier.spec.modality != SIGNATURES:
            add(SIGNATURES, settings.signature_gallery)
        undo.pop_all()
    return served


def _open_model(
    settings: ServerSettings,
    model: str,
    location: str,
    on_batch: Callable[[int], None],
    *,
    is_default: bool,
) -> ServedModel:
    """Open one model and its gallery; calibration, population and rate are the default model's."""
    encoder = _open_encoder(settings, model, on_batch, is_default=is_default)
    # A key is for galleries in files; with a default gallery on a server it is an error.
    key = settings.key if is_default or not is_url(location) else None
    fmr = settings.fmr if is_default else None
    verifier = Verifier(
        encoder,
        open_gallery(location, encoder.spec, key=key),
        keep_crops=settings.keep_crops,
        fmr=fmr,
        watch=_score_watch(settings, encoder, location, fmr),
        **settings.sample_values,
    )
    name = model if model in registered() else encoder.spec.name
    return ServedModel(
        name,
        verifier,
        gallery_kind=location.partition("://")[0] if is_url(location) else "file",
    )


def _score_watch(
    settings: ServerSettings, encoder: Encoder, location: str, fmr: float | None
) -> ScoreWatch | None:
    """Return what counts the scores of a model; None if not requested, or if it is not calibrated."""
    if not settings.watch_scores:
        return None
    path = settings.scores_path(location, encoder.spec.digest)
    try:
        return ScoreWatch(encoder.spec, path, DecisionOptions(fmr), restart=True)
    except CalibrationError:
        return None


def drift_reports(models: Mapping[str, ServedModel]) -> dict[str, DriftReport]:
    """Return what the counts of each model say; of those whose file cannot be read, nothing."""
    found = {}
    for name, model in models.items():
        if (watch := model.verifier.watch) is not None:
            with contextlib.suppress(InputError):
                found[name] = watch.report()
    return found


def _open_encoder(
    settings: ServerSettings, model: str, on_batch: Callable[[int], None], *, is_default: bool
) -> Encoder:
    encoder = open_encoder(
        model,
        settings.calibration if is_default else None,
        population=settings.population if is_default else None,
        providers=settings.providers,
        threads=settings.thread_count,
        precision=settings.precision,
        max_pixels=settings.max_pixels,
    )
    on_gpu = encoder.provider == "cuda"
    batcher = Batcher(
        encoder.encode,
        BATCH_SIZES[encoder.provider],
        # A GPU needs one large batch; a CPU has other cores for other runs, and gains nothing by waiting.
        runs=1 if on_gpu else max(1, settings.worker_count // 4),
        wait_s=_BATCH_WAIT_S if on_gpu else 0.0,
        on_batch=on_batch,
    )
    extractor = ServedExtractor(encoder.extractor, batcher)
    return Encoder(encoder.spec, batcher.encode, extractor, encoder.provider)


@dataclass(frozen=True)
class Service:
    """Everything that is open while the service runs; ``failures`` limits failed verifications, if any.

    ``expiry_refusals`` says, by model, why the last run of retention has erased nothing.
    """

    settings: ServerSettings
    models: Mapping[str, ServedModel]
    workers: WorkerPool
    audit: AuditLog
    keys: KeyStore
    authenticator: Authenticator
    idempotency: Idempotency
    metrics: Metrics
    failures: FailureLimiter | None
    _state: ServerState
    expiry_refusals: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: ServerSettings, metrics: Metrics) -> Service:
        """Open the state file, the audit log, the models and their galleries."""
        with contextlib.ExitStack() as undo:
            state = ServerState(settings.state_path)
            undo.callback(state.close)
            keys = KeyStore(state)
            if not settings.is_loopback and not keys.any():
                raise InputError(
                    f"host {shown(settings.host)} can be reached from other machines, and there is no API "
                    "key: create one with `verifykit serve keys create`, or listen at 127.0.0.1"
                )
            audit = AuditLog(settings.audit_path)
            models = open_models(settings, metrics.batch)
            undo.pop_all()
        rate, failed = settings.rate_per_minute, settings.failed_verifications
        workers = WorkerPool(settings.worker_count, settings.queue)
        metrics.watch_queue(lambda: workers.waiting)
        metrics.watch_drift(lambda: drift_reports(models))
        authenticator = Authenticator(
            keys,
            rate=RateLimiter(rate) if rate else None,
            open_without_keys=settings.is_loopback,
        )
        return cls(
            settings,
            models,
            workers,
            audit,
            keys,
            authenticator,
            Idempotency(state),
            metrics,
            FailureLimiter(failed, _FAILURE_WINDOW_S) if failed else None,
            state,
        )

    def close(self) -> None:
        """Finish what was accepted, then close everything; may be called twice."""
        self.workers.close()
        for model in self.models.values():
            model.close()
        self._state.close()

    def model(self, name: str | None) -> ServedModel:
        """Return the model of this name; the default for None."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ProblemError(
                "unknown_model",
                f"model {shown(name)} is not served here: {', '.join(self.models)}",
            )
        return self.models[name]
