"""What a gallery over several PostgreSQL servers has where it is opened: tables whose rows lie elsewhere."""

from __future__ import annotations

from verifykit.errors import GalleryFormatError
from verifykit.gallery.postgres_address import PostgresAddress, driver
from verifykit.gallery.postgres_connections import Connection

__all__ = ["coordinate", "partitions", "sum_revisions"]


def partitions(connection: Connection, table: str) -> list[str]:
    """The tables that hold a table's rows: itself, or its partitions by their number."""
    found = connection.execute(
        "SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c "
        "ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s) "
        "ORDER BY length(c.relname), c.relname",
        (table,),
    ).fetchall()
    return [name for (name,) in found] or [table]


def coordinate(connection: Connection, address: PostgresAddress, version: int) -> None:
    """Follow the shards to a version of the schema, in the caller's transaction.

    Args:
        connection: To the coordinator.
        address: The gallery there.
        version: The next one; every shard has it already.

    Raises:
        GalleryFormatError: A shard does not have it, or a later verifykit's coordinator cannot follow.
    """
    steps = {2: sum_revisions}
    if version not in steps:
        raise GalleryFormatError(
            f"gallery {address.shown}: it is spread over shards, which cannot be brought to schema "
            f"{version}: copy it, with the verifykit that wrote it, to a file or one server"
        )
    steps[version](connection, address)


def sum_revisions(connection: Connection, address: PostgresAddress) -> None:
    """Make `revision` the sum of the shards': each counts where its rows lie, in the same commit.

    Args:
        connection: To the coordinator, in a transaction.
        address: The gallery there.

    Raises:
        GalleryFormatError: A shard does not count yet.
    """
    psycopg = driver()
    sql = psycopg.sql
    shards = connection.execute(
        "SELECT s.srvname, o.option_value FROM unnest(%s::text[]) WITH ORDINALITY p (name, place) "
        "JOIN pg_catalog.pg_foreign_table t ON t.ftrelid = to_regclass(p.name) "
        "JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver "
        "CROSS JOIN pg_options_to_table(t.ftoptions) o WHERE o.option_name = 'schema_name' "
        "ORDER BY p.place",
        (partitions(connection, "subject"),),
    ).fetchall()
    sums = []
    for number, (server, schema) in enumerate(shards):
        table = sql.Identifier(f"revision_{number}")
        connection.execute(
            sql.SQL(
                "CREATE FOREIGN TABLE {} (writes bigint) SERVER {} OPTIONS "
                "(schema_name {}, table_name 'revision')"
            ).format(table, sql.Identifier(server), sql.Literal(schema))
        )
        sums.append(sql.SQL("SELECT sum(writes) AS writes FROM {}").format(table))
        try:
            connection.execute(sums[-1])
        except psycopg.errors.UndefinedTable as error:
            raise GalleryFormatError(
                f"gallery {address.shown}: its shard {server} has an older schema: open each shard's "
                "gallery once for writing, then this one"
            ) from error
    connection.execute(
        sql.SQL("CREATE VIEW revision AS {}").format(sql.SQL(" UNION ALL ").join(sums))
    )
