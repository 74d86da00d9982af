"""A gallery in one SQLite file: durable, and shared between processes.

What a gallery file says of one subject, of all of them, and of itself.

Storing entries in a gallery file, inside the caller's transaction.

Opening a gallery file: made if there is none, of the right model, with the right key.

Who is in a gallery file since when, and erasing those who have been for too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    SubjectExistsError,
    SubjectNotFoundError,
    TemplateFormatError,
)
from verifykit.gallery.base import (
    Entry,
    OnExisting,
    TransferReport,
    checked_entry,
    checked_identity,
    checked_question,
    checked_subject_id,
    metadata_from_json,
    require_no_crops,
)
from verifykit.gallery.sqlite.check import problems
from verifykit.gallery.sqlite.connection import (
    Connections,
    checked_timeout,
    log_bytes,
    require_file,
)
from verifykit.gallery.sqlite.encryption import Keyring, KeySource, Values, key_description
from verifykit.gallery.sqlite.index import (
    FileIndex,
    embedding_from_blob,
    living_text,
    stored_metadata,
)
from verifykit.gallery.sqlite.rows import (
    erase,
    find_row,
    next_revision,
    read_crops,
    read_id,
    read_ids,
    read_metadata,
    read_templates,
    store,
)
from verifykit.gallery.sqlite.schema import (
    FileIdentity,
    create_file,
    is_finished,
    migrate,
    read_identity,
    require_model,
    version_of,
)
from verifykit.scoring import checked_embeddings, checked_fusion
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template


def read_subject(
    path: Path,
    file: sqlite3.Connection,
    values: Values,
    row: int,
    subject_id: str,
    *,
    spec_digest: str,
    embedding_size: int,
) -> Subject:
    """All that is stored of a subject, but crops.

    Args:
        path: The file, for messages.
        file: In a transaction.
        values: The file's.
        row: The subject's.
        subject_id: The subject's.
        spec_digest: Digest of the file's model.
        embedding_size: D.

    Raises:
        GalleryFormatError: It is damaged, or was changed.
    """
    try:
        stored = read_templates(file, row)
        metadata = metadata_from_json(read_metadata(file, values, row, subject_id, stored))
        templates = []
        for template in stored:
            embedding, reasons = template.opened(values, row, subject_id)
            vector = embedding_from_blob(embedding, embedding_size)
            templates.append(Template(vector, spec_digest, reasons=tuple(json.loads(reasons))))
        return Subject(subject_id, tuple(templates), metadata, _enrolled_at(file, row))
    except (GalleryFormatError, TemplateFormatError, ValueError, TypeError) as error:
        raise GalleryFormatError(
            f"gallery {path}: what is stored of {subject_id!r} is damaged: {error}; run "
            "`verifykit gallery check`, remove the subject and enrol again"
        ) from error


def required_row(path: Path, file: sqlite3.Connection, values: Values, subject_id: str) -> int:
    """A subject's row number.

    Raises:
        SubjectNotFoundError: Nobody is enrolled under this id.
        GalleryFormatError: A subject is in the place of another.
    """
    row = find_row(file, values, subject_id)
    if row is None:
        raise SubjectNotFoundError(f"gallery {path}: nobody is enrolled as {subject_id!r}")
    return row


def _enrolled_at(file: sqlite3.Connection, row: int) -> int | None:
    if version_of(file) == 1:
        return None
    found: tuple[int | None] = file.execute(
        "SELECT enrolled_at FROM subject WHERE row = ?", (row,)
    ).fetchone()
    return found[0]


def describe(file: sqlite3.Connection) -> dict[str, Any]:
    """Schema, encryption and counts, JSON-ready."""
    subjects, templates, revision = file.execute(
        "SELECT (SELECT count(*) FROM subject), "
        "(SELECT count(*) FROM subject s JOIN template t ON t.subject = s.row), "
        "(SELECT value FROM meta WHERE key = 'revision')"
    ).fetchone()
    crops = "SELECT count(*) FROM subject s JOIN crop c ON c.subject = s.row"
    version = version_of(file)
    unfinished = "SELECT 1 FROM sqlite_master WHERE name = 'sealing_state'"
    return {
        "schema_version": version,
        **key_description(file),
        "subject_count": subjects,
        "template_count": templates,
        "crop_count": file.execute(crops).fetchone()[0] if version > 1 else 0,
        "revision": revision,
        **({"sealing_unfinished": True} if file.execute(unfinished).fetchone() else {}),
    }


def store_entries(
    path: Path,
    file: sqlite3.Connection,
    values: Values,
    entries: Iterable[Entry],
    on_existing: OnExisting,
) -> TransferReport:
    """Store entries as one revision of the file.

    Args:
        path: The file, for messages.
        file: In a write transaction.
        values: The file's.
        entries: Checked entries.
        on_existing: What to do with a subject who was enrolled before.

    Raises:
        SubjectExistsError: ``on_existing="error"``, and a subject is there.
        GalleryFormatError: A subject who is there is damaged.
        GalleryError: Crops are to be kept in a file that is not encrypted.
    """
    subjects = templates = skipped = 0
    revision, now = next_revision(file), int(time.time())
    for entry in entries if values.sealed else map(require_no_crops, entries):
        row = find_row(file, values, entry.subject_id)
        if row is not None and on_existing == "error":
            raise SubjectExistsError(
                f"gallery {path}: subject {entry.subject_id!r} is already enrolled; nothing was stored"
            )
        if row is not None and on_existing == "skip":
            skipped += 1
            continue
        enrolled_at = now if entry.enrolled_at is None else entry.enrolled_at
        store(file, values, row, entry, revision, enrolled_at)
        subjects += 1
        templates += len(entry.embeddings)
    return TransferReport(subjects, templates, skipped)


def open_file(
    path: Path,
    wanted: FileIdentity,
    keyring: Keyring,
    *,
    create: bool,
    read_only: bool,
    timeout_s: float,
) -> tuple[Connections, FileIdentity]:
    """Open a gallery file.

    Args:
        path: The file.
        wanted: The model that it is opened for, and what a new file says about itself.
        keyring: With the key, or without one.
        create: Whether to make the file when there is none.
        read_only: Refuse to write, and need no permission to.
        timeout_s: How long to wait for another process.

    Returns:
        Its connections, and what it says about itself.

    Raises:
        TemplateMismatchError: It was made with another model.
        GalleryKeyError: As for :class:`Keyring`.
        GalleryFormatError: It is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be made or opened.
    """
    writable = os.access(path.parent, os.W_OK) or not path.exists()
    if create and not read_only and writable and not is_finished(path):
        create_file(path, wanted, timeout_s, keyring.key)
    require_file(path)
    connections = Connections(path, read_only=read_only, timeout_s=timeout_s)
    try:
        with connections.reading() as file:
            found = read_identity(file, path)
            keyring.values(file)
        require_model(path, found, wanted.spec_digest, wanted.embedding_size, wanted.model)
        if not read_only and log_bytes(path):
            # A process that was killed may have left erased content in the log. Where that cannot
            # be written, the gallery can still be read.
            with contextlib.suppress(GalleryError):
                connections.wipe_log(wait=False)
    except BaseException:
        connections.close()
        raise
    return connections, found


def identity_of(path: Path, timeout_s: float) -> FileIdentity:
    """What a file says about itself; takes no key.

    Raises:
        GalleryFormatError: It is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be opened.
    """
    require_file(path)
    connections = Connections(path, read_only=True, timeout_s=timeout_s)
    with contextlib.closing(connections), connections.reading() as file:
        return read_identity(file, path)


# Other writers wait for the end of a transaction, in which every erasure is written to the audit log.
ERASED_AT_ONCE = 20

_SCHEMA_2 = """
    SELECT row, enrolled_at,
        (SELECT count(*) FROM template t WHERE t.subject = subject.row),
        (SELECT count(*) FROM crop c WHERE c.subject = subject.row)
    FROM subject {condition}"""
_SCHEMA_1 = """
    SELECT row, NULL, (SELECT count(*) FROM template t WHERE t.subject = subject.row), 0
    FROM subject {condition}"""


@dataclass(frozen=True)
class Enrolment:
    """What a gallery says of a subject without opening what is stored.

    Attributes:
        subject_id: Who.
        enrolled_at: When templates were last enrolled, Unix seconds; None where an earlier version of
            verifykit enrolled, which did not note it: then since the gallery was made at the longest.
        template_count: Templates.
        crop_count: Images that were kept.
    """

    subject_id: str
    enrolled_at: int | None
    template_count: int
    crop_count: int


def read_enrolments(
    file: sqlite3.Connection,
    values: Values,
    condition: str = "",
    parameters: tuple[int, ...] = (),
) -> list[tuple[int, Enrolment]]:
    """Row number and enrolment of every subject, in the order of first enrolment.

    Args:
        file: In a transaction.
        values: The file's.
        condition: SQL behind the tables, for some of them only.
        parameters: Its values.

    Raises:
        GalleryFormatError: The id of a subject is not what was stored.
    """
    query = _SCHEMA_1 if version_of(file) == 1 else _SCHEMA_2
    found = file.execute(query.format(condition=condition), parameters).fetchall()
    return [(row, Enrolment(read_id(file, values, row), *counts)) for row, *counts in found]


def erase_expired(
    file: sqlite3.Connection,
    values: Values,
    created: str,
    before: int,
    on_erase: Callable[[Enrolment], None],
) -> list[Enrolment]:
    """Erase some of those whose last enrolment is older.

    Args:
        file: In a write transaction, so that nobody is enrolled again meanwhile.
        values: The file's.
        created: When the gallery was made: from then on counts who was enrolled at an unknown time.
        before: Unix seconds.
        on_erase: Told of each one before the transaction ends; what it raises undoes all of them.

    Returns:
        Those who were erased, at most ``ERASED_AT_ONCE``.

    Raises:
        GalleryFormatError: The id of a subject is not what was stored.
    """
    condition = "WHERE coalesce(enrolled_at, ?) < ? ORDER BY row LIMIT ?"
    found = read_enrolments(file, values, condition, (unix_time(created), before, ERASED_AT_ONCE))
    for row, enrolment in found:
        erase(file, row, next_revision(file))
        on_erase(enrolment)
    return [enrolment for _, enrolment in found]


def unix_time(created: str) -> int:
    """When a gallery was made, Unix seconds.

    Args:
        created: ISO 8601, as its file says it.
    """
    return int(datetime.fromisoformat(created).timestamp())


class SqliteGallery:
    """A :class:`~verifykit.gallery.Gallery` in an SQLite file with a write-ahead log.

    May be shared between threads, and opened by any number of processes, of which one writes at a time.
    The file must lie on a local disk. Removing writes zeros over a subject; the space is not given back
    (a copy makes a new file), and a keyed hash of the id may stay behind. The first search reads all
    templates into memory, later ones only what has changed since; the other calls read what they need.

    Args:
        path: The file.
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, written into a new file, for people.
        key: Of an encrypted gallery: 32 bytes, a key file's path, ``"env:NAME"``, or a callable that
            returns the bytes. A new file is then encrypted. Only counts, sizes, times and the model's name
            and digest lie in clear.
        create: Whether to make the file when there is none.
        read_only: Refuse to write, and need no permission to.
        timeout_s: How long a writer waits for another.

    Raises:
        TemplateMismatchError: The file was made with another model.
        GalleryKeyError: The key cannot be read or is another one, the file is encrypted and there is none,
            or the file is not encrypted and there is one. Any call may raise it: files are encrypted, and
            their keys exchanged, while they are open.
        GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
        GalleryLockedError: The file was locked for longer than the time-out.
        GalleryError: It cannot be made or opened: no such folder, no permission, a full disk.
        InputError: No such fusion or time-out.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        spec_digest: str,
        embedding_size: int,
        fusion: Fusion = "max",
        model: str = "",
        key: KeySource | None = None,
        create: bool = True,
        read_only: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        checked_identity(spec_digest, embedding_size)
        self.fusion = checked_fusion(fusion)
        self.path = Path(path)
        self._keyring = Keyring(self.path, key)
        self._connections, identity = open_file(
            self.path,
            FileIdentity(spec_digest, embedding_size, model, ""),
            self._keyring,
            create=create,
            read_only=read_only,
            timeout_s=checked_timeout(timeout_s),
        )
        self.spec_digest = spec_digest
        self.embedding_size = embedding_size
        self.model = identity.model
        self.created = identity.created
        self.encrypted = self._keyring.key is not None
        self._index = FileIndex(self.path, embedding_size, self.fusion)

    @classmethod
    def open_existing(
        cls,
        path: str | os.PathLike[str],
        *,
        key: KeySource | None = None,
        fusion: Fusion = "max",
        read_only: bool = True,
        timeout_s: float = 5.0,
    ) -> SqliteGallery:
        """Open a file for whatever model it was made with.

        Args:
            path: The file, which exists.
            key: Of an encrypted gallery.
            fusion: How the scores of a subject's templates become one.
            read_only: Refuse to write, and need no permission to.
            timeout_s: How long a writer waits for another.

        Raises:
            GalleryKeyError: As for the class.
            GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
            GalleryError: It cannot be opened.
        """
        place = Path(path)
        identity = identity_of(place, timeout_s)
        return cls(
            place,
            spec_digest=identity.spec_digest,
            embedding_size=identity.embedding_size,
            fusion=fusion,
            model=identity.model,
            key=key,
            create=False,
            read_only=read_only,
            timeout_s=timeout_s,
        )

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
        *,
        crops: Sequence[bytes] = (),
    ) -> None:
        """See :meth:`Gallery.add`. A crash at any moment leaves all of the templates or none.

        Args:
            subject_id: See there.
            templates: See there.
            metadata: See there.
            crops: What to keep of each template's image, for enrolling again with another model; only in
                an encrypted gallery. Empty for nothing.
        """
        entry = checked_entry(
            subject_id,
            templates,
            metadata,
            spec_digest=self.spec_digest,
            embedding_size=self.embedding_size,
            crops=crops,
        )
        self.add_entries([entry], "append")

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """See :meth:`PortableGallery.add_entries`. One transaction; other writers wait for its end."""
        with self._writing() as (file, values):
            return store_entries(self.path, file, values, entries, on_existing)

    def get(self, subject_id: str) -> Subject:
        """See :meth:`Gallery.get`."""
        subject_id = checked_subject_id(subject_id)
        with self._reading() as (file, values):
            return read_subject(
                self.path,
                file,
                values,
                required_row(self.path, file, values, subject_id),
                subject_id,
                spec_digest=self.spec_digest,
                embedding_size=self.embedding_size,
            )

    def crops(self, subject_id: str) -> list[bytes]:
        """What was kept of a subject's images, in the order of enrolment; templates may lack it.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            GalleryFormatError: One of them was changed.
            InputError: No such subject id is possible.
        """
        subject_id = checked_subject_id(subject_id)
        with self._reading() as (file, values):
            row = required_row(self.path, file, values, subject_id)
            return read_crops(file, values, row, subject_id)

    def enrolments(self) -> list[Enrolment]:
        """Who is enrolled since when, with how many templates and crops; opens none of them."""
        with self._reading() as (file, values):
            return [enrolment for _, enrolment in read_enrolments(file, values)]

    def expire(self, before: int, on_erase: Callable[[Enrolment], None]) -> tuple[int, bool]:
        """Erase some of those whose last enrolment is older; call it again until there is none.

        Args:
            before: Unix seconds.
            on_erase: Told of each one before it is final; what it raises undoes this call.

        Returns:
            How many were erased, and whether their bytes have left the write-ahead log too.
        """
        with self._writing() as (file, values):
            erased = erase_expired(file, values, self.created, before, on_erase)
        return len(erased), self._connections.wipe_log(wait=not erased)

    def remove(self, subject_id: str) -> int:
        """See :meth:`Gallery.remove`. Erased from the file, and from its write-ahead log.

        Raises:
            GalleryLockedError: Removed, and found by no search any more, but another process is still
                reading: its bytes leave the log with the next ``remove``, or when the last process
                closes the gallery.
        """
        subject_id = checked_subject_id(subject_id)
        with self._writing() as (file, values):
            row = required_row(self.path, file, values, subject_id)
            count = erase(file, row, next_revision(file))
        if not self._connections.wipe_log():
            raise GalleryLockedError(
                f"gallery {self.path}: {subject_id!r} is removed, but another process is reading, so the "
                "bytes are still in the write-ahead log: they go with the next removal, or when the last "
                "process closes the gallery"
            )
        return count

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`. Sees everything that any process had added before the call."""
        rows = checked_embeddings(probes, self.embedding_size)
        limit, threshold = checked_question(limit, threshold)
        with self._reading() as (file, values):
            view, metadata = self._index.refresh(file, values)
        hits = view.search(rows, limit, threshold)
        return [
            [
                Candidate(s, score, threshold, metadata=stored_metadata(self.path, s, metadata))
                for s, score in found
            ]
            for found in hits
        ]

    def subject_ids(self) -> Iterator[str]:
        """See :meth:`Gallery.subject_ids`; as they were at the call."""
        with self._reading() as (file, values):
            found = read_ids(file, values)
        return iter(sorted(living_text(self.path, subject_id) for subject_id in found))

    def __len__(self) -> int:
        with self._reading() as (file, _):
            return int(file.execute("SELECT count(*) FROM subject").fetchone()[0])

    def info(self) -> dict[str, Any]:
        """What ``verifykit gallery info`` shows, JSON-ready."""
        with self._reading() as (file, _):
            counts = describe(file)
        return {
            "path": str(self.path),
            "model": self.model,
            "spec_digest": self.spec_digest,
            "embedding_size": self.embedding_size,
            "created": self.created,
            **counts,
            "size_bytes": self.path.stat().st_size,
        }

    def check(self) -> list[str]:
        """Read everything and say what is wrong: a sentence a problem, an empty list for none."""
        with self._reading() as (file, values):
            return problems(file, values, self.embedding_size)

    def close(self) -> None:
        """Close the file. The gallery cannot be used afterwards; may be called twice."""
        self._connections.close()

    def __enter__(self) -> SqliteGallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, Values]]:
        with self._connections.reading() as file:
            yield file, self._keyring.values(file)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Values]]:
        with self._connections.writing() as file:
            migrate(file)
            yield file, self._keyring.values(file)
