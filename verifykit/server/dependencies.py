"""What routes depend on: the caller with its API key, the subject id, and the recorder of decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal, cast
from urllib.parse import unquote

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from verifykit.errors import AcquisitionError, ImageError, SubjectExistsError, SubjectNotFoundError
from verifykit.server.auth import Scope
from verifykit.server.errors import ProblemError, as_problem
from verifykit.server.service import ServedModel, Service

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="A key from `verifykit serve keys create`; not required while there are no keys.",
)


def service_of(request: Request) -> Service:
    """Return the service of the application."""
    return cast("Service", request.app.state.service)


@dataclass(frozen=True)
class Caller:
    """The sender of a request, by the id of its API key; None where there are no keys."""

    key_id: str | None

    @property
    def owner(self) -> str:
        """The owner of the caller's idempotency keys."""
        return self.key_id or "anybody"


def require(scope: Scope | None) -> Callable[..., Caller]:
    """Return a dependency that admits callers with a scope; None admits every key."""

    # Not async: the state file is read in a thread of the pool, and not on the event loop.
    def admitted(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Caller:
        authenticator = service_of(request).authenticator
        address = request.client.host if request.client else ""
        token = None if credentials is None else credentials.credentials
        key = authenticator.identify(token, address)
        caller = Caller(None if key is None else key.key_id)
        request.state.key_id = caller.key_id
        authenticator.require(scope, key, address)
        return caller

    return admitted


def _subject_id(
    subject_id: Annotated[
        str,
        Path(description="One percent-encoded segment: a slash is sent as %2F.", max_length=765),
    ],
) -> str:
    try:
        return unquote(subject_id, errors="strict")
    except UnicodeDecodeError as error:
        raise ProblemError(
            "invalid_value", "the subject id in the path is not UTF-8, percent-encoded"
        ) from error


SubjectId = Annotated[str, Depends(_subject_id)]
"""The subject id of the path, decoded; the library decides whether it is allowed."""


Verb = Literal["enroll", "verify", "compare", "identify", "remove"]


class DecisionRecorder:
    """Records the outcome of one call in the audit log, durably, and in the metrics."""

    def __init__(
        self,
        service: Service,
        caller: Caller,
        verb: Verb,
        model: ServedModel,
        subject_id: str | None = None,
    ) -> None:
        """Note who calls which verb of which model, and for which subject, if it is about one."""
        self._service, self._caller, self._verb = service, caller, verb
        self._subject_id = subject_id
        self._model_digest = model.verifier.spec.digest

    def done(self, what: str) -> None:
        """Record that something was stored or erased."""
        self._append(self._subject_id, what)

    def decided(
        self, outcome: str, score: float | None, threshold: float, subject_id: str | None = None
    ) -> None:
        """Record a decision; ``subject_id`` is the subject that was found, where none was claimed."""
        self._service.metrics.decided(self._verb, outcome)
        self._append(subject_id or self._subject_id, outcome, score, threshold)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Record a sample or a subject that is refused in this block."""
        try:
            yield
        except (AcquisitionError, ImageError, SubjectNotFoundError, SubjectExistsError) as error:
            self._append(self._subject_id, "refused", reason=as_problem(error).code)
            raise

    def _append(
        self,
        subject_id: str | None,
        decision: str,
        score: float | None = None,
        threshold: float | None = None,
        reason: str | None = None,
    ) -> None:
        self._service.audit.append(
            self._verb,
            key_id=self._caller.key_id,
            subject_id=subject_id,
            decision=decision,
            score=score,
            threshold=threshold,
            model_digest=self._model_digest,
            reason=reason,
        )
