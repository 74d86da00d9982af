"""Encrypt a gallery file, or encrypt it with another key, while others use it.

Encrypted copies of all values are written to tables next to those in use, in the same file and in small
transactions: killed at any moment, the gallery is what it was, and the next run continues. Then one
transaction takes in what has changed meanwhile and exchanges the tables. SQLite does the rest: no reader
sees half of it, a writer who waits for the lock writes into the new tables, and ``secure_delete`` writes
zeros over every page of the old ones.

A second file, renamed over the first, would not do: a write-ahead log belongs to the name of a file, so
those who have the old file open and those who open the new one would write to the same log.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifykit import _sqlite
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryKeyError,
    GalleryLockedError,
    shortened,
)
from verifykit.gallery.base import KeySource, RekeyReport, checked_timeout
from verifykit.gallery.sqlite.connection import Connections
from verifykit.gallery.sqlite.encryption import (
    Keyring,
    Values,
    embedding_place,
    id_place,
    key_description,
    nonces,
    pack_record,
    read_key,
    reasons_place,
    record_place,
    salted,
    values_of,
)
from verifykit.gallery.sqlite.index import named
from verifykit.gallery.sqlite.rows import (
    BESIDE,
    StoredTemplate,
    read_id,
    read_metadata,
    read_revision,
    read_templates,
    stored_crops,
)
from verifykit.gallery.sqlite.schema import INDEXES, TABLES, identity_of, is_whole, migrate

REPLACED = ("content", "subject", "template", "crop")
"""The tables that hold something of subjects."""
STATE = "sealing_state"
"""The table in which an unfinished encryption notes how far it is."""


@dataclass(frozen=True)
class RekeyedSubject:
    """A subject's rows for the tables next to those in use."""

    row: int
    revision: int
    subject: tuple[object, ...]
    contents: list[tuple[int, bytes]]
    templates: list[tuple[int, int, bytes, bytes]]
    crops: list[tuple[int, int, int, bytes]]


def rekeyed_subject(
    path: Path,
    file: sqlite3.Connection,
    old: Values,
    new: Values,
    row: int,
    revision: int,
    enrolled_at: int | None,
    id_content: int,
    metadata_content: int,
) -> RekeyedSubject:
    """Decrypt all that is stored of a subject, and encrypt it with the new key for the same rows."""
    try:
        subject_id = read_id(file, old, row)
        stored = read_templates(file, row)
        metadata = read_metadata(file, old, row, subject_id, stored)
        name = subject_id.encode()
        templates = [_template(old, new, row, subject_id, template) for template in stored]
        crops = [
            (crop, row, template, new.encrypt(old.decrypt(body, place), place))
            for crop, template, body, place in stored_crops(file, row, subject_id)
        ]
    except (GalleryFormatError, ValueError, TypeError, AttributeError) as error:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: {named(file, old, row)} is damaged: {error}; run `verifykit "
            "gallery check`, remove the subject and enrol again; nothing was changed"
        ) from error
    place = record_place(row, revision, enrolled_at, nonces([t[2] for t in templates]))
    return RekeyedSubject(
        row,
        revision,
        (row, new.id_key(subject_id), id_content, metadata_content, revision, enrolled_at),
        [
            (id_content, new.encrypt(name, id_place(row))),
            (metadata_content, new.encrypt(pack_record(name, metadata.encode()), place)),
        ],
        templates,
        crops,
    )


def _template(
    old: Values, new: Values, row: int, subject_id: str, template: StoredTemplate
) -> tuple[int, int, bytes, bytes]:
    name, (embedding, reasons) = subject_id.encode(), template.opened(old, row, subject_id)
    stored = new.encrypt(embedding, embedding_place(row, template.row, name))
    place = reasons_place(row, template.row, name, stored)
    return template.row, row, stored, new.encrypt(reasons, place)


def _write_subject(file: sqlite3.Connection, subject: RekeyedSubject) -> None:
    """Write a subject's rows next to those in use, in place of those of an earlier revision."""
    replace = "INSERT OR REPLACE INTO sealing_"
    file.execute(f"{replace}subject VALUES (?, ?, ?, ?, ?, ?)", subject.subject)
    file.executemany(f"{replace}content VALUES (?, ?)", subject.contents)
    file.executemany(f"{replace}template VALUES (?, ?, ?, ?)", subject.templates)
    file.executemany(f"{replace}crop VALUES (?, ?, ?, ?)", subject.crops)


_BATCH = 500

Progress = Callable[[int, int], None]


def encrypt_gallery(
    path: str | os.PathLike[str],
    key: KeySource,
    *,
    old_key: KeySource | None = None,
    timeout_s: float = 30.0,
    on_progress: Progress | None = None,
) -> RekeyReport:
    """Encrypt a gallery file, or encrypt it with another key; an interrupted run is continued by another.

    The gallery can be read and written meanwhile. Others who have it open get GalleryKeyError from the
    moment on at which it is encrypted, unless what they gave as the key yields the new one by then. The file
    grows to about twice its size; later enrolments use the space.

    Args:
        path: The file.
        key: The key to encrypt with.
        old_key: The key that it is encrypted with; None for a file in plain text.
        timeout_s: How long to wait for other writers, and in the end for readers.
        on_progress: Called with the number of subjects that are copied, and of all of them.

    Raises:
        GalleryKeyError: A key cannot be read, ``old_key`` is another one, or the file is encrypted and none
            is given.
        GalleryLockedError: Others wrote for longer than the timeout; or it is encrypted, but readers kept the
            old bytes from being written over, which another run does.
        GalleryFormatError: It is not a gallery, or is damaged; nothing was changed.
        GalleryError: It cannot be read or written.
    """
    place, new = Path(path), read_key(key)
    timeout_s = checked_timeout(timeout_s)
    identity_of(place, timeout_s)
    connections = Connections(place, read_only=False, timeout_s=timeout_s, migrate=migrate)
    with contextlib.closing(connections):
        already = _has_key(connections, place, new)
        if not already:
            if old_key is None:
                _require_plain(connections, place)
            _Rekeying(connections, Keyring(place, old_key), new).run(on_progress)
        if not connections.wipe_log():
            raise GalleryLockedError(
                f"gallery {shortened(place)}: it is encrypted, but another process is reading, so the old "
                "bytes are still in the file: run the same command again"
            )
        with connections.reading() as file:
            count = file.execute("SELECT count(*) FROM subject").fetchone()[0]
            query = "SELECT value FROM meta WHERE key = 'key_fingerprint'"
            return RekeyReport(count, file.execute(query).fetchone()[0], already)


def _has_key(connections: Connections, path: Path, key: bytes) -> bool:
    with connections.reading() as file:
        try:
            return Keyring(path, key).values(file).encrypted
        except GalleryKeyError:
            return False


def _require_plain(connections: Connections, path: Path) -> None:
    with connections.reading() as file:
        found = key_description(file)
    if found["encrypted"] != "no":
        raise GalleryKeyError(
            f"gallery {shortened(path)}: it is encrypted already, with key {found['key_fingerprint']}: "
            "exchange the key with `verifykit gallery rotate-key`"
        )


class _Rekeying:
    """One run."""

    def __init__(self, connections: Connections, keyring: Keyring, key: bytes) -> None:
        self._connections, self._keyring, self._key = connections, keyring, key
        self._path = connections.path

    def run(self, on_progress: Progress | None) -> None:
        """Copy, take in what changed, and exchange."""
        with self._connections.reading() as file:
            self._keyring.values(file)  # a key that does not fit changes nothing
        with self._connections.writing() as file:
            self._keyring.values(file)
            self._begin(file)
            known = read_revision(file)
        batch = self._batch(on_progress)
        # What is later is taken in under the lock: a pass that waits for others to be still might not end.
        while batch and batch[0].revision <= known:
            with self._connections.writing() as file:
                self._require_mine(file)
                _write(file, batch)
            batch = self._batch(on_progress)
        with self._connections.writing() as file:
            while batch := self._next(file):
                _write(file, batch)
            self._require_mine(file)
            _exchange(file, self._path)

    def _batch(self, on_progress: Progress | None) -> list[RekeyedSubject]:
        with self._connections.reading() as file:
            batch = self._next(file)
            count = "SELECT (SELECT count(*) FROM sealing_subject), (SELECT count(*) FROM subject)"
            done, total = file.execute(count).fetchone()
        if on_progress:
            on_progress(min(done, total), total)
        return batch

    def _begin(self, file: sqlite3.Connection) -> None:
        """Continue what a run with the same keys has written, or start again."""
        meta = _table(file, "meta")
        of = meta.get("file_salt", meta.get("id_salt"))
        if _sqlite.has_table(file, STATE):
            self._state = _table(file, STATE)
            with contextlib.suppress(GalleryKeyError, GalleryFormatError):
                if self._state["of"] == of:
                    self._new = values_of(self._path, {**meta, **self._state}, self._key)
                    return
            for name in (*REPLACED, "state"):
                file.execute(f"DROP TABLE {BESIDE}{name}")
        for name in REPLACED:
            file.execute(f"CREATE TABLE {BESIDE}{name} {TABLES[name]}")
        file.execute(f"CREATE TABLE {BESIDE}state {TABLES['meta']}")
        self._state = {**salted(meta, self._key), "of": of, "revision": 0, "row": 0}
        file.executemany("INSERT INTO sealing_state VALUES (?, ?)", self._state.items())
        self._new = values_of(self._path, {**meta, **self._state}, self._key)

    def _require_mine(self, file: sqlite3.Connection) -> dict[str, Any]:
        """Return the state of this run, unless another took its place: two keys must not be mixed."""
        self._keyring.values(file)
        state = _table(file, STATE) if _sqlite.has_table(file, STATE) else {}
        if state.get("file_salt") != self._state["file_salt"]:
            raise GalleryError(
                f"gallery {shortened(self._path)}: another process encrypts it at the same time: let it "
                "finish, and look at `verifykit gallery info`"
            )
        return state

    def _next(self, file: sqlite3.Connection) -> list[RekeyedSubject]:
        state, old = self._require_mine(file), self._keyring.values(file)
        query = (
            "SELECT row, revision, enrolled_at, id_content, metadata_content FROM subject "
            "WHERE (revision, row) > (?, ?) ORDER BY revision, row LIMIT ?"
        )
        found = file.execute(query, (state["revision"], state["row"], _BATCH)).fetchall()
        return [rekeyed_subject(self._path, file, old, self._new, *subject) for subject in found]


def _write(file: sqlite3.Connection, batch: list[RekeyedSubject]) -> None:
    """Write a batch, except subjects who have changed since it was read: they are copied later."""
    current = "SELECT 1 FROM subject WHERE row = ? AND revision = ?"
    for subject in batch:
        if file.execute(current, (subject.row, subject.revision)).fetchone():
            _write_subject(file, subject)
    last = batch[-1]
    done = "UPDATE sealing_state SET value = ? WHERE key = ?"
    file.executemany(done, [(last.revision, "revision"), (last.row, "row")])


# What is erased keeps its row; a subject who was removed since, or has other metadata by
# now, leaves none that is not zero.
_COMPLETE = (
    """INSERT OR REPLACE INTO sealing_content SELECT row, zeroblob(length(body)) FROM content
    WHERE row NOT IN (SELECT id_content FROM subject UNION ALL SELECT metadata_content FROM subject)""",
    """INSERT OR REPLACE INTO sealing_template
    SELECT row, subject, zeroblob(length(embedding)), zeroblob(length(reasons)) FROM template
    WHERE subject NOT IN (SELECT row FROM subject)""",
    """INSERT OR REPLACE INTO sealing_crop SELECT row, subject, template, zeroblob(length(body)) FROM crop
    WHERE subject NOT IN (SELECT row FROM subject)""",
    "DELETE FROM sealing_subject WHERE row NOT IN (SELECT row FROM subject)",
    "DROP VIEW IF EXISTS enrolled",
    f"CREATE TABLE sealing_meta {TABLES['meta']}",
)


_LEFT_OUT = """
    SELECT count(*) FROM subject s LEFT JOIN sealing_subject b ON b.row = s.row AND b.revision = s.revision
    WHERE b.row IS NULL
        OR (SELECT count(*) FROM sealing_content c WHERE c.row IN (s.id_content, s.metadata_content)) < 2
        OR EXISTS (SELECT 1 FROM template t WHERE t.subject = s.row
            AND NOT EXISTS (SELECT 1 FROM sealing_template x WHERE x.row = t.row AND x.subject = s.row))"""


def _exchange(file: sqlite3.Connection, path: Path) -> None:
    left_out = file.execute(_LEFT_OUT).fetchone()[0]
    if left_out:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: {left_out} of the subjects that an earlier run has encrypted are "
            "damaged; the gallery is as it was: encrypt it with another new key, which starts again"
        )
    for statement in _COMPLETE:
        file.execute(statement)
    state, meta = _table(file, STATE), _table(file, "meta")
    new = {key: value for key, value in state.items() if key not in ("of", "revision", "row")}
    meta.pop("id_salt", None)
    file.executemany("INSERT INTO sealing_meta VALUES (?, ?)", {**meta, **new}.items())
    made = "SELECT seq, name FROM sqlite_sequence WHERE name IN ('content', 'subject', 'template', 'crop')"
    numbers = file.execute(made).fetchall()
    for name in (*REPLACED, "meta"):
        file.execute(f"DROP TABLE {name}")
        file.execute(f"ALTER TABLE {BESIDE}{name} RENAME TO {name}")
    file.execute("DROP TABLE sealing_state")
    for number, name in numbers:
        file.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
        file.execute("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", (number, name))
    for statement in INDEXES:
        file.execute(statement)
    if not is_whole(file):
        raise GalleryFormatError(
            f"gallery {shortened(path)}: its parts do not fit together: run `verifykit gallery check`; it "
            "is as it was"
        )


def _table(file: sqlite3.Connection, name: str) -> dict[str, Any]:
    return dict(file.execute(f"SELECT key, value FROM {name}").fetchall())  # noqa: S608
