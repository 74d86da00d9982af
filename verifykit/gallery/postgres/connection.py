"""Connections to a gallery on a PostgreSQL server, its URL, and the server's errors in words.

No message repeats the URL: a password could be in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    InputError,
    shortened,
    shown,
)

if TYPE_CHECKING:
    import psycopg

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

# Not psycopg_pool: it connects in a thread of its own, so that a refusal is a timeout without the server's
# reason; it gives a child after fork its parent's connections; and after a restart of the server it gives
# out every idle connection that was lost, once each.
_IDLE_AT_MOST = 8

# A child after fork must neither use nor close its parent's connections, so they are kept for ever.
_inherited: list[Connection] = []

# https://www.postgresql.org/docs/current/errcodes-appendix.html, the longest prefix first.
_REASONS: tuple[tuple[str, type[GalleryError], str], ...] = (
    ("55P03", GalleryLockedError, "another process is writing: try again, or wait longer"),
    ("40P01", GalleryLockedError, "two writers waited for each other: try again"),
    ("40001", GalleryLockedError, "another process wrote the same: try again"),
    (
        "25006",
        GalleryError,
        "it was opened read-only, or the server is a standby; nothing was stored",
    ),
    ("42501", GalleryError, "the role may not do this: grant it, or connect as another"),
    ("42P01", GalleryFormatError, "a table of the gallery is missing: restore the database"),
    ("53100", GalleryError, "the server's disk is full, nothing was stored: free space, try again"),
)

# Of a connection that is refused libpq tells no code, only words.
_REFUSALS = (
    ("no password supplied", "give one in the URL, in PGPASSWORD or, best, in ~/.pgpass"),
    (
        "password authentication failed",
        "check the role and its password; the URL's goes before PGPASSWORD, that before ~/.pgpass",
    ),
    ('database ".*" does not exist', "make the database first: createdb"),
)

_PARAMETER = "verifykit_gallery"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class PostgresAddress:
    """A gallery on a server.

    Attributes:
        parameters: What libpq takes, with the password: never printed.
        name: Name of the gallery in the database.
        shown: The URL without password, for messages.
    """

    parameters: dict[str, Any] = field(repr=False)
    name: str
    shown: str

    @property
    def schema(self) -> str:
        """Return the database schema that holds the gallery's tables."""
        return f"verifykit_{self.name}"


def driver() -> ModuleType:
    """Return the module ``psycopg``, imported when a gallery needs it and not before."""
    try:
        import psycopg
    except ImportError as error:
        raise GalleryError(
            'a gallery on PostgreSQL needs psycopg: pip install "verifykit-sdk[postgres]" '
            f"({type(error).__name__}: {error})"
        ) from error
    return psycopg


def parse_url(url: str) -> PostgresAddress:
    """Return the parts of ``postgresql://user@host:port/database?verifykit_gallery=name``."""
    psycopg = driver()
    if not url.startswith(("postgresql://", "postgres://")):
        raise InputError("a PostgreSQL gallery is postgresql://user@host:port/database")
    head, _, query = url.partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    ours = [pair for pair in pairs if pair.partition("=")[0] == _PARAMETER]
    rest = [pair for pair in pairs if pair not in ours]
    name = unquote(ours[-1].partition("=")[2]) if ours else "default"
    if len(ours) > 1 or not _NAME.fullmatch(name):
        raise InputError(
            f"{_PARAMETER} is one name of 1 to 40 of a-z, 0-9 and _, beginning with a letter, got "
            f"{shown(name)}"
        )
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(
            head + ("?" if rest else "") + "&".join(rest)
        )
    except psycopg.Error:
        # Neither repeated nor chained: libpq's message quotes the URL, and the password with it.
        raise InputError(
            "this is not a PostgreSQL URL: write postgresql://user@host:port/database, special "
            "characters in a password as %XX"
        ) from None
    parts = [str(parameters.get(key, "")) for key in ("host", "port", "dbname")]
    if any("@" in part for part in parts) or not re.fullmatch(r"[0-9,]*", parts[1]):
        # A piece of a password whose @ or / was not escaped: not to be taken for a host, and shown.
        raise InputError(
            "this URL's password, or its host, port or database, holds an @ or a /: write them as %40 "
            "and %2F"
        )
    user = f"{parameters['user']}@" if parameters.get("user") else ""
    port = f":{parameters['port']}" if parameters.get("port") else ""
    place = f"{user}{parameters.get('host', '')}{port}/{parameters.get('dbname', '')}"
    query = "" if name == "default" else f"?{_PARAMETER}={name}"
    return PostgresAddress(parameters, name, shortened(f"postgresql://{place}{query}"))


def connect(
    address: PostgresAddress, *, read_only: bool = False, timeout_s: float = 5.0
) -> Connection:
    """Return a connection that commits durably; its user begins and ends transactions."""
    psycopg = driver()
    usual = {"connect_timeout": "10", "application_name": "verifykit"}
    with translated(address), _encodable(address):
        connection: Connection = psycopg.connect(
            **{**usual, **address.parameters, "client_encoding": "UTF8"},
            autocommit=True,
            prepare_threshold=None,  # nothing is left on the server for a pooler to mix up
        )
        try:
            # Never less durable than the server's own disk; a stricter setting is left as it is.
            connection.execute(
                "SELECT set_config('synchronous_commit', CASE WHEN "
                "current_setting('synchronous_commit') IN ('off', 'local') THEN 'on' "
                "ELSE current_setting('synchronous_commit') END, false), "
                "set_config('lock_timeout', %s, false), "
                "set_config('enable_partitionwise_aggregate', 'on', false), "
                "set_config('default_transaction_read_only', %s, false)",
                (f"{max(1, int(1000 * timeout_s))}ms", "on" if read_only else "off"),
            )
            use_schema(connection, address)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def _encodable(address: PostgresAddress) -> Iterator[None]:
    """Turn what Python raises for a host that is no host name into our error."""
    try:
        yield
    except UnicodeError as error:
        raise GalleryError(
            f"gallery {address.shown}: its host is not a possible host name: check the URL"
        ) from error


def use_schema(connection: Connection, address: PostgresAddress) -> None:
    """Find the gallery's tables and pgvector's operators by name, and nothing else."""
    connection.execute(
        "SELECT set_config('search_path', concat_ws(', ', quote_ident(%s), "
        "(SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e "
        "JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'), "
        "'pg_temp'), false)",
        (address.schema,),
    )


def lock_key(*words: str) -> int:
    """Return the number of an advisory lock; two things with one number would only wait for each other."""
    digest = hashlib.blake2b("\0".join(("verifykit", *words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@contextlib.contextmanager
def translated(address: PostgresAddress, connection: Connection | None = None) -> Iterator[None]:
    """Turn psycopg's errors into ours, naming the server and never the password."""
    try:
        yield
    except driver().Error as error:
        said = " ".join(str(error).split())
        host = str(address.parameters.get("host", ""))
        said = said.replace(host, shortened(host)) if host else said
        where = f"gallery {address.shown}"
        if connection is not None and connection.closed:
            raise GalleryError(
                f"{where}: the connection to {shortened(host) or 'the server'} was lost "
                f"({said}): what was not acknowledged may or may not be stored; the next call connects "
                "again"
            ) from error
        code = error.sqlstate or ""
        for prefix, kind, advice in _REASONS:
            if code.startswith(prefix):
                raise kind(f"{where}: {said}; {advice}") from error
        if code.startswith("08") and connection is not None:
            silent = ", ".join(_silent_shards(connection, address)) or "one that answers again now"
            raise GalleryError(f"{where}: a shard was lost ({silent}): {said}") from error
        advice = next((f"; {then}" for words, then in _REFUSALS if re.search(words, said)), "")
        raise GalleryError(f"{where}: {said}{advice}") from error


def _silent_shards(connection: Connection, address: PostgresAddress) -> list[str]:
    """Return the gallery's foreign servers that do not answer; postgres_fdw does not always name them."""
    psycopg = driver()
    silent = []
    with contextlib.suppress(psycopg.Error):
        found = connection.execute(
            "SELECT c.relname, s.srvname FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = c.oid "
            "JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver "
            "WHERE c.relnamespace = to_regnamespace(%s) AND c.relname LIKE 'subject%%'",
            (address.schema,),
        ).fetchall()
        for table, server in found:
            query = psycopg.sql.SQL("SELECT FROM {} LIMIT 1").format(psycopg.sql.Identifier(table))
            try:
                connection.execute(query)
            except psycopg.Error:
                silent.append(server)
    return silent


class PostgresConnections:
    """Transactions in a gallery, for all threads of a process; each has a connection while it lasts."""

    def __init__(self, address: PostgresAddress, *, read_only: bool, timeout_s: float) -> None:
        self.address, self.read_only = address, read_only
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._closed = False
        self._finalizer = weakref.finalize(self, _close, self._idle, self._pid)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run the block in a read transaction: one state of the gallery, whatever others write meanwhile."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, subject_id: str | None = None) -> Iterator[Connection]:
        """Run the block in a write transaction; writers of other subjects need not wait, None is all."""
        if self.read_only:
            raise GalleryError(
                f"gallery {self.address.shown}: it was opened read-only, nothing was stored"
            )
        schema = self.address.schema
        with self._transaction("BEGIN ISOLATION LEVEL READ COMMITTED") as connection:
            if subject_id is None:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(schema),))
            else:
                connection.execute(
                    "SELECT pg_advisory_xact_lock_shared(%s), pg_advisory_xact_lock(%s)",
                    (lock_key(schema), lock_key(schema, subject_id)),
                )
            yield connection

    def close(self) -> None:
        """Close what is idle; running transactions end first. May be called twice."""
        with self._lock:
            self._closed = True
            self._finalizer()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        connection = self._take()
        try:
            with translated(self.address, connection):
                connection.execute(begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(driver().Error):
                        connection.execute("ROLLBACK")
                    raise
        finally:
            self._give_back(connection)

    def _take(self) -> Connection:
        with self._lock:
            if self._closed:
                raise GalleryError(f"gallery {self.address.shown}: it was closed; open it again")
            if self._pid != os.getpid():
                _inherited.extend(self._idle)
                self._idle, self._pid = [], os.getpid()
                self._finalizer = weakref.finalize(self, _close, self._idle, self._pid)
            if self._idle:
                return self._idle.pop()
        return connect(self.address, read_only=self.read_only, timeout_s=self._timeout_s)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if connection.closed:
                # A server that went took the others with it: the next call must not get them.
                _close(self._idle, self._pid)
            elif (
                not self._closed
                and len(self._idle) < _IDLE_AT_MOST
                and connection.info.transaction_status == driver().pq.TransactionStatus.IDLE
            ):
                self._idle.append(connection)
                return
        connection.close()


def _close(connections: list[Connection], pid: int) -> None:
    if pid != os.getpid():
        _inherited.extend(connections)
        return
    while connections:
        connections.pop().close()
