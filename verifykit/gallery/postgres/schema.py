"""The tables of a gallery on a PostgreSQL server: making and migrating them, and what the gallery says.

A gallery over several servers has tables of the same names where it is opened, whose rows are on the shards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    InputError,
    TemplateFormatError,
    shown,
)
from verifykit.gallery.base import GalleryIdentity, require_same_model
from verifykit.gallery.postgres.connection import (
    Connection,
    PostgresAddress,
    connect,
    driver,
    lock_key,
    translated,
    use_schema,
)
from verifykit.gallery.times import iso_now
from verifykit.scoring import FUSIONS
from verifykit.spec import Fusion

# Each is run once, in order, in one transaction with its number in `schema_version`. What has been
# released is never changed: add another. `{size}` is the length of an embedding.
#
# `metadata` is the text that was given; `filter` is the same for searches, where jsonb may reorder keys.
# `reference` holds what scoring.reference_rows makes of a subject's templates: that is what is searched.
#
# `revision` counts writes where they happen, so that a shard counts what comes through its coordinator, and
# a verifykit that knows only schema 1 is counted too. A connection has a row of its own, or waits for the
# few that share it: one row for all would have every writer wait for the commit of another. The sum is
# that of a reader's snapshot, so two of one sum had the same content. Roles that could write without a
# right on this table still can; no other role may run its function as its owner.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key text PRIMARY KEY, value text NOT NULL)",
        """CREATE TABLE subject (
            subject_id text COLLATE "C" PRIMARY KEY,
            metadata text NOT NULL,
            filter jsonb NOT NULL)""",
        "CREATE INDEX subject_filter ON subject USING gin (filter jsonb_path_ops)",
        """CREATE TABLE template (
            subject_id text COLLATE "C" NOT NULL,
            ordinal integer NOT NULL,
            embedding bytea NOT NULL,
            reasons text NOT NULL,
            PRIMARY KEY (subject_id, ordinal))""",
        """CREATE TABLE reference (
            subject_id text COLLATE "C" NOT NULL,
            ordinal integer NOT NULL,
            reference_row vector({size}) NOT NULL,
            PRIMARY KEY (subject_id, ordinal))""",
    ),
    (
        "CREATE TABLE revision (slot integer PRIMARY KEY, writes bigint NOT NULL)",
        "GRANT SELECT ON revision TO PUBLIC",
        """CREATE FUNCTION count_write() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
            BEGIN
                EXECUTE format(
                    'INSERT INTO %I.revision AS r VALUES ($1, 1) '
                    'ON CONFLICT (slot) DO UPDATE SET writes = r.writes + 1',
                    TG_TABLE_SCHEMA) USING pg_backend_pid() % 65536;
                RETURN NULL;
            END $$""",
        "REVOKE EXECUTE ON FUNCTION count_write() FROM PUBLIC",
        *(
            f"CREATE TRIGGER count_write AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION count_write()"
            for table in ("subject", "template", "reference")
        ),
    ),
)


def read_version(connection: Connection, address: PostgresAddress) -> int | None:
    """Return the version of the gallery's schema; None without a gallery."""
    there = connection.execute(
        "SELECT to_regclass(quote_ident(%s) || '.schema_version') IS NOT NULL, "
        "(SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace(%s)), "
        "current_setting('server_encoding')",
        (address.schema, address.schema),
    ).fetchone()
    is_gallery, tables, encoding = there or (False, 0, "")
    if encoding != "UTF8":
        raise GalleryError(
            f"gallery {address.shown}: the database is in {encoding}: make one with ENCODING 'UTF8'"
        )
    if not is_gallery:
        if tables:
            raise GalleryFormatError(
                f"gallery {address.shown}: schema {address.schema} holds tables that are not a gallery's: "
                "choose another verifykit_gallery"
            )
        return None
    found = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    version = int(found[0]) if found else 0
    if version > len(MIGRATIONS):
        raise GalleryFormatError(
            f"gallery {address.shown}: it has schema {version}, this verifykit reads "
            f"{len(MIGRATIONS)}: install the verifykit that wrote it"
        )
    return version


def read_identity(
    connection: Connection, address: PostgresAddress, *, any_version: bool = False
) -> GalleryIdentity:
    """Return what the gallery says about itself, of this schema or of any."""
    found = read_version(connection, address)
    if found is None:
        raise GalleryError(
            f"gallery {address.shown}: there is no such gallery in this database; check the URL"
        )
    if found != len(MIGRATIONS) and not any_version:
        raise GalleryFormatError(
            f"gallery {address.shown}: it has schema {found}, this verifykit reads "
            f"{len(MIGRATIONS)}: open it once for writing, which brings it up to date"
        )
    values: dict[str, str] = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    try:
        fusion: Fusion = next(known for known in FUSIONS if known == values["fusion"])
        identity = GalleryIdentity(
            values["spec_digest"],
            int(values["embedding_size"]),
            fusion,
            values["model"],
            values["created"],
            found,
        )
    except (KeyError, ValueError, StopIteration) as error:
        raise GalleryFormatError(
            f"gallery {address.shown}: its table meta is damaged: {shown(error)}; restore the database"
        ) from error
    return identity


def find_identity(address: PostgresAddress) -> GalleryIdentity | None:
    """Return what a gallery says about itself, None where there is no gallery."""
    with contextlib.closing(connect(address, read_only=True)) as connection, translated(address):
        if read_version(connection, address) is None:
            return None
        return read_identity(connection, address)


def require_identity(
    address: PostgresAddress, found: GalleryIdentity, required: GalleryIdentity
) -> None:
    """Raise unless a gallery was made for this model and this fusion."""
    require_same_model(address.shown, found, required)
    if found.fusion != required.fusion:
        raise InputError(
            f"gallery {address.shown} fuses scores by {shown(found.fusion)}, {shown(required.fusion)} was "
            "requested: copy it to a new gallery with that fusion (verifykit gallery copy --fusion)"
        )


def partitions(connection: Connection, table: str) -> list[str]:
    """Return the tables that hold a table's rows: itself, or its partitions by their number."""
    found = connection.execute(
        "SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c "
        "ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s) "
        "ORDER BY length(c.relname), c.relname",
        (table,),
    ).fetchall()
    return [name for (name,) in found] or [table]


def coordinate(connection: Connection, address: PostgresAddress, version: int) -> None:
    """Bring a coordinator to the next version of the schema, which every shard has already."""
    steps = {2: sum_revisions}
    if version not in steps:
        raise GalleryFormatError(
            f"gallery {address.shown}: it is spread over shards, which cannot be brought to schema "
            f"{version}: copy it, with the verifykit that wrote it, to a file or one server"
        )
    steps[version](connection, address)


def sum_revisions(connection: Connection, address: PostgresAddress) -> None:
    """Make `revision` the sum of the shards': each counts where its rows are, in the same commit."""
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


# https://github.com/pgvector/pgvector: values of a `vector` that is stored, and of one in an HNSW index.
_LONGEST_STORED = 16_000
LONGEST_INDEXED = 2_000


def require_vector_size(embedding_size: int, *, approximate: bool) -> None:
    """Raise unless pgvector can hold an embedding of this size, and search for it."""
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


def create_tables(address: PostgresAddress, identity: GalleryIdentity) -> None:
    """Make the gallery if it is not there, and bring its schema up to date; safe when several do it."""
    psycopg = driver()
    with contextlib.closing(connect(address)) as connection, translated(address, connection):
        version = read_version(connection, address)
        if version == len(MIGRATIONS):
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
            advice = (
                "it cannot be made: grant this role the right to make a schema (CREATE ON DATABASE)"
                if version is None
                else f"its schema {version} is old: open it once for writing as the role that owns it"
            )
            said = " ".join(str(error).split())
            raise GalleryError(f"gallery {address.shown}: {advice} ({said})") from error


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
            f"{shown(connection.info.dbname)}, then try again ({' '.join(str(error).split())})"
        ) from error


def _migrate(connection: Connection, address: PostgresAddress, identity: GalleryIdentity) -> None:
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
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        if is_local:
            for statement in statements:
                connection.execute(statement.replace("{size}", str(size)).encode())
        else:
            coordinate(connection, address, number)
        connection.execute("INSERT INTO schema_version VALUES (%s, %s)", (number, iso_now()))
    if version:
        return
    values = {
        "spec_digest": identity.spec_digest,
        "embedding_size": str(identity.embedding_size),
        "fusion": identity.fusion,
        "model": identity.model,
        "created": iso_now(),
    }
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO meta VALUES (%s, %s)", values.items())


def has_hnsw(connection: Connection, address: PostgresAddress) -> bool:
    """Return whether the gallery has the index of an approximate search."""
    found = connection.execute(
        "SELECT to_regclass(quote_ident(%s) || '.reference_hnsw') IS NOT NULL", (address.schema,)
    ).fetchone()
    return bool(found and found[0])


def require_local(address: PostgresAddress, tables: Sequence[tuple[str, str]]) -> None:
    """Raise :class:`InputError` when the rows are on shards, where no index can be made from here."""
    if len(tables) > 1:
        raise InputError(
            f"gallery {address.shown}: it is spread over shards, where only the exact search is "
            "possible: open it with approximate=False"
        )


def create_hnsw(connection: Connection) -> None:
    """Make the index of an approximate search; other writers wait until it is finished.

    Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using hierarchical
    navigable small world graphs, 2018; pgvector's default m = 16 and ef_construction = 64.
    """
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    connection.execute(
        "CREATE INDEX IF NOT EXISTS reference_hnsw ON reference "
        "USING hnsw (reference_row vector_ip_ops)"
    )
