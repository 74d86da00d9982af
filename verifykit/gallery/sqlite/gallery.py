"""A gallery in one SQLite file: durable, and shared between processes."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from verifykit import _sqlite
from verifykit._files import require_possible
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    SubjectExistsError,
    SubjectNotFoundError,
    TemplateFormatError,
    shortened,
    shown,
)
from verifykit.gallery.base import (
    Enrolment,
    Entry,
    GalleryIdentity,
    GalleryInfo,
    KeySource,
    OnExisting,
    RekeyReport,
    StoredGallery,
    TransferReport,
    checked_identity,
    checked_question,
    checked_timeout,
    embedding_from_blob,
    metadata_from_json,
    new_entry,
    require_no_crops,
    require_same_model,
    unix_time,
)
from verifykit.gallery.snapshot import IndexSnapshot
from verifykit.gallery.sqlite.check import problems
from verifykit.gallery.sqlite.connection import Connections, log_bytes, require_file
from verifykit.gallery.sqlite.encryption import Keyring, Values, key_description
from verifykit.gallery.sqlite.index import FileIndex, living_text, stored_metadata
from verifykit.gallery.sqlite.rekey import STATE, encrypt_gallery
from verifykit.gallery.sqlite.rows import (
    erase,
    find_row,
    next_revision,
    note_copied_since,
    read_copied_since,
    read_crops,
    read_enrolments,
    read_ids,
    read_metadata,
    read_templates,
    store,
)
from verifykit.gallery.sqlite.schema import (
    create_file,
    identity_of,
    is_finished,
    migrate,
    read_identity,
    version_of,
)
from verifykit.gallery.subject_ids import find_subject
from verifykit.gallery.times import EARLIEST, iso_time
from verifykit.scoring import checked_embeddings, checked_fusion
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template

# Other writers wait for the end of a transaction, in which every erasure is written to the audit log.
ERASED_AT_ONCE = 20


class SqliteGallery(StoredGallery):
    """A :class:`~verifykit.gallery.Gallery` in an SQLite file with a write-ahead log.

    May be shared between threads, and opened by any number of processes, of which one writes at a time.
    The file must be on a local disk. Removing writes zeros over a subject; the space is not given back
    (a copy makes a new file), and a keyed hash of the id may stay behind. The first search reads all
    templates into memory, later ones only what has changed since; the other calls read what they need.

    Args:
        path: The file.
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, written into a new file, human-readable.
        key: Of an encrypted gallery: 32 bytes, a key file's path, ``"env:NAME"``, or a callable that
            returns the bytes. A new file is then encrypted. Only counts, sizes, times and the model's name
            and digest are stored in plain text.
        create: Whether to make the file when there is none.
        read_only: Refuse to write, and need no permission to.
        timeout_s: How long a writer waits for another.

    Raises:
        TemplateMismatchError: The file was made with another model.
        GalleryKeyError: The key cannot be read or is another one, the file is encrypted and there is none,
            or the file is not encrypted and there is one. Any call may raise it: files are encrypted, and
            their keys exchanged, while they are open.
        GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
        GalleryLockedError: The file was locked for longer than the timeout.
        GalleryError: It cannot be made or opened: no such folder, no permission, a full disk.
        InputError: No such fusion or timeout.
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
        identity = GalleryIdentity(spec_digest, embedding_size, fusion, model)
        found = self._open(
            identity, create=create, read_only=read_only, timeout_s=checked_timeout(timeout_s)
        )
        self.spec_digest = spec_digest
        self.embedding_size = embedding_size
        self.model, self.created = found.model, found.created
        self.encrypted = self._keyring.key is not None
        self._index = FileIndex(self.path, embedding_size, self.fusion)
        self._opened = partial(
            SqliteGallery,
            self.path.absolute(),
            spec_digest=spec_digest,
            embedding_size=embedding_size,
            fusion=self.fusion,
            model=model,
            create=False,
            read_only=read_only,
            timeout_s=timeout_s,
        )

    def __reduce__(self) -> tuple[Callable[..., SqliteGallery], tuple[object, ...]]:
        return _opened_again, (self._opened, self._keyring.portable_source())

    def _open(
        self, identity: GalleryIdentity, *, create: bool, read_only: bool, timeout_s: float
    ) -> GalleryIdentity:
        path = self.path
        require_possible(path, GalleryError)
        writable = os.access(path.parent, os.W_OK) or not path.exists()
        if create and not read_only and writable and not is_finished(path, timeout_s):
            create_file(path, identity, timeout_s, self._keyring.key)
        require_file(path)
        self._connections = Connections(
            path, read_only=read_only, timeout_s=timeout_s, migrate=migrate
        )
        try:
            with self._connections.reading() as file:
                found = read_identity(file, path)
                self._keyring.values(file)
            require_same_model(str(path), found, identity)
            if not read_only and log_bytes(path):
                # A process that was killed may have left erased content in the log. Where that cannot
                # be written, the gallery can still be read.
                with contextlib.suppress(GalleryError):
                    self._connections.wipe_log(wait=False)
        except BaseException:
            self._connections.close()
            raise
        return found

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
            subject_id: As in :meth:`Gallery.add`, like ``templates`` and ``metadata``.
            templates: One for each image.
            metadata: A JSON object.
            crops: What to keep of each template's image, for enrolling again with another model; only in
                an encrypted gallery. Empty for nothing.
        """
        entry = new_entry(self, subject_id, templates, metadata, crops=crops)
        self.add_entries([entry], "append")

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """See :meth:`SupportsTransfer.add_entries`. One transaction; other writers wait for its end."""
        subjects = templates = skipped = 0
        copied = []
        with self._writing() as (file, values):
            revision, now = next_revision(file), int(time.time())
            for entry in entries if values.encrypted else map(require_no_crops, entries):
                row = find_row(file, values, entry.subject_id)
                if row is not None and on_existing == "error":
                    raise SubjectExistsError(
                        f"gallery {shortened(self.path)}: subject {shown(entry.subject_id)} is already "
                        "enrolled; nothing was stored"
                    )
                if row is not None and on_existing == "skip":
                    skipped += 1
                    continue
                enrolled_at = now if entry.enrolled_at is None else entry.enrolled_at
                store(file, values, row, entry, revision, enrolled_at)
                copied += [enrolled_at] if EARLIEST <= enrolled_at < now else []
                subjects += 1
                templates += len(entry.embeddings)
            if copied:
                note_copied_since(file, min(copied))
        return TransferReport(subjects, templates, skipped)

    def get(self, subject_id: str) -> Subject:
        """See :meth:`Gallery.get`."""
        with self._reading() as (file, values):
            return self._subject(file, values, *self._row(file, values, subject_id))

    def _subject(
        self, file: sqlite3.Connection, values: Values, subject_id: str, row: int
    ) -> Subject:
        try:
            stored = read_templates(file, row)
            metadata = metadata_from_json(read_metadata(file, values, row, subject_id, stored))
            templates = []
            for template in stored:
                embedding, reasons = template.opened(values, row, subject_id)
                vector = embedding_from_blob(embedding, self.embedding_size)
                reason_codes = tuple(json.loads(reasons))
                templates.append(Template(vector, self.spec_digest, reasons=reason_codes))
            at = None
            if version_of(file) > 1:
                query = "SELECT enrolled_at FROM subject WHERE row = ?"
                at = file.execute(query, (row,)).fetchone()[0]
            return Subject(subject_id, tuple(templates), metadata, at)
        except (GalleryFormatError, TemplateFormatError, ValueError, TypeError) as error:
            raise GalleryFormatError(
                f"gallery {shortened(self.path)}: what is stored of {shown(subject_id)} is damaged: "
                f"{error}; run `verifykit gallery check`, remove the subject and enrol again"
            ) from error

    def _row(self, file: sqlite3.Connection, values: Values, subject_id: str) -> tuple[str, int]:
        """Return the id of a subject as it is stored, and its row."""
        found = find_subject(subject_id, partial(find_row, file, values))
        if found is None:
            raise SubjectNotFoundError(
                f"gallery {shortened(self.path)}: subject {shown(subject_id)} is not enrolled"
            )
        return found

    def crops(self, subject_id: str) -> list[bytes]:
        """See :meth:`SupportsCrops.crops`."""
        with self._reading() as (file, values):
            subject_id, row = self._row(file, values, subject_id)
            return read_crops(file, values, row, subject_id)

    def enrolments(self) -> list[Enrolment]:
        """See :meth:`SupportsExpiry.enrolments`."""
        with self._reading() as (file, values):
            return [enrolment for _, enrolment in read_enrolments(file, values)]

    def expire(self, before: int, on_erase: Callable[[Enrolment], None]) -> tuple[int, bool]:
        """See :meth:`SupportsExpiry.expire`; false as long as bytes are in the write-ahead log."""
        condition = "WHERE coalesce(enrolled_at, ?) < ? ORDER BY row LIMIT ?"
        limits = (unix_time(self.created), before, ERASED_AT_ONCE)
        with self._writing() as (file, values):
            found = read_enrolments(file, values, condition, limits)
            for row, enrolment in found:
                erase(file, row, next_revision(file))
                on_erase(enrolment)
        return len(found), self._connections.wipe_log(wait=not found)

    def rekey(
        self, key: KeySource, *, on_progress: Callable[[int, int], None] | None = None
    ) -> RekeyReport:
        """See :meth:`SupportsRekey.rekey`; other processes get ``GalleryKeyError`` afterwards."""
        report = encrypt_gallery(self.path, key, old_key=self._keyring.key, on_progress=on_progress)
        self._keyring = Keyring(self.path, key)
        self.encrypted = True
        return report

    def remove(self, subject_id: str) -> int:
        """See :meth:`Gallery.remove`. Erased from the file, and from its write-ahead log.

        Raises:
            GalleryLockedError: Removed, and found by no search any more, but another process is still
                reading: its bytes leave the log with the next ``remove``, or when the last process
                closes the gallery.
        """
        with self._writing() as (file, values):
            subject_id, row = self._row(file, values, subject_id)
            count = erase(file, row, next_revision(file))
        if not self._connections.wipe_log():
            raise GalleryLockedError(
                f"gallery {shortened(self.path)}: {shown(subject_id)} is removed, but another process is "
                "reading, so the bytes are still in the write-ahead log: they go with the next removal, or "
                "when the last process closes the gallery"
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

    def snapshot(self) -> IndexSnapshot:
        """See :meth:`SupportsSnapshot.snapshot`. It holds no lock, and keeps no writer from the file."""
        with self._reading() as (file, values):
            view, _ = self._index.refresh(file, values)
            return IndexSnapshot(self._info(file), view)

    def info(self) -> GalleryInfo:
        """Return what ``verifykit gallery info`` shows, JSON-ready."""
        with self._reading() as (file, _):
            return self._info(file)

    def _info(self, file: sqlite3.Connection) -> GalleryInfo:
        crops = "SELECT count(*) FROM subject s JOIN crop c ON c.subject = s.row"
        version = version_of(file)
        subjects, templates, revision = file.execute(
            "SELECT (SELECT count(*) FROM subject), "
            "(SELECT count(*) FROM subject s JOIN template t ON t.subject = s.row), "
            "(SELECT value FROM meta WHERE key = 'revision')"
        ).fetchone()
        found = {
            "path": str(self.path),
            "model": self.model,
            "spec_digest": self.spec_digest,
            "embedding_size": self.embedding_size,
            "created": self.created,
            "schema_version": version,
            **key_description(file),
            "subject_count": subjects,
            "template_count": templates,
            "crop_count": file.execute(crops).fetchone()[0] if version > 1 else 0,
            "revision": revision,
        }
        copied_since = read_copied_since(file)
        if copied_since is not None:
            found["copied_since"] = iso_time(copied_since)
        if _sqlite.has_table(file, STATE):
            found["sealing_unfinished"] = True
        found["size_bytes"] = self.path.stat().st_size
        return cast("GalleryInfo", found)

    def check(self) -> list[str]:
        """Read everything and return a sentence for each problem, none for a sound file."""
        with self._reading() as (file, values):
            return problems(file, values, self.embedding_size, unix_time(self.created))

    def close(self) -> None:
        """Close the file. The gallery cannot be used afterwards; may be called twice."""
        self._connections.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, Values]]:
        with self._connections.reading() as file:
            yield file, self._keyring.values(file)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Values]]:
        with self._connections.writing() as file:
            yield file, self._keyring.values(file)


def _opened_again(opened: Callable[..., SqliteGallery], key: KeySource | None) -> SqliteGallery:
    return opened(key=key)
