"""The schema of a gallery on a PostgreSQL server, version by version."""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

# Each is run once, in order, in one transaction with its number in `schema_version`. What has been
# released is never changed: add another. `{size}` is the length of an embedding.
#
# `metadata` is the text that was given; `filter` is the same for questions, where jsonb may reorder keys.
# `reference` holds what scoring.reference_rows makes of a subject's templates: that is what is searched.
#
# `revision` counts writes where they happen, so that a shard counts what comes through its coordinator, and
# a verifykit that knows only schema 1 is counted too. A connection has a row of its own, or waits for the
# few that share it: one row for all would have every writer wait for the commit of another. The sum is
# that of a reader's snapshot, so two of one sum had the same content. Roles that could write without a
# right on this table still can; nobody else may have its function run as its owner.
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
