"""The tables of a gallery on a PostgreSQL server: making them, and migrating them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timezone

from verifykit.errors import GalleryError, InputError, TemplateFormatError
from verifykit.gallery import postgres_migrations
from verifykit.gallery.postgres_address import PostgresAddress, driver
from verifykit.gallery.postgres_connections import (
    Connection,
    connect,
    lock_key,
    translated,
    use_schema,
)
from verifykit.gallery.postgres_coordinator import coordinate, partitions
from verifykit.gallery.postgres_identity import PostgresIdentity, read_identity, read_version

__all__ = [
    "LONGEST_INDEXED",
    "create_hnsw",
    "create_tables",
    "has_hnsw",
    "require_local",
    "require_vector_size",
]

# https://github.com/pgvector/pgvector: values of a `vector` that is stored, and of one in an HNSW index.
_LONGEST_STORED = 16_000
LONGEST_INDEXED = 2_000


def require_vector_size(embedding_size: int, *, approximate: bool) -> None:
    """Whether pgvector can hold so long an embedding, and search for it.

    Raises:
        TemplateFormatError: It is too long to be stored.
        InputError: It is too long for the index of an approximate search.
    """
    if approximate and embedding_size > LONGEST_INDEXED:
        raise InputError(
            f"an HNSW index takes vectors of at most {LONGEST_INDEXED} values, this model's have "
            f"{embedding_size}: open the gallery with approximate=False, which is exact"
        )
    if embedding_size > _LONGEST_STORED:
        raise TemplateFormatError(
            f"pgvector keeps at most {_LONGEST_STORED} values, an embedding here has "
            f"{embedding_size}: keep this gallery in a file"
        )


def create_tables(address: PostgresAddress, identity: PostgresIdentity) -> None:
    """Make the gallery if it is not there, and bring its schema up to date; safe when several do it.

    Raises:
        GalleryFormatError: It is of a newer schema, or its shards are of an older one, or the database schema
            holds something else.
        GalleryError: No pgvector on this server, no permission, no connection; nothing was made.
    """
    psycopg = driver()
    with contextlib.closing(connect(address)) as connection, translated(address, connection):
        version = read_version(connection, address)
        if version == len(postgres_migrations.MIGRATIONS):
            return
        try:
            with connection.transaction():
                # One for all galleries of the database: they share the extension.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(),))
                if version is None:
                    _make_extension(connection, address)
                    schema = psycopg.sql.Identifier(address.schema)
                    connection.execute(
                        psycopg.sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema)
                    )
                    use_schema(connection, address)
                _migrate(connection, address, identity)
        except psycopg.errors.InsufficientPrivilege as error:
            told = (
                "it cannot be made: grant this role the right to make a schema (CREATE ON DATABASE)"
                if version is None
                else f"its schema {version} is old: open it once for writing as the role that owns it"
            )
            said = " ".join(str(error).split())
            raise GalleryError(f"gallery {address.shown}: {told} ({said})") from error


def _make_extension(connection: Connection, address: PostgresAddress) -> None:
    errors = driver().errors
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    except (errors.FeatureNotSupported, errors.UndefinedFile) as error:
        raise GalleryError(
            f"gallery {address.shown}: the server has no pgvector: install version 0.8 or newer on its "
            "machine (https://github.com/pgvector/pgvector#installation), then try again "
            f"({' '.join(str(error).split())})"
        ) from error
    except errors.InsufficientPrivilege as error:
        raise GalleryError(
            f"gallery {address.shown}: this role may not make the extension pgvector: have an "
            f"administrator run `CREATE EXTENSION vector SCHEMA public` in the database "
            f"{connection.info.dbname!r}, then try again ({' '.join(str(error).split())})"
        ) from error


def _migrate(connection: Connection, address: PostgresAddress, identity: PostgresIdentity) -> None:
    version = read_version(connection, address)
    size = identity.embedding_size
    if version is None:
        connection.execute(
            "CREATE TABLE schema_version (version integer PRIMARY KEY, applied text NOT NULL)"
        )
        version = 0
    elif version:
        size = read_identity(connection, address, any_version=True).embedding_size
    is_local = version == 0 or len(partitions(connection, "subject")) == 1
    for number, statements in enumerate(
        postgres_migrations.MIGRATIONS[version:], start=version + 1
    ):
        if is_local:
            for statement in statements:
                connection.execute(statement.replace("{size}", str(size)).encode())
        else:
            coordinate(connection, address, number)
        connection.execute("INSERT INTO schema_version VALUES (%s, %s)", (number, _now()))
    if version:
        return
    values = {
        "spec_digest": identity.spec_digest,
        "embedding_size": str(identity.embedding_size),
        "fusion": identity.fusion,
        "model": identity.model,
        "created": _now(),
    }
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO meta VALUES (%s, %s)", values.items())


def has_hnsw(connection: Connection, address: PostgresAddress) -> bool:
    """Whether the gallery has the index of an approximate search."""
    found = connection.execute(
        "SELECT to_regclass(quote_ident(%s) || '.reference_hnsw') IS NOT NULL", (address.schema,)
    ).fetchone()
    return bool(found and found[0])


def require_local(address: PostgresAddress, tables: Sequence[tuple[str, str]]) -> None:
    """Raise :class:`InputError` when the rows lie on shards, where no index can be made from here."""
    if len(tables) > 1:
        raise InputError(
            f"gallery {address.shown}: it is spread over shards, where only the exact search is "
            "possible: open it with approximate=False"
        )


def create_hnsw(connection: Connection) -> None:
    """Make the index of an approximate search; other writers wait until it is finished.

    Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using hierarchical
    navigable small world graphs, 2018; pgvector's usual m = 16 and ef_construction = 64.
    """
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    connection.execute(
        "CREATE INDEX IF NOT EXISTS reference_hnsw ON reference "
        "USING hnsw (reference_row vector_ip_ops)"
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
