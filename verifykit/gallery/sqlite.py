"""A gallery in one SQLite file: durable, and shared between processes."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    SubjectNotFoundError,
    TemplateFormatError,
)
from verifykit.gallery.intake import (
    Entry,
    checked_entry,
    checked_identity,
    checked_question,
    metadata_from_json,
)
from verifykit.gallery.protocol import OnExisting, TransferReport
from verifykit.gallery.sqlite_check import problems
from verifykit.gallery.sqlite_connections import Connections
from verifykit.gallery.sqlite_file import (
    checked_timeout,
    log_bytes,
    require_file,
)
from verifykit.gallery.sqlite_index import FileIndex, embedding_from_blob, living_text
from verifykit.gallery.sqlite_rows import erase, find_row, next_revision, read_subject, store
from verifykit.gallery.sqlite_schema import (
    SCHEMA_VERSION,
    FileIdentity,
    create_file,
    is_finished,
    read_identity,
    require_model,
)
from verifykit.gallery.subject_id import checked_subject_id
from verifykit.scoring import checked_embeddings, checked_fusion
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template

__all__ = ["SqliteGallery"]


class SqliteGallery:
    """A :class:`~verifykit.gallery.Gallery` in an SQLite file with a write-ahead log.

    May be shared between threads, and opened by any number of processes, of which one writes at a time.
    The file must lie on a local disk. Removing writes zeros over a subject; the space is not given back
    (an export and an import make a new file), and a keyed hash of the id may stay behind. The first
    search reads all templates into memory, later ones only what has changed since; the other calls
    read what they need.

    Args:
        path: The file.
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, written into a new file, for people.
        create: Whether to make the file when there is none.
        read_only: Refuse to write, and need no permission to.
        timeout_s: How long a writer waits for another.

    Raises:
        TemplateMismatchError: The file was made with another model.
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
        create: bool = True,
        read_only: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        checked_identity(spec_digest, embedding_size)
        self.fusion = checked_fusion(fusion)
        self.path = Path(path)
        timeout_s = checked_timeout(timeout_s)
        writable = os.access(self.path.parent, os.W_OK) or not self.path.exists()
        if create and not read_only and writable and not is_finished(self.path):
            create_file(self.path, FileIdentity(spec_digest, embedding_size, model, ""), timeout_s)
        require_file(self.path)
        self._connections = Connections(self.path, read_only=read_only, timeout_s=timeout_s)
        try:
            with self._connections.reading() as file:
                identity = read_identity(file, self.path)
            require_model(self.path, identity, spec_digest, embedding_size, model)
            if not read_only and log_bytes(self.path):
                # A process that was killed may have left erased content in the log. Where that cannot
                # be written, the gallery can still be read.
                with contextlib.suppress(GalleryError):
                    self._connections.wipe_log(wait=False)
        except BaseException:
            self.close()
            raise
        self.spec_digest = spec_digest
        self.embedding_size = embedding_size
        self.model = identity.model
        self.created = identity.created
        self._index = FileIndex(self.path, embedding_size, self.fusion)

    @classmethod
    def open_existing(
        cls,
        path: str | os.PathLike[str],
        *,
        fusion: Fusion = "max",
        read_only: bool = True,
        timeout_s: float = 5.0,
    ) -> SqliteGallery:
        """Open a file for whatever model it was made with.

        Args:
            path: The file, which exists.
            fusion: How the scores of a subject's templates become one.
            read_only: Refuse to write, and need no permission to.
            timeout_s: How long a writer waits for another.

        Raises:
            GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
            GalleryError: It cannot be opened.
        """
        place = Path(path)
        require_file(place)
        connections = Connections(place, read_only=True, timeout_s=timeout_s)
        with contextlib.closing(connections), connections.reading() as file:
            identity = read_identity(file, place)
        return cls(
            place,
            spec_digest=identity.spec_digest,
            embedding_size=identity.embedding_size,
            fusion=fusion,
            model=identity.model,
            create=False,
            read_only=read_only,
            timeout_s=timeout_s,
        )

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """See :meth:`Gallery.add`. A crash at any moment leaves all of the templates or none."""
        entry = checked_entry(
            subject_id,
            templates,
            metadata,
            spec_digest=self.spec_digest,
            embedding_size=self.embedding_size,
        )
        self.add_entries([entry], "append")

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """See :meth:`PortableGallery.add_entries`. One transaction; other writers wait for its end."""
        subjects = templates = skipped = 0
        with self._connections.writing() as file:
            revision = next_revision(file)
            for entry in entries:
                row = find_row(file, entry.subject_id)
                if row is not None and on_existing == "error":
                    raise GalleryError(
                        f"gallery {self.path}: subject {entry.subject_id!r} is already enrolled; "
                        "nothing was stored"
                    )
                if row is not None and on_existing == "skip":
                    skipped += 1
                    continue
                store(file, row, entry, revision)
                subjects += 1
                templates += len(entry.embeddings)
        return TransferReport(subjects, templates, skipped)

    def get(self, subject_id: str) -> Subject:
        """See :meth:`Gallery.get`."""
        subject_id = checked_subject_id(subject_id)
        with self._connections.reading() as file:
            row = self._required_row(file, subject_id)
            metadata, stored = read_subject(file, row)
        try:
            templates = tuple(
                Template(
                    embedding_from_blob(blob, self.embedding_size),
                    self.spec_digest,
                    reasons=tuple(json.loads(reasons)),
                )
                for blob, reasons in stored
            )
            return Subject(subject_id, templates, metadata_from_json(metadata))
        except (TemplateFormatError, ValueError, TypeError) as error:
            raise GalleryFormatError(
                f"gallery {self.path}: what is stored of {subject_id!r} is damaged: {error}; run "
                "`verifykit gallery check`, remove the subject and enrol again"
            ) from error

    def remove(self, subject_id: str) -> int:
        """See :meth:`Gallery.remove`. Erased from the file, and from its write-ahead log.

        Raises:
            GalleryLockedError: Removed, and found by no search any more, but another process is still
                reading: its bytes leave the log with the next ``remove``, or when the last process
                closes the gallery.
        """
        subject_id = checked_subject_id(subject_id)
        with self._connections.writing() as file:
            count = erase(file, self._required_row(file, subject_id), next_revision(file))
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
        with self._connections.reading() as file:
            view, metadata = self._index.refresh(file)
        hits = view.search(rows, limit, threshold)
        return [
            [
                Candidate(s, score, threshold, metadata=metadata_from_json(metadata.get(s, "{}")))
                for s, score in found
            ]
            for found in hits
        ]

    def subject_ids(self) -> Iterator[str]:
        """See :meth:`Gallery.subject_ids`; as they were at the call."""
        with self._connections.reading() as file:
            found = file.execute("SELECT subject_id FROM enrolled").fetchall()
        return iter(sorted(living_text(self.path, subject_id) for (subject_id,) in found))

    def __len__(self) -> int:
        with self._connections.reading() as file:
            return int(file.execute("SELECT count(*) FROM subject").fetchone()[0])

    def info(self) -> dict[str, Any]:
        """What ``verifykit gallery info`` shows, JSON-ready."""
        with self._connections.reading() as file:
            subjects, templates, revision = file.execute(
                "SELECT (SELECT count(*) FROM subject), "
                "(SELECT count(*) FROM subject s JOIN template t ON t.subject = s.row), "
                "(SELECT value FROM meta WHERE key = 'revision')"
            ).fetchone()
        return {
            "path": str(self.path),
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "spec_digest": self.spec_digest,
            "embedding_size": self.embedding_size,
            "created": self.created,
            "subject_count": subjects,
            "template_count": templates,
            "revision": revision,
            "size_bytes": self.path.stat().st_size,
        }

    def check(self) -> list[str]:
        """Read everything and say what is wrong: a sentence a problem, an empty list for none."""
        with self._connections.reading() as file:
            return problems(file, self.embedding_size)

    def close(self) -> None:
        """Close the file. The gallery cannot be used afterwards; may be called twice."""
        self._connections.close()

    def __enter__(self) -> SqliteGallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _required_row(self, file: sqlite3.Connection, subject_id: str) -> int:
        row = find_row(file, subject_id)
        if row is None:
            raise SubjectNotFoundError(f"gallery {self.path}: nobody is enrolled as {subject_id!r}")
        return row
