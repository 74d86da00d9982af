"""The schema of a gallery on a PostgreSQL server, version by version."""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

# Each is run once, in order, in one transaction with its number in `schema_version`. What has been
# released is never changed: add another. `{size}` is the length of an embedding.
#
# `metadata` is the text that was given; `filter` is the same for questions, where jsonb may reorder keys.
# `reference` holds what scoring.reference_rows makes of a subject's templates: that is what is searched.
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
)
