"""Idempotency: requests with the header ``Idempotency-Key`` are carried out once, however often sent."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass

from verifykit.server.errors import ProblemError
from verifykit.server.state import ServerState

_KEY_CHARACTERS = 255
_DAY_S = 24 * 3600.0
_RETRY_S = 1.0


class IdempotencyKeyReusedError(ProblemError):
    """The key was used with another request."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_reused",
            "this Idempotency-Key was used for a request with another content; nothing was done",
        )


class IdempotencyInProgressError(ProblemError):
    """The request with this key is in progress."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_in_progress",
            "a request with this Idempotency-Key and this content is in progress",
            retry_s=_RETRY_S,
        )


@dataclass(frozen=True)
class StoredAnswer:
    """The response to the first request: HTTP status, and the bytes of the JSON body."""

    status: int
    body: bytes


class Idempotency:
    """Responses to requests with a key, for all processes of one state file, kept for ``ttl_s``.

    Call :meth:`begin`, then either :meth:`finish` or :meth:`abandon`. A process that died in between did
    neither: its request can be begun again after ``lease_s``, which is longer than any request takes. Whether
    it died before or after the gallery stored the subject, only the gallery knows.
    """

    def __init__(
        self,
        state: ServerState,
        ttl_s: float = _DAY_S,
        *,
        lease_s: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._ttl_s, self._lease_s = ttl_s, lease_s
        self._clock = clock
        self._worker = secrets.token_hex(8)

    def find(self, key: str, owner: str, digest: str) -> StoredAnswer | None:
        """Return the stored response to a request of this owner, key and digest of its content, or None."""
        name = _hashed(key)
        with self._state.reading() as connection:
            return self._found(connection, name, owner, digest)

    def begin(self, key: str, owner: str, digest: str) -> StoredAnswer | None:
        """Claim a request and return None, or return the response that is stored.

        Of several callers that begin the same request at once, one gets None; the others get
        ``idempotency_in_progress``.
        """
        name = _hashed(key)
        with self._state.writing() as connection:
            now = self._clock()
            connection.execute("DELETE FROM answer WHERE started <= ?", (now - self._ttl_s,))
            found = self._found(connection, name, owner, digest)
            if found is None:
                connection.execute(
                    "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, NULL, NULL)",
                    (owner, name, digest.encode(), self._worker, now),
                )
            return found

    def finish(self, key: str, owner: str, status: int, body: bytes) -> None:
        """Store the response to a request that was begun; the first one stays."""
        with self._state.writing() as connection:
            connection.execute(
                "UPDATE answer SET status = ?, body = ?"
                " WHERE owner = ? AND key_hash = ? AND status IS NULL",
                (status, body, owner, _hashed(key)),
            )

    def abandon(self, key: str, owner: str) -> None:
        """Drop a request that this process began and could not finish, so that it can be sent again."""
        with self._state.writing() as connection:
            connection.execute(
                "DELETE FROM answer"
                " WHERE owner = ? AND key_hash = ? AND status IS NULL AND worker = ?",
                (owner, _hashed(key), self._worker),
            )

    def _found(
        self, connection: sqlite3.Connection, name: bytes, owner: str, digest: str
    ) -> StoredAnswer | None:
        row = connection.execute(
            "SELECT digest, started, status, body FROM answer WHERE owner = ? AND key_hash = ?",
            (owner, name),
        ).fetchone()
        if row is None:
            return None
        stored, started, status, body = row
        age_s = self._clock() - started
        if age_s >= self._ttl_s:
            return None
        if stored != digest.encode():
            raise IdempotencyKeyReusedError
        if status is not None:
            return StoredAnswer(status, body)
        # abs: a clock that was set back must not block a dead process's request for long.
        if abs(age_s) < self._lease_s:
            raise IdempotencyInProgressError
        return None


def _hashed(key: str) -> bytes:
    # A client's key may be a name or a subject id: only its hash is stored.
    if not 1 <= len(key) <= _KEY_CHARACTERS:
        raise ProblemError(
            "bad_request",
            f"Idempotency-Key must have 1 to {_KEY_CHARACTERS} characters, got {len(key)}",
        )
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
