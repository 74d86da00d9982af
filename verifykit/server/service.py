"""Everything that is open while the service runs, and how it is closed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from verifykit.audit import AuditLog
from verifykit.errors import InputError
from verifykit.server.auth import Gate
from verifykit.server.idempotency import Idempotency
from verifykit.server.keys import KeyStore
from verifykit.server.limits import FailureLimiter, RateLimiter
from verifykit.server.metrics import Metrics
from verifykit.server.opening import ServedModel, open_models
from verifykit.server.problems import ProblemError
from verifykit.server.settings import ServerSettings
from verifykit.server.state import ServerState
from verifykit.server.work import Work

__all__ = ["Service"]

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
            VerifyKitError: As :func:`~verifykit.server.opening.open_models`.
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
