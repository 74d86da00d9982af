"""What a gallery on a PostgreSQL server says about itself."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from verifykit.errors import GalleryError, GalleryFormatError, InputError, TemplateMismatchError
from verifykit.gallery import postgres_migrations
from verifykit.gallery.postgres_address import PostgresAddress
from verifykit.gallery.postgres_connections import Connection, connect, translated
from verifykit.scoring import FUSIONS
from verifykit.spec import Fusion

__all__ = [
    "PostgresIdentity",
    "find_identity",
    "read_identity",
    "read_version",
    "require_identity",
]


@dataclass(frozen=True)
class PostgresIdentity:
    """What a gallery says about itself.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: That model's name, for people; may be empty.
        created: ISO 8601, UTC.
        version: Of its schema.
    """

    spec_digest: str
    embedding_size: int
    fusion: Fusion
    model: str
    created: str = ""
    version: int = 0


def read_version(connection: Connection, address: PostgresAddress) -> int | None:
    """The version of the gallery's schema; None without a gallery.

    Raises:
        GalleryFormatError: It is newer than this verifykit, or other tables are in its place.
        GalleryError: The database is not in UTF-8.
    """
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
                f"gallery {address.shown}: schema {address.schema} holds tables that are no gallery: "
                "give another verifykit_gallery"
            )
        return None
    found = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    version = int(found[0]) if found else 0
    if version > len(postgres_migrations.MIGRATIONS):
        raise GalleryFormatError(
            f"gallery {address.shown}: it has schema {version}, this verifykit reads "
            f"{len(postgres_migrations.MIGRATIONS)}: install the verifykit that wrote it"
        )
    return version


def read_identity(
    connection: Connection, address: PostgresAddress, *, any_version: bool = False
) -> PostgresIdentity:
    """What the gallery says about itself.

    Args:
        connection: To its server.
        address: The gallery.
        any_version: Whether an older schema than this verifykit's will do.

    Raises:
        GalleryFormatError: Not a gallery, damaged, or of another schema.
        GalleryError: There is none.
    """
    found = read_version(connection, address)
    if found is None:
        raise GalleryError(
            f"gallery {address.shown}: there is no such gallery in this database; check the URL"
        )
    if found != len(postgres_migrations.MIGRATIONS) and not any_version:
        raise GalleryFormatError(
            f"gallery {address.shown}: it has schema {found}, this verifykit reads "
            f"{len(postgres_migrations.MIGRATIONS)}: open it once for writing, which brings it up to date"
        )
    values: dict[str, str] = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    try:
        fusion: Fusion = next(known for known in FUSIONS if known == values["fusion"])
        identity = PostgresIdentity(
            values["spec_digest"],
            int(values["embedding_size"]),
            fusion,
            values["model"],
            values["created"],
            found,
        )
    except (KeyError, ValueError, StopIteration) as error:
        raise GalleryFormatError(
            f"gallery {address.shown}: its table meta is damaged: {error!r}; restore the database"
        ) from error
    return identity


def find_identity(address: PostgresAddress) -> PostgresIdentity | None:
    """What a gallery says about itself, None where there is none.

    Raises:
        GalleryFormatError: Damaged, or of another schema.
        GalleryError: The server cannot be reached.
    """
    with contextlib.closing(connect(address, read_only=True)) as connection, translated(address):
        if read_version(connection, address) is None:
            return None
        return read_identity(connection, address)


def require_identity(
    address: PostgresAddress, found: PostgresIdentity, wanted: PostgresIdentity
) -> None:
    """Whether a gallery was made for this model and this fusion.

    Raises:
        TemplateMismatchError: It was made with another model.
        GalleryFormatError: The digest agrees but the length of an embedding does not.
        InputError: It was made with another fusion.
    """
    if found.spec_digest != wanted.spec_digest:
        raise TemplateMismatchError(
            f"gallery {address.shown} holds templates of model {found.model or 'without a name'} "
            f"({found.spec_digest[:12]}), not of {wanted.model or 'this one'} "
            f"({wanted.spec_digest[:12]}), and the two cannot be compared: open it with that model, or "
            "enrol the subjects again into a new gallery"
        )
    if found.embedding_size != wanted.embedding_size:
        raise GalleryFormatError(
            f"gallery {address.shown} holds embeddings of {found.embedding_size} values, the model "
            f"makes {wanted.embedding_size}: the gallery is damaged"
        )
    if found.fusion != wanted.fusion:
        raise InputError(
            f"gallery {address.shown} fuses scores by {found.fusion!r}, {wanted.fusion!r} was asked "
            "for: copy it to a new gallery with that fusion (verifykit gallery copy --fusion)"
        )
