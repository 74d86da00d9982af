"""Requests that may be sent twice and are done once: the header ``Idempotency-Key``."""

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
    """This key came before with another request."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_reused",
            "this Idempotency-Key was used for a request with another content; nothing was done",
        )


class IdempotencyInProgressError(ProblemError):
    """The request with this key is being worked on."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_in_progress",
            "a request with this Idempotency-Key and this content is being worked on",
            retry_s=_RETRY_S,
        )


@dataclass(frozen=True)
class StoredAnswer:
    """What the first request was answered.

    Attributes:
        status: HTTP status.
        body: The bytes of the JSON body.
    """

    status: int
    body: bytes


class Idempotency:
    """Answers to requests with a key, for all processes of one state file.

    :meth:`begin`, then either :meth:`finish` or :meth:`abandon`. A process that died in between did
    neither: its request can be begun again when the lease is over. Which of the two it died in, before or
    after the gallery stored the subject, only the gallery knows.

    Args:
        state: The file.
        ttl_s: How long an answer is kept, in seconds.
        lease_s: How long a request may be worked on before its process is taken for dead; longer than any
            request takes.
        clock: Seconds since 1970, the same in all processes.
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
        """The answer to a request that came before.

        Args:
            key: The header's value, 1 to 255 characters.
            owner: Whose request it is: the id of the API key, or one word for all when there are none.
            digest: Hash of everything that makes the request what it is: method, path, query and body.

        Returns:
            None when there is nothing: it can be begun.

        Raises:
            IdempotencyKeyReusedError: The key came with another digest.
            IdempotencyInProgressError: It is being worked on.
            ProblemError: No such key is possible.
            GalleryError: The state file cannot be read.
        """
        name = _hashed(key)
        with self._state.reading() as connection:
            return self._found(connection, name, owner, digest)

    def begin(self, key: str, owner: str, digest: str) -> StoredAnswer | None:
        """Say that this process works on a request, unless it was answered: :meth:`find`, and more.

        Of several that begin the same request at once, one goes on.

        Returns:
            None when the caller must do the work; otherwise what was answered meanwhile.

        Raises:
            IdempotencyKeyReusedError: The key came with another digest.
            IdempotencyInProgressError: It is being worked on.
            ProblemError: No such key is possible.
            GalleryError: The state file cannot be written.
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
        """Store the answer to a request that was begun. The first one stays.

        Raises:
            GalleryError: The state file cannot be written.
        """
        with self._state.writing() as connection:
            connection.execute(
                "UPDATE answer SET status = ?, body = ?"
                " WHERE owner = ? AND key_hash = ? AND status IS NULL",
                (status, body, owner, _hashed(key)),
            )

    def abandon(self, key: str, owner: str) -> None:
        """Forget a request that this process began and could not finish, so that it can be sent again.

        Raises:
            GalleryError: The state file cannot be written.
        """
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
        # abs: a clock that was set back must not keep a dead process's request for long.
        if abs(age_s) < self._lease_s:
            raise IdempotencyInProgressError
        return None


def _hashed(key: str) -> bytes:
    # What a client chooses for a key may be a name or a subject id: it is not kept.
    if not 1 <= len(key) <= _KEY_CHARACTERS:
        raise ProblemError(
            "bad_request",
            f"Idempotency-Key has 1 to {_KEY_CHARACTERS} characters, this one has {len(key)}",
        )
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
