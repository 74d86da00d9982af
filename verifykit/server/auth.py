"""Who asks, and whether they may: tokens, scopes and rates, without a word of HTTP.

API keys: made once, shown once, stored as hashes.
"""

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

from verifykit.errors import InputError
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
    """What is known about a key; its secret is not.

    Attributes:
        key_id: The part of the token that may be shown: in lists, logs and the audit log.
        name: What the operator called it.
        scopes: What it may be used for; ``admin`` is all of it.
        created: When it was made, UTC.
        expires: From when on it is refused, UTC; None for never.
        revoked: When it was revoked, UTC; None if it was not.
    """

    key_id: str
    name: str
    scopes: frozenset[str]
    created: datetime
    expires: datetime | None
    revoked: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key has this scope, by itself or as ``admin``."""
        return scope in self.scopes or "admin" in self.scopes

    def is_valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; times in ISO 8601."""
        return {
            "key_id": self.key_id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat() if self.expires else None,
            "revoked": self.revoked.isoformat() if self.revoked else None,
        }


class KeyStore:
    """The keys in a state file; what one process changes, all see with their next request.

    Args:
        state: The file.
        clock: What time it is, with a time zone.
    """

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
        """Make a key.

        Args:
            name: For people, 1 to 100 printable characters; several keys may have the same.
            scopes: One or more of :data:`SCOPES`.
            expires_at: From when on it is refused, with a time zone; None for never.

        Returns:
            The key, and the token that its owner sends: nobody can show it again.

        Raises:
            InputError: No such name, scope or time is possible.
            GalleryError: The state file cannot be written.
        """
        now = self._clock()
        if not 1 <= len(name) <= _NAME_CHARACTERS or not name.isprintable():
            raise InputError(
                f"a key's name is 1 to {_NAME_CHARACTERS} printable characters, got {name!r}"
            )
        wanted = frozenset(scopes)
        if not wanted or not wanted <= set(SCOPES):
            raise InputError(
                f"a key's scopes are one or more of {', '.join(SCOPES)}, got {sorted(wanted)}"
            )
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            raise InputError(
                f"a key expires in the future and at a time with a time zone, got {expires_at}"
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(secrets.token_hex(6), name, wanted, now, expires_at)
        with self._state.writing() as connection:
            connection.execute(
                f"INSERT INTO api_key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL, ?)",  # noqa: S608
                (
                    key.key_id,
                    name,
                    " ".join(sorted(wanted)),
                    now.timestamp(),
                    None if expires_at is None else expires_at.timestamp(),
                    _hash(secret),
                ),
            )
        return key, f"vk_{key.key_id}_{secret}"

    def list(self) -> tuple[ApiKey, ...]:
        """All keys, the oldest first, with those that expired or were revoked.

        Raises:
            GalleryError: The state file cannot be read.
        """
        with self._state.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM api_key ORDER BY created, key_id"  # noqa: S608
            ).fetchall()
        return tuple(_key(row) for row in rows)

    def revoke(self, key_id: str) -> ApiKey:
        """Refuse a key from now on, in every process; again changes nothing.

        The key stays in the list, so that the audit log's key ids keep a name.

        Raises:
            InputError: There is no such key.
            GalleryError: The state file cannot be written.
        """
        with self._state.writing() as connection:
            connection.execute(
                "UPDATE api_key SET revoked = ? WHERE key_id = ? AND revoked IS NULL",
                (self._clock().timestamp(), key_id),
            )
            row = _row(connection, key_id)
        if row is None:
            raise InputError(f"there is no key {key_id!r}: `verifykit serve keys list` shows them")
        return _key(row)

    def authenticate(self, token: str) -> ApiKey | None:
        """Whose token this is: None when it is nobody's, expired or revoked.

        Args:
            token: What the client sent; any text.

        Raises:
            GalleryError: The state file cannot be read.
        """
        prefix, _, rest = token.partition("_")
        key_id, _, secret = rest.partition("_")
        with self._state.reading() as connection:
            row = _row(connection, key_id)
        # The same work whether the id is known or not, so that the time tells nobody which ids there are.
        right = hmac.compare_digest(_hash(secret), row[-1] if row else bytes(32))
        if row is None or not right or prefix != "vk":
            return None
        key = _key(row)
        return key if key.is_valid(self._clock()) else None

    def any(self) -> bool:
        """Whether a key was ever made. A revoked or expired one counts.

        Otherwise a service without keys, which is open, and one whose last key was revoked would be alike.

        Raises:
            GalleryError: The state file cannot be read.
        """
        with self._state.reading() as connection:
            return connection.execute("SELECT 1 FROM api_key LIMIT 1").fetchone() is not None


def _hash(secret: str) -> bytes:
    # A slow hash makes guessing a password dear. Nobody guesses 256 random bits, so a fast one is as safe,
    # and a request costs microseconds instead of a quarter of a second that anybody could make us spend.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _row(connection: sqlite3.Connection, key_id: str) -> tuple[Any, ...] | None:
    # As bytes, for SQLite takes no lone surrogates, and a client may send anything.
    asked = key_id.encode("utf-8", "surrogatepass")
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT {_COLUMNS} FROM api_key WHERE key_id = CAST(? AS TEXT)",  # noqa: S608
        (asked,),
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


class Gate:
    """Lets requests in: :meth:`identify` says whose they are, :meth:`require` whether they may.

    An address that sends bad tokens is told to wait. A good token from there still passes, or one client
    could lock out all that share a proxy; and nobody finds 256 bits by trying.

    Args:
        keys: The keys.
        rate: How often each key may ask, or each address without keys; None for any number.
        open_without_keys: Whether everybody may do everything while no key was ever made. Only for a
            service that no other machine can reach.
        bad_tokens: How often an address may send a token that is nobody's; 20 a minute if not given.
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
        """Whose request this is.

        Args:
            token: What the client sent as ``Authorization: Bearer``; None without.
            address: The client's IP address.

        Returns:
            The key; None where the service is open.

        Raises:
            ProblemError: ``unauthorized``; ``rate_limited`` after too many bad tokens.
            GalleryError: The state file cannot be read.
        """
        if self._open_without_keys and not self._keys.any():
            return None
        if token is None:
            raise _unauthorized("this needs a key, and none was sent")
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
        """Let this request through, and count it.

        Args:
            scope: What it needs; None for any key.
            key: What :meth:`identify` returned.
            address: The client's IP address.

        Raises:
            ProblemError: ``rate_limited``; ``forbidden`` when the key has not the scope.
        """
        if self._rate is not None:
            who = f"address {network_of(address)}" if key is None else f"key {key.key_id}"
            wait_s = self._rate.take(who)
            if wait_s > 0:
                raise ProblemError("rate_limited", "too many requests in a minute", retry_s=wait_s)
        if key is not None and scope is not None and not key.allows(scope):
            raise ProblemError(
                "forbidden",
                f"this needs a key with scope {scope}; this one has {', '.join(sorted(key.scopes))}",
            )


def network_of(address: str) -> str:
    """What to count an address by: for IPv6 its /64, as one client there has 2^64 addresses.

    Args:
        address: An IP address, or whatever else a server calls its client.
    """
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
