"""API-key authentication: keys stored as hashes, their scopes, and the rates of callers; without HTTP."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

from verifykit.errors import InputError, shown
from verifykit.server.errors import ProblemError
from verifykit.server.limits import FailureLimiter, RateLimiter
from verifykit.server.state import ServerState

Scope = Literal["verify", "enrol", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_SECRET_BYTES = 32
_NAME_CHARACTERS = 100
_COLUMNS = "key_id, name, scopes, created, expires, revoked, secret_hash"


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret; ``key_id`` is the part of the token that may be shown, times are UTC."""

    key_id: str
    name: str
    scopes: frozenset[str]
    created: datetime
    expires: datetime | None
    revoked: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Return whether the key has this scope, by itself or as ``admin``."""
        return scope in self.scopes or "admin" in self.scopes

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def to_dict(self) -> dict[str, Any]:
        """Return the key as JSON types; times in ISO 8601."""
        return {
            "key_id": self.key_id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat() if self.expires else None,
            "revoked": self.revoked.isoformat() if self.revoked else None,
        }


class KeyStore:
    """The keys in a state file; a change by one process holds in all from their next request on."""

    def __init__(
        self,
        state: ServerState,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._state = state
        self._clock = clock

    def create(
        self, name: str, scopes: Iterable[str], expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key; return it with the token that its owner sends, which cannot be shown again."""
        now = self._clock()
        if not 1 <= len(name) <= _NAME_CHARACTERS or not name.isprintable():
            raise InputError(
                f"a key's name has 1 to {_NAME_CHARACTERS} printable characters, got {shown(name)}"
            )
        granted = frozenset(scopes)
        if not granted or not granted <= set(SCOPES):
            raise InputError(
                f"a key's scopes are one or more of {', '.join(SCOPES)}, got {shown(sorted(granted))}"
            )
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            raise InputError(
                f"a key expires in the future, at a time with a time zone, got {expires_at}"
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(secrets.token_hex(6), name, granted, now, expires_at)
        with self._state.writing() as connection:
            connection.execute(
                f"INSERT INTO api_key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, ?)",  # noqa: S608
                (
                    key.key_id,
                    name,
                    " ".join(sorted(granted)),
                    now.timestamp(),
                    None if expires_at is None else expires_at.timestamp(),
                    _hash(secret),
                ),
            )
        return key, f"vk_{key.key_id}_{secret}"

    def list(self) -> tuple[ApiKey, ...]:
        """Return all keys, the oldest first, with those that expired or were revoked."""
        with self._state.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM api_key ORDER BY created, key_id"  # noqa: S608
            ).fetchall()
        return tuple(_key(row) for row in rows)

    def revoke(self, key_id: str) -> ApiKey:
        """Refuse a key from now on, in every process; revoking it again changes nothing.

        The key stays in the list, so that the key ids in the audit log keep a name.
        """
        with self._state.writing() as connection:
            connection.execute(
                "UPDATE api_key SET revoked = ? WHERE key_id = ? AND revoked IS NULL",
                (self._clock().timestamp(), key_id),
            )
            row = _row(connection, key_id)
        if row is None:
            raise InputError(
                f"there is no key {shown(key_id)}: `verifykit serve keys list` shows them"
            )
        return _key(row)

    def authenticate(self, token: str) -> ApiKey | None:
        """Return the key of a token; None if it is unknown, expired or revoked."""
        prefix, _, rest = token.partition("_")
        key_id, _, secret = rest.partition("_")
        with self._state.reading() as connection:
            row = _row(connection, key_id)
        # The same work whether the id is known or not, so that timing does not reveal the ids.
        is_right = hmac.compare_digest(_hash(secret), row[-1] if row else bytes(32))
        if row is None or not is_right or prefix != "vk":
            return None
        key = _key(row)
        return key if key.is_valid(self._clock()) else None

    def any(self) -> bool:
        """Return whether a key was ever created; revoking the last key must not open the service."""
        with self._state.reading() as connection:
            return connection.execute("SELECT 1 FROM api_key LIMIT 1").fetchone() is not None


def _hash(secret: str) -> bytes:
    # A slow hash makes passwords expensive to guess. 256 random bits cannot be guessed: a fast hash is as
    # safe, and a request costs microseconds, not a quarter of a second that any client could cause.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _row(connection: sqlite3.Connection, key_id: str) -> tuple[Any, ...] | None:
    # As bytes: SQLite accepts no lone surrogates, and a client may send any text.
    encoded = key_id.encode("utf-8", "surrogatepass")
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT {_COLUMNS} FROM api_key WHERE key_id = CAST(? AS TEXT)",  # noqa: S608
        (encoded,),
    ).fetchone()
    return row


def _key(row: tuple[Any, ...]) -> ApiKey:
    key_id, name, scopes, created, expires, revoked, _ = row
    return ApiKey(
        key_id,
        name,
        frozenset(scopes.split()),
        _time(created),
        None if expires is None else _time(expires),
        None if revoked is None else _time(revoked),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


_BAD_TOKENS = 20
_BAD_TOKENS_S = 60.0


class Authenticator:
    """Admits requests: :meth:`identify` finds the key of a request, :meth:`require` checks what it may do.

    An address that sends bad tokens must wait. A good token from there still passes: otherwise one client
    could lock out all that share a proxy, and 256 bits are not found by trying. ``open_without_keys`` admits
    every request while no key was ever created: only for a service that no other machine can reach.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        rate: RateLimiter | None = None,
        open_without_keys: bool = False,
        bad_tokens: FailureLimiter | None = None,
    ) -> None:
        self._keys, self._rate = keys, rate
        self._open_without_keys = open_without_keys
        if bad_tokens is None:
            bad_tokens = FailureLimiter(_BAD_TOKENS, _BAD_TOKENS_S)
        self._bad_tokens = bad_tokens

    def identify(self, token: str | None, address: str) -> ApiKey | None:
        """Return the key of a request, None where the service is open; else ``unauthorized``."""
        if self._open_without_keys and not self._keys.any():
            return None
        if token is None:
            raise _unauthorized("an API key is required, and none was sent")
        key = self._keys.authenticate(token)
        if key is not None:
            return key
        network = network_of(address)
        wait_s = self._bad_tokens.wait_s(network)
        if wait_s > 0:
            raise ProblemError(
                "rate_limited", "too many requests with keys that are not valid", retry_s=wait_s
            )
        self._bad_tokens.record(network, matched=False)
        raise _unauthorized("this key is unknown, has expired or was revoked")

    def require(self, scope: Scope | None, key: ApiKey | None, address: str) -> None:
        """Count a request, and raise ``rate_limited``, or ``forbidden`` for a key without the scope."""
        if self._rate is not None:
            caller = f"address {network_of(address)}" if key is None else f"key {key.key_id}"
            wait_s = self._rate.take(caller)
            if wait_s > 0:
                raise ProblemError("rate_limited", "too many requests in a minute", retry_s=wait_s)
        if key is not None and scope is not None and not key.allows(scope):
            raise ProblemError(
                "forbidden",
                f"this requires a key with scope {scope}; this one has {', '.join(sorted(key.scopes))}",
            )


def network_of(address: str) -> str:
    """Return what an address is counted by: for IPv6 its /64, as one client there has 2^64 addresses."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
