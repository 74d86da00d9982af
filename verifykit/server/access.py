"""Who asks, and whether they may: API keys, scopes and rates, before a body is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from verifykit.server.keys import Scope
from verifykit.server.service import Service

__all__ = ["Caller", "require", "service_of"]

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
