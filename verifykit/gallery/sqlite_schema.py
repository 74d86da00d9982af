"""The schema of a gallery file: making one, and reading what one says about itself."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from verifykit.errors import GalleryError, GalleryFormatError, TemplateMismatchError
from verifykit.gallery.sqlite_file import connect, set_wal, translated
from verifykit.gallery.sqlite_keyring import salted
from verifykit.gallery.sqlite_tables import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    create_tables,
    is_whole,
    version_of,
)

__all__ = [
    "FileIdentity",
    "create_file",
    "is_finished",
    "read_identity",
    "require_model",
]


@dataclass(frozen=True)
class FileIdentity:
    """What a gallery file says about itself.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        model: That model's name, for people; may be empty.
        created: ISO 8601, UTC.
    """

    spec_digest: str
    embedding_size: int
    model: str
    created: str


def create_file(
    path: Path, identity: FileIdentity, timeout_s: float, key: bytes | None = None
) -> None:
    """Make the file if there is none, or if it is empty; safe when two processes do it at once.

    Only its owner can read and write it: embeddings are biometric data.

    Args:
        path: The file.
        identity: What it will say about itself.
        timeout_s: How long to wait for another process.
        key: Seal what it will hold with this key.

    Raises:
        GalleryKeyError: The extra ``encrypt`` is not installed.
        GalleryError: The folder is missing or cannot be written, or the disk is full.
        GalleryFormatError: There is a file, and it is not an SQLite database.
        GalleryLockedError: Another process held it for longer than the time-out.
    """
    if not path.parent.is_dir():
        raise GalleryError(f"gallery {path}: folder {path.parent} does not exist; make it first")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    except OSError as error:
        raise GalleryError(
            f"gallery {path}: it cannot be made in this folder: {error.strerror}; choose another "
            "folder or change its permissions"
        ) from error
    connection = connect(path, read_only=False, timeout_s=timeout_s)
    with contextlib.closing(connection), translated(path):
        if not _is_fresh(connection):
            return
        connection.execute("PRAGMA page_size=8192").fetchall()
        set_wal(connection, timeout_s)
        connection.execute("BEGIN IMMEDIATE")
        if _is_fresh(connection):  # another process may have been quicker
            create_tables(connection, sealed=key is not None)
            values = {
                "spec_digest": identity.spec_digest,
                "embedding_size": identity.embedding_size,
                "model": identity.model,
                "created": identity.created or _now(),
                "revision": 0,
            }
            values |= salted(values, key)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        connection.execute("COMMIT")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable; systems that cannot open a folder do it by themselves."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_fresh(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not _application_id(connection)


def _application_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def read_identity(connection: sqlite3.Connection, path: Path) -> FileIdentity:
    """What the file says about itself.

    Raises:
        GalleryFormatError: Not a gallery, not finished, damaged, of a newer schema, or a copy that was
            made while somebody wrote.
    """
    with translated(path):
        if _application_id(connection) != APPLICATION_ID:
            raise GalleryFormatError(
                f"gallery {path}: this is not a verifykit gallery; give another path"
            )
        version = version_of(connection)
        if not 1 <= version <= SCHEMA_VERSION:
            raise GalleryFormatError(
                f"gallery {path}: it has schema {version}, this verifykit reads 1 to {SCHEMA_VERSION}: "
                "install the verifykit that wrote it"
            )
        values = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    try:
        identity = FileIdentity(
            str(values["spec_digest"]),
            int(values["embedding_size"]),
            str(values["model"]),
            str(values["created"]),
        )
        salt = values["file_salt" if "file_salt" in values else "id_salt"]
        sound = isinstance(values["revision"], int) and isinstance(salt, bytes)
    except (KeyError, ValueError) as error:
        raise GalleryFormatError(f"gallery {path}: its meta table is damaged: {error!r}") from error
    if identity.embedding_size < 1 or not identity.spec_digest or not sound:
        raise GalleryFormatError(f"gallery {path}: its meta table is damaged: {identity}")
    with translated(path):
        whole = is_whole(connection)
    if not whole:
        raise GalleryFormatError(
            f"gallery {path}: its parts are of different moments, as in a copy that was made while somebody "
            "wrote: export the original (verifykit gallery export), or copy it when nobody has it open"
        )
    return identity


def is_finished(path: Path) -> bool:
    """Whether there surely is a gallery; not so when one is being made, or its maker was killed.

    Looks at the file's first bytes only, so a gallery whose first changes are still in the log may be
    told to be unfinished: :func:`create_file` then finds it whole.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return False
    # https://www.sqlite.org/fileformat2.html, 1.3: the application id is at offset 68.
    return header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def require_model(
    path: Path, identity: FileIdentity, spec_digest: str, embedding_size: int, model: str
) -> None:
    """Whether a file was made with this model.

    Raises:
        TemplateMismatchError: It was made with another.
        GalleryFormatError: The digest agrees but the length of an embedding does not.
    """
    if identity.spec_digest != spec_digest:
        raise TemplateMismatchError(
            f"gallery {path} holds templates of model {identity.model or 'without a name'} "
            f"({identity.spec_digest[:12]}), not of {model or 'this one'} ({spec_digest[:12]}), and the "
            "two cannot be compared: open it with that model, or enrol the subjects again into a new "
            "gallery"
        )
    if identity.embedding_size != embedding_size:
        raise GalleryFormatError(
            f"gallery {path} holds embeddings of {identity.embedding_size} values, the model makes "
            f"{embedding_size}: the file is damaged"
        )
