"""A gallery in one SQLite file: durable, and shared between processes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verifykit.errors import GalleryLockedError
from verifykit.gallery.intake import Entry, checked_entry, checked_identity, checked_question
from verifykit.gallery.protocol import OnExisting, TransferReport
from verifykit.gallery.sealing import KeySource
from verifykit.gallery.sqlite_check import problems
from verifykit.gallery.sqlite_erasing import erase
from verifykit.gallery.sqlite_expiry import Enrolment, erase_expired, read_enrolments
from verifykit.gallery.sqlite_file import checked_timeout
from verifykit.gallery.sqlite_index import FileIndex, living_text, stored_metadata
from verifykit.gallery.sqlite_keyring import Keyring
from verifykit.gallery.sqlite_opening import identity_of, open_file
from verifykit.gallery.sqlite_reading import describe, read_subject, required_row
from verifykit.gallery.sqlite_rows import next_revision, read_crops, read_ids
from verifykit.gallery.sqlite_schema import FileIdentity
from verifykit.gallery.sqlite_storing import store_entries
from verifykit.gallery.sqlite_tables import migrate
from verifykit.gallery.sqlite_values import Values
from verifykit.gallery.subject_id import checked_subject_id
from verifykit.scoring import checked_embeddings, checked_fusion
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template

__all__ = ["SqliteGallery"]


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
