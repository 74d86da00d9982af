"""Who asks, and whether they may: API keys, scopes and rates, before a body is read.

What is written down about each verb: in the audit log, and in the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from verifykit.errors import AcquisitionError, ImageError, SubjectExistsError, SubjectNotFoundError
from verifykit.server.auth import Scope
from verifykit.server.errors import as_problem
from verifykit.server.service import ServedModel, Service

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="A key from `verifykit serve keys create`; not needed while there is none.",
)


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        key_id: Of the API key; None where there are none.
    """

    key_id: str | None

    @property
    def owner(self) -> str:
        """Whose idempotency keys these are."""
        return self.key_id or "anybody"


def service_of(request: Request) -> Service:
    """What the application has open."""
    return cast("Service", request.app.state.service)


def require(scope: Scope | None) -> Callable[..., Caller]:
    """A dependency that lets through who has a scope.

    Args:
        scope: Which; None for whoever has a key.
    """

    # Not async: the state file is read in a thread of the pool, and not on the event loop.
    def admitted(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> Caller:
        gate = service_of(request).gate
        address = request.client.host if request.client else ""
        token = None if credentials is None else credentials.credentials
        key = gate.identify(token, address)
        caller = Caller(None if key is None else key.key_id)
        request.state.key_id = caller.key_id
        gate.require(scope, key, address)
        return caller

    return admitted


Verb = Literal["enroll", "verify", "compare", "identify", "remove"]


class Record:
    """Writes down how one call came out; what returns is on the disk."""

    def __init__(
        self,
        service: Service,
        caller: Caller,
        verb: Verb,
        model: ServedModel,
        subject_id: str | None = None,
    ) -> None:
        """Note who asks for what.

        Args:
            service: Where it is written.
            caller: Who asks.
            verb: For what.
            model: Of which verifier.
            subject_id: About whom, if about one subject.
        """
        self._service, self._caller, self._verb = service, caller, verb
        self._subject_id = subject_id
        self._model_digest = model.verifier.spec.digest

    def done(self, what: str) -> None:
        """Something was stored or erased.

        Raises:
            AuditError: It could not be written.
        """
        self._append(self._subject_id, what)

    def decided(
        self, outcome: str, score: float | None, threshold: float, subject_id: str | None = None
    ) -> None:
        """A decision was made.

        Args:
            outcome: ``match`` or ``no_match``.
            score: Of the comparison; None where nobody was found.
            threshold: That was applied.
            subject_id: Who was found, where nobody was claimed.

        Raises:
            AuditError: It could not be written.
        """
        self._service.metrics.decided(self._verb, outcome)
        self._append(subject_id or self._subject_id, outcome, score, threshold)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Write down that a sample or a subject was refused in this block.

        Raises:
            AuditError: It could not be written.
        """
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
