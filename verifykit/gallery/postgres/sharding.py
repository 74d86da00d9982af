"""Experimental: one gallery over several PostgreSQL servers, hash partitions behind postgres_fdw.

Each shard is a gallery of its own with the subjects whose hash is its. The coordinator has tables of the
same names without rows, whose partitions are the shards': :class:`~verifykit.gallery.PostgresGallery`
opens it like any other. A subject's rows are on one shard, so enrolling and erasing one is one commit
there. A shard sorts and cuts by itself; one that does not answer is an error of the whole call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verifykit.errors import GalleryError, InputError
from verifykit.gallery.base import GalleryIdentity, checked_identity
from verifykit.gallery.postgres.connection import (
    Connection,
    PostgresAddress,
    connect,
    driver,
    parse_url,
    translated,
)
from verifykit.gallery.postgres.gallery import PostgresGallery
from verifykit.gallery.postgres.schema import create_tables, sum_revisions
from verifykit.scoring import checked_fusion
from verifykit.spec import Fusion

# Of postgres_fdw: the operators of pgvector may run there, several shards are queried at once, and a row
# count is requested, so that it sees that sorting there is cheaper than sending everything.
_SERVER_OPTIONS = {
    "extensions": "vector",
    "use_remote_estimate": "true",
    "async_capable": "true",
    "batch_size": "1000",
    "fetch_size": "1000",
    "parallel_commit": "true",
    "connect_timeout": "10",
}
_DURABLE = "-c synchronous_commit=on"
_OF_USER = {"user", "password", "sslcert", "sslkey", "sslpassword", "passfile"}
_TABLES = ("subject", "template", "reference")


def create_shards(
    coordinator_url: str,
    shard_urls: Sequence[str],
    *,
    spec_digest: str,
    embedding_size: int,
    fusion: Fusion = "max",
    model: str = "",
) -> None:
    """Make a gallery that is spread over several servers; open it with ``PostgresGallery(coordinator_url)``.

    Experimental: another version of verifykit may need a new gallery, to which this one is copied.

    The number of shards is fixed: for another, make a new gallery and copy. The shards' passwords are kept
    in the coordinator's ``pg_user_mapping``, for the role that calls this and for no other. When it raises
    after the first shard was made, drop the empty schema ``verifykit_<name>`` there before the next try.

    Args:
        coordinator_url: The gallery that applications open; it must not exist. Its role may make extensions
            and servers.
        shard_urls: Databases as the coordinator reaches them, at least two, none with this gallery.
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, human-readable.

    Raises:
        InputError: Fewer than two shards, the same one twice, the coordinator among them, or no URL.
        TemplateMismatchError: ``spec_digest`` is empty.
        TemplateFormatError: ``embedding_size`` is not possible.
        GalleryError: There is a gallery already, or a server cannot be reached or refuses; see its message.
    """
    checked_identity(spec_digest, embedding_size)
    coordinator = parse_url(coordinator_url)
    shards = [parse_url(url) for url in shard_urls]
    places = [address.shown for address in (coordinator, *shards)]
    if len(shards) < 2 or len(set(places)) < len(places):
        raise InputError(
            f"it takes a coordinator and at least two shards, all different, got {', '.join(places)}"
        )
    identity = GalleryIdentity(spec_digest, embedding_size, checked_fusion(fusion), model)
    _require_free(coordinator)
    reached = [_require_free(shard) for shard in shards]
    for url in shard_urls:
        PostgresGallery(
            url, spec_digest=spec_digest, embedding_size=embedding_size, fusion=fusion, model=model
        ).close()
    _require_free(coordinator)  # nor is it one of the shards under another name
    create_tables(coordinator, identity)
    connection = connect(coordinator)
    try:
        with translated(coordinator), connection.transaction():
            _partition(connection, coordinator, list(zip(shards, reached, strict=True)))
    finally:
        connection.close()


def _require_free(address: PostgresAddress) -> dict[str, Any]:
    """Return how the server was reached, with what the environment and libpq added to the URL."""
    connection = connect(address)
    try:
        with translated(address):
            query = "SELECT to_regnamespace(%s)::text"
            found = connection.execute(query, (address.schema,)).fetchone()
        info = connection.info
        reached = {
            **address.parameters,
            "host": info.host,
            "port": str(info.port),
            "dbname": info.dbname,
            "user": info.user,
            **({"password": info.password} if info.password else {}),
        }
    finally:
        connection.close()
    if found and found[0]:
        raise GalleryError(
            f"gallery {address.shown}: it is there already, and shards are made empty: choose another "
            "verifykit_gallery, and copy"
        )
    return reached


def _partition(
    connection: Connection,
    coordinator: PostgresAddress,
    shards: Sequence[tuple[PostgresAddress, dict[str, Any]]],
) -> None:
    """Put partitions on the shards in the place of the tables that were just made."""
    sql = driver().sql
    connection.execute("CREATE EXTENSION IF NOT EXISTS postgres_fdw SCHEMA public")
    for table in _TABLES:
        old = sql.Identifier(f"{table}_plain")
        new = sql.Identifier(table)
        # No key: a unique index cannot reach over servers. Each shard's own table has it.
        for statement in (
            sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, old),
            sql.SQL("CREATE TABLE {} (LIKE {}) PARTITION BY HASH (subject_id)").format(new, old),
            sql.SQL("DROP TABLE {}").format(old),
        ):
            connection.execute(statement)
    for number, (shard, reached) in enumerate(shards):
        server = sql.Identifier(f"{coordinator.schema}_{number}")
        of_server = {k: v for k, v in reached.items() if k not in _OF_USER}
        settings = f"{reached.get('options', '')} {_DURABLE}"
        of_user = {k: v for k, v in reached.items() if k in _OF_USER}
        connection.execute(
            sql.SQL("CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})").format(
                server, _options({**_SERVER_OPTIONS, **of_server, "options": settings.strip()})
            )
        )
        connection.execute(
            sql.SQL("CREATE USER MAPPING FOR CURRENT_USER SERVER {} OPTIONS ({})").format(
                server, _options(of_user)
            )
        )
        for table in _TABLES:
            connection.execute(
                sql.SQL(
                    "CREATE FOREIGN TABLE {} PARTITION OF {} FOR VALUES WITH "
                    "(MODULUS {}, REMAINDER {}) SERVER {} OPTIONS ({})"
                ).format(
                    sql.Identifier(f"{table}_{number}"),
                    sql.Identifier(table),
                    sql.Literal(len(shards)),
                    sql.Literal(number),
                    server,
                    _options({"schema_name": shard.schema, "table_name": table}),
                )
            )
    connection.execute("DROP TABLE revision")
    connection.execute("DROP FUNCTION count_write")
    sum_revisions(connection, coordinator)


def _options(values: dict[str, Any]) -> Any:
    sql = driver().sql
    pairs = [
        sql.SQL("{} {}").format(sql.Identifier(key), sql.Literal(str(value)))
        for key, value in values.items()
    ]
    return sql.SQL(", ").join(pairs)
