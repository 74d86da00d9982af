"""A gallery on a PostgreSQL server with pgvector: shared between machines, searched where it is stored."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    SubjectExistsError,
    SubjectNotFoundError,
    TemplateFormatError,
    shown,
)
from verifykit.gallery.base import (
    Entry,
    GalleryIdentity,
    GalleryInfo,
    OnExisting,
    StoredGallery,
    TransferReport,
    checked_identity,
    checked_question,
    checked_timeout,
    embedding_from_blob,
    metadata_from_json,
    new_entry,
)
from verifykit.gallery.postgres import rows
from verifykit.gallery.postgres.connection import (
    Connection,
    PostgresConnections,
    parse_url,
    translated,
)
from verifykit.gallery.postgres.rows import read_templates, vector_from_binary
from verifykit.gallery.postgres.schema import (
    create_hnsw,
    create_tables,
    has_hnsw,
    partitions,
    read_identity,
    require_identity,
    require_local,
    require_vector_size,
)
from verifykit.gallery.postgres.search import Nominations
from verifykit.gallery.subject_ids import find_subject, id_problems
from verifykit.scoring import checked_embeddings, checked_fusion, reference_rows, unit_rows
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template


class PostgresGallery(StoredGallery):
    """A :class:`~verifykit.gallery.Gallery` in a PostgreSQL database with the extension pgvector.

    May be shared between threads, processes and machines, which may all write. A database holds any
    number of galleries, each in a schema of its own. What ``add`` returns from is committed with
    ``synchronous_commit``. Nothing is kept in the client's memory but connections, one for each thread
    that is in a call. ``remove`` deletes rows: their bytes leave the server's files with its vacuum, its
    log and its backups with their rotation.

    Args:
        url: ``postgresql://user@host:port/database?verifykit_gallery=name``; the name is ``default`` if
            it is not given, everything else is libpq's.
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D, at most 16,000.
        fusion: How the scores of a subject's templates become one; fixed when the gallery is made.
        model: Name of the model, written into a new gallery, human-readable.
        create: Whether to make the gallery when there is none.
        read_only: Refuse to write, and need no permission to.
        approximate: Search along an HNSW index, which is made if need be: faster, and it may miss a
            subject, so recall is below 1. What it finds is scored exactly. D is at most 2,000.
        timeout_s: How long a writer waits for another.

    Raises:
        TemplateMismatchError: The gallery was made with another model.
        TemplateFormatError: ``embedding_size`` is not positive, or more than pgvector keeps.
        GalleryFormatError: It is damaged, of a newer schema, or is not a gallery.
        GalleryError: psycopg is not installed, the server cannot be reached, has no pgvector or refuses.
        InputError: No such URL, fusion or timeout is possible, the gallery was made with another fusion,
            or ``approximate`` is not possible.
    """

    def __init__(
        self,
        url: str,
        *,
        spec_digest: str,
        embedding_size: int,
        fusion: Fusion = "max",
        model: str = "",
        create: bool = True,
        read_only: bool = False,
        approximate: bool = False,
        timeout_s: float = 5.0,
    ) -> None:
        checked_identity(spec_digest, embedding_size)
        require_vector_size(embedding_size, approximate=approximate)
        self.fusion = checked_fusion(fusion)
        self.address = parse_url(url)
        timeout_s = checked_timeout(timeout_s)
        required = GalleryIdentity(spec_digest, embedding_size, self.fusion, model)
        if create and not read_only:
            create_tables(self.address, required)
        self._connections = PostgresConnections(
            self.address, read_only=read_only, timeout_s=timeout_s
        )
        try:
            with self._connections.reading() as server:
                self.identity = read_identity(server, self.address)
                references, subjects = (partitions(server, t) for t in ("reference", "subject"))
                indexed = has_hnsw(server, self.address)
            require_identity(self.address, self.identity, required)
            self._tables = list(zip(references, subjects, strict=True))
            if approximate and not indexed:
                require_local(self.address, self._tables)
                with self._connections.writing() as server:
                    create_hnsw(server)
        except BaseException:
            self.close()
            raise
        self.spec_digest = spec_digest
        self.embedding_size = embedding_size
        self.model = self.identity.model
        self.approximate = approximate
        self._opened = partial(
            PostgresGallery,
            url,
            spec_digest=spec_digest,
            embedding_size=embedding_size,
            fusion=self.fusion,
            model=model,
            create=False,
            read_only=read_only,
            approximate=approximate,
            timeout_s=timeout_s,
        )

    def __reduce__(self) -> tuple[Callable[[], PostgresGallery], tuple[()]]:
        return self._opened, ()

    @classmethod
    def open_existing(
        cls, url: str, *, read_only: bool = True, timeout_s: float = 5.0
    ) -> PostgresGallery:
        """Open a gallery for whatever model and fusion it was made with.

        Args:
            url: As for the class.
            read_only: Refuse to write, and need no permission to.
            timeout_s: How long a writer waits for another.

        Raises:
            GalleryFormatError: It is damaged or of another schema.
            GalleryError: There is none, or it cannot be opened.
            InputError: No such URL or timeout is possible.
        """
        address = parse_url(url)
        connections = PostgresConnections(
            address, read_only=True, timeout_s=checked_timeout(timeout_s)
        )
        with contextlib.closing(connections), connections.reading() as server:
            identity = read_identity(server, address, any_version=not read_only)
        return cls(
            url,
            spec_digest=identity.spec_digest,
            embedding_size=identity.embedding_size,
            fusion=identity.fusion,
            model=identity.model,
            create=not read_only,  # brings an old schema up to date
            read_only=read_only,
            timeout_s=timeout_s,
        )

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """See :meth:`Gallery.add`. A crash of either side leaves all of the templates or none."""
        entry = new_entry(self, subject_id, templates, metadata)
        with self._connections.writing(entry.subject_id) as server:
            rows.store(server, [entry], rows.present(server, [entry.subject_id]), self.fusion)

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """See :meth:`SupportsTransfer.add_entries`. One transaction; other writers wait for its end.

        Over several servers the commits follow one another: when one of them is lost in that moment, the
        others have stored theirs. Each subject is whole, and ``on_existing="skip"`` continues from there.
        """
        subjects = templates = skipped = 0
        with self._connections.writing() as server:
            for batch in rows.batches(entries):
                old = rows.present(server, list(batch))
                if old and on_existing == "error":
                    first = next(s for s in batch if s in old)
                    where = f"gallery {self.address.shown}: subject {shown(first)}"
                    raise SubjectExistsError(f"{where} is already enrolled; nothing was stored")
                if on_existing == "skip":
                    skipped += len(old)
                    batch = {s: entry for s, entry in batch.items() if s not in old}
                    old = set()
                rows.store(server, list(batch.values()), old, self.fusion)
                subjects += len(batch)
                templates += sum(len(entry.embeddings) for entry in batch.values())
        return TransferReport(subjects, templates, skipped)

    def get(self, subject_id: str) -> Subject:
        """See :meth:`Gallery.get`."""
        with self._connections.reading() as server:
            stored = find_subject(subject_id, partial(rows.read_subject, server))
        if stored is None:
            raise self._not_found(subject_id)
        subject_id, found = stored
        try:
            return rows.subject_from_rows(subject_id, found, self.spec_digest, self.embedding_size)
        except (TemplateFormatError, ValueError, TypeError) as error:
            raise GalleryFormatError(
                f"gallery {self.address.shown}: what is stored of {shown(subject_id)} is damaged: {error}; "
                "run `verifykit gallery check`, remove the subject and enrol again"
            ) from error

    def remove(self, subject_id: str) -> int:
        """See :meth:`Gallery.remove`. Deleted for all readers; see the class on the bytes that stay."""
        with self._connections.reading() as server:
            there = find_subject(subject_id, lambda each: rows.present(server, [each]) or None)
        if there is None:
            raise self._not_found(subject_id)
        subject_id, _ = there
        with self._connections.writing(subject_id) as server:
            count = rows.erase(server, subject_id)
            if count is None:
                raise self._not_found(subject_id)
        return count

    def search(
        self,
        probes: Embeddings,
        limit: int,
        threshold: float,
        *,
        where: Mapping[str, Any] | None = None,
    ) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`. Exact unless the gallery was opened with ``approximate``.

        Args:
            probes: (N, D) float32, rows of unit length; N may be 0.
            limit: Most candidates a probe, at least 1.
            threshold: Only scores of at least this much; -1.0 takes every subject.
            where: Only subjects whose metadata contain this: ``{"team": "blue"}``. Containment is that of
                PostgreSQL's ``jsonb @>``: an object contains its keys, a list its items, in any order.

        Raises:
            TemplateFormatError: Probes of another shape, not finite, or not of unit length.
            InputError: ``limit``, ``threshold`` or ``where`` is not usable.
        """
        units = unit_rows(checked_embeddings(probes, self.embedding_size))
        limit, threshold = checked_question(limit, threshold)
        contained = None if where is None else rows.filter_json(where)
        with self._connections.reading() as server:
            nominations = self._nominations(server, contained)
            hits = [nominations.search(probe, limit, threshold) for probe in units]
            texts = rows.read_metadata(server, {s for found in hits for s, _ in found})

        def candidate(s: str, score: float) -> Candidate:
            return Candidate(s, score, threshold, metadata=metadata_from_json(texts.get(s, "{}")))

        return [[candidate(*hit) for hit in found] for found in hits]

    def _nominations(self, server: Connection, contained: str | None = None) -> Nominations:
        return Nominations(
            server, self._tables, self.embedding_size, contained, approximate=self.approximate
        )

    def snapshot(self) -> PostgresSnapshot:
        """See :meth:`SupportsSnapshot.snapshot`. A read transaction, open until it is closed.

        Over several servers their states are of the moment at which each is first read, here.
        """
        return PostgresSnapshot(
            self._connections, self._info, self._nominations, self.embedding_size
        )

    def subject_ids(self) -> Iterator[str]:
        """See :meth:`Gallery.subject_ids`; as they were at the call."""
        with self._connections.reading() as server:
            found = server.execute("SELECT subject_id FROM subject").fetchall()
        return iter(sorted(subject_id for (subject_id,) in found))

    def __len__(self) -> int:
        with self._connections.reading() as server:
            return rows.count_rows(server, "subject")

    def subject_page(self, after: str | None, limit: int) -> list[str]:
        """See :meth:`SupportsPaging.subject_page`."""
        query = "SELECT subject_id FROM subject WHERE subject_id > %s ORDER BY subject_id LIMIT %s"
        with self._connections.reading() as server:
            found = server.execute(query, (after or "", limit)).fetchall()
        return [subject_id for (subject_id,) in found]

    def info(self) -> GalleryInfo:
        """Return what ``verifykit gallery info`` shows, JSON-ready."""
        with self._connections.reading() as server:
            return self._info(server)

    def _info(self, server: Connection) -> GalleryInfo:
        subjects, templates, revision = rows.read_counts(server)
        indexed = has_hnsw(server, self.address)
        return {
            "path": self.address.shown,
            "schema_version": self.identity.version,
            "model": self.model,
            "spec_digest": self.spec_digest,
            "embedding_size": self.embedding_size,
            "fusion": self.fusion,
            "created": self.identity.created,
            "subject_count": subjects,
            "template_count": templates,
            "revision": revision,
            "shards": len(self._tables) if len(self._tables) > 1 else 0,
            "hnsw": indexed,
        }

    def check(self) -> list[str]:
        """Read everything and return a sentence for each problem, none for a sound gallery."""
        with self._connections.reading() as server:
            return _problems(server, self.embedding_size, self.fusion)

    def close(self) -> None:
        """Close its connections. The gallery cannot be used afterwards; may be called twice."""
        self._connections.close()

    def _not_found(self, subject_id: str) -> SubjectNotFoundError:
        return SubjectNotFoundError(
            f"gallery {self.address.shown}: subject {shown(subject_id)} is not enrolled"
        )


class PostgresSnapshot:
    """A :class:`~verifykit.gallery.base.GallerySnapshot` in one connection's read transaction."""

    def __init__(
        self,
        connections: PostgresConnections,
        info: Callable[[Connection], GalleryInfo],
        nominations: Callable[[Connection], Nominations],
        embedding_size: int,
    ) -> None:
        self._address, self._embedding_size = connections.address, embedding_size
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            self._server = stack.enter_context(connections.reading())
            # It rests while images are embedded; the server must not end it for that.
            self._server.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            self.info = info(self._server)
            self._nominations = nominations(self._server)
            self._transaction = stack.pop_all()

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`GallerySnapshot.search`."""
        units = unit_rows(checked_embeddings(probes, self._embedding_size))
        limit, threshold = checked_question(limit, threshold)
        with self._lock, translated(self._address, self._server):
            hits = [self._nominations.search(probe, limit, threshold) for probe in units]
        return [[Candidate(s, score, threshold) for s, score in found] for found in hits]

    def rows_of(self, subject_id: str) -> NDArray[np.float32] | None:
        """Return the reference rows of a subject, (R, D); None for an unknown one."""
        with self._lock, translated(self._address, self._server):
            rows = _references(self._server, [subject_id]).get(subject_id)
        return None if rows is None else np.stack(rows)

    def close(self) -> None:
        """End the transaction."""
        with contextlib.suppress(GalleryError):  # the connection may be lost; nothing was written
            self._transaction.close()


_MOST = 100
_BATCH = 1000


def _problems(connection: Connection, embedding_size: int, fusion: Fusion) -> list[str]:
    """Return what is wrong, at most 100 sentences: every subject, and what is searched for each."""
    found: list[str] = []
    last = ""
    query = "SELECT subject_id, metadata FROM subject WHERE subject_id > %s ORDER BY subject_id LIMIT %s"
    while batch := connection.execute(query, (last, _BATCH)).fetchall():
        last = batch[-1][0]
        subject_ids = [subject_id for subject_id, _ in batch]
        templates = read_templates(connection, subject_ids)
        references = _references(connection, subject_ids)
        for subject_id, metadata in batch:
            stored = templates.get(subject_id, [])
            searched = references.get(subject_id, [])
            problem = _problem(metadata, stored, searched, embedding_size, fusion)
            found += [f"subject {shown(subject_id)}: {problem}"] if problem else []
    found += id_problems(
        s for (s,) in connection.execute("SELECT subject_id FROM subject").fetchall()
    )
    for table in ("template", "reference"):
        orphans = connection.execute(
            f"SELECT DISTINCT subject_id FROM {table} t WHERE NOT EXISTS "  # noqa: S608
            f"(SELECT FROM subject s WHERE s.subject_id = t.subject_id) LIMIT {_MOST}".encode()
        )
        found += [f"subject {shown(name)}: in {table}, but not enrolled" for (name,) in orphans]
    return found[:_MOST]


def _problem(
    metadata: str,
    stored: Sequence[tuple[object, str]],
    searched: Sequence[NDArray[np.float32]],
    embedding_size: int,
    fusion: Fusion,
) -> str | None:
    try:
        metadata_from_json(metadata)
        rows = _embeddings(stored, embedding_size)
    except (TemplateFormatError, ValueError, TypeError) as error:
        return str(error)
    if not np.array_equal(reference_rows(rows, fusion), np.array(searched)):
        return "what is searched is not what is stored"
    return None


def _embeddings(stored: Sequence[tuple[object, str]], embedding_size: int) -> NDArray[np.float32]:
    if not stored:
        raise ValueError("it has no template")
    for _, reasons in stored:
        if not isinstance(json.loads(reasons), list):
            raise TypeError(f"its reasons are not a list: {shown(reasons)}")
    rows = np.stack([embedding_from_blob(blob, embedding_size) for blob, _ in stored])
    return checked_embeddings(rows, embedding_size)


def _references(
    connection: Connection, subject_ids: Sequence[str]
) -> dict[str, list[NDArray[np.float32]]]:
    found: dict[str, list[NDArray[np.float32]]] = {}
    rows = connection.execute(
        "SELECT subject_id, reference_row FROM reference WHERE subject_id = ANY(%s) "
        "ORDER BY subject_id, ordinal",
        (list(subject_ids),),
        binary=True,
    )
    for subject_id, value in rows:
        found.setdefault(subject_id, []).append(vector_from_binary(value))
    return found
