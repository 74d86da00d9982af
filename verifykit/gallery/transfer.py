"""Galleries to a file and back, and copies of one gallery to another of any kind.

The file is UTF-8 text, a JSON object a line (JSON Lines), and nothing in it is ever executed:

1. ``{"format": "verifykit-gallery", "version": 1, "spec_digest": ..., "embedding_size": D, "model": ...}``
2. one line a subject: ``{"subject_id": ..., "metadata": {...}, "templates": [{"embedding": ...,
   "reasons": [...]}, ...]}``, where an embedding is the base64 of D little-endian float32;
3. ``{"end": {"subjects": n, "templates": m, "sha256": ...}}``, the SHA-256 of all bytes before this line.

A file without the last line was cut short. It detects damage, not forgery. Anyone who can read it has the
embeddings: it is made readable by its owner only.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from verifykit._files import atomic_file
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    InputError,
    TemplateError,
    TemplateMismatchError,
    shortened,
    shortened_path,
    shown,
)
from verifykit.gallery.base import (
    Entry,
    GalleryInfo,
    OnExisting,
    StoredGallery,
    TransferReport,
    checked_entry,
    each_subject,
    embedding_from_blob,
    find_exact,
)
from verifykit.types import Subject, Template

FORMAT = "verifykit-gallery"
VERSION = 1
MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True)
class ExportHeader:
    """What the first line of an exported file says.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        model: That model's name, human-readable; may be empty.
    """

    spec_digest: str
    embedding_size: int
    model: str


def subject_line(subject: Subject) -> dict[str, Any]:
    """Return a subject as the object of its line."""
    return {
        "subject_id": subject.subject_id,
        "metadata": dict(subject.metadata),
        "templates": [
            {
                "embedding": base64.b64encode(t.embedding.astype("<f4").tobytes()).decode(),
                "reasons": list(t.reasons),
            }
            for t in subject.templates
        ],
    }


def parse_entry(
    body: dict[str, Any], gallery: StoredGallery, where: str, *, keep_ids: bool = False
) -> Entry:
    """Return a subject's line as an entry that this gallery can take; ``where`` begins the message."""
    try:
        if set(body) != {"subject_id", "metadata", "templates"}:
            raise ValueError(f"keys {sorted(body)} are not those of a subject")  # noqa: TRY301
        templates = [
            Template(
                embedding_from_blob(
                    base64.b64decode(item["embedding"], validate=True), gallery.embedding_size
                ),
                gallery.spec_digest,
                reasons=tuple(str(reason) for reason in item["reasons"]),
            )
            for item in body["templates"]
        ]
        return checked_entry(
            body["subject_id"],
            templates,
            body["metadata"],
            spec_digest=gallery.spec_digest,
            embedding_size=gallery.embedding_size,
            keep_id=keep_ids,
        )
    except (InputError, TemplateError, ValueError, TypeError, KeyError, binascii.Error) as error:
        raise GalleryFormatError(f"{where}: {error}; nothing was imported") from error


def parse_line(line: bytes, place: Path, number: int) -> dict[str, Any]:
    """Return a line as a JSON object."""
    if not line.endswith(b"\n"):
        raise GalleryFormatError(
            f"{shortened(place)}, line {number}: the file ends here without its last line, or the line is "
            f"longer than {MAX_LINE_BYTES >> 20} MB: it was cut short, or is not an exported gallery; "
            "nothing was imported"
        )
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GalleryFormatError(
            f"{shortened(place)}, line {number}: not JSON: {error}; nothing was imported"
        ) from error
    if not isinstance(body, dict):
        raise GalleryFormatError(
            f"{shortened(place)}, line {number}: not a JSON object; nothing was imported"
        )
    return body


def parse_header(body: dict[str, Any], place: Path) -> ExportHeader:
    """Return what the first line says."""
    if body.get("format") != FORMAT:
        raise GalleryFormatError(f"{shortened(place)} is not an exported gallery")
    if body.get("version") != VERSION:
        raise GalleryFormatError(
            f"{shortened(place)} has version {shown(body.get('version'))}, this verifykit reads {VERSION}: "
            "install the verifykit that wrote it"
        )
    values = (body.get("spec_digest"), body.get("embedding_size"), body.get("model"))
    digest, size, model = values
    if not isinstance(digest, str) or not isinstance(size, int) or not isinstance(model, str):
        raise GalleryFormatError(f"{shortened(place)}: the first line is damaged: {values}")
    return ExportHeader(digest, size, model)


def export_gallery(
    gallery: StoredGallery, path: str | os.PathLike[str], *, overwrite: bool = False
) -> TransferReport:
    """Write every subject to a file, which appears whole or not at all.

    Other processes may write to the gallery meanwhile: each subject is whole, and one who is added or
    removed during the export may or may not be in it.

    Args:
        gallery: What to export; one subject at a time is in memory.
        path: The file.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: The file exists.
        GalleryError: The file cannot be written, or the gallery cannot be read.
    """
    place = Path(path)
    if place.exists() and not overwrite:
        raise InputError(f"{shortened(place)} exists: choose another path, or pass overwrite=True")
    try:
        with atomic_file(place, mode=0o600) as part, part.open("wb") as file:
            report = _write(gallery, file)
    except OSError as error:
        raise GalleryError(
            f"{shortened(place)} cannot be written: {error.strerror}; nothing was left there"
        ) from shortened_path(error)
    return report


def _write(gallery: StoredGallery, file: BinaryIO) -> TransferReport:
    digest = hashlib.sha256()
    subjects = templates = 0

    def put(body: dict[str, Any]) -> None:
        line = json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise GalleryError(f"{shown(body['subject_id'])} has too many templates to be exported")
        digest.update(line)
        file.write(line)

    put(
        {
            "format": FORMAT,
            "version": VERSION,
            "spec_digest": gallery.spec_digest,
            "embedding_size": gallery.embedding_size,
            "model": gallery.model,
        }
    )
    for subject in each_subject(gallery):
        put(subject_line(subject))
        subjects += 1
        templates += len(subject.templates)
    put({"end": {"subjects": subjects, "templates": templates, "sha256": digest.hexdigest()}})
    return TransferReport(subjects, templates)


def read_export_header(path: str | os.PathLike[str]) -> ExportHeader:
    """Return the first line of an exported file, for example to make a gallery that can take it.

    Raises:
        GalleryFormatError: Not an exported gallery, or of a newer version.
        GalleryError: The file cannot be read.
    """
    place = Path(path)
    with _readable(place) as file:
        return parse_header(parse_line(file.readline(MAX_LINE_BYTES), place, 1), place)


def import_gallery(
    gallery: StoredGallery,
    path: str | os.PathLike[str],
    *,
    on_existing: OnExisting = "error",
    keep_ids: bool = False,
) -> TransferReport:
    """Enrol every subject of an exported file: all of them or, if anything is wrong, none.

    The file is read twice, first to check it to its last byte, then to store it in one transaction.

    Args:
        gallery: Where to; of the same model.
        path: The file.
        on_existing: For a subject who is enrolled: ``"error"``, ``"skip"``, or ``"append"`` the templates.
        keep_ids: Take ids as they are in the file, also those that only earlier versions allowed, to restore
            an export of theirs; else they are brought to normalization form C, or refused.

    Raises:
        TemplateMismatchError: The file holds another model's templates.
        GalleryFormatError: Cut short, damaged, of a newer version, or not an exported gallery.
        GalleryError: A subject is enrolled already, or the gallery cannot store it.
        InputError: No such ``on_existing``.
    """
    if on_existing not in ("append", "error", "skip"):
        raise InputError(f"on_existing is 'append', 'error' or 'skip', got {shown(on_existing)}")
    place = Path(path)
    seen: set[str] = set()
    for number, entry in enumerate(_entries(gallery, place, keep_ids), start=2):
        if entry.subject_id in seen:
            raise GalleryFormatError(
                f"{shortened(place)}, line {number}: {shown(entry.subject_id)} is there twice"
            )
        seen.add(entry.subject_id)
    return gallery.add_entries(_entries(gallery, place, keep_ids), on_existing)


def _entries(gallery: StoredGallery, place: Path, keep_ids: bool) -> Iterator[Entry]:
    """Yield the file's subjects; raise after the last one if the file is not whole."""
    digest = hashlib.sha256()
    subjects = templates = 0
    with _readable(place) as file:
        line = file.readline(MAX_LINE_BYTES)
        header = parse_header(parse_line(line, place, 1), place)
        if header.spec_digest != gallery.spec_digest:
            raise TemplateMismatchError(
                f"{shortened(place)} holds templates of model {header.model} ({header.spec_digest[:12]}), "
                f"the gallery those of {gallery.model} ({gallery.spec_digest[:12]}), and the two cannot be "
                "compared: import it into a gallery of that model, or enrol the subjects again"
            )
        for number in range(2, 2**62):
            digest.update(line)
            line = file.readline(MAX_LINE_BYTES)
            body = parse_line(line, place, number)
            if "end" in body:
                break
            entry = parse_entry(body, gallery, f"{place}, line {number}", keep_ids=keep_ids)
            subjects += 1
            templates += len(entry.embeddings)
            yield entry
        expected = {"subjects": subjects, "templates": templates, "sha256": digest.hexdigest()}
        if body != {"end": expected} or file.read(1):
            raise GalleryFormatError(
                f"{shortened(place)}: the last line does not agree with the lines before it: the file is "
                "damaged or was changed; nothing was imported; export it again"
            )


@contextlib.contextmanager
def _readable(place: Path) -> Iterator[BinaryIO]:
    try:
        with place.open("rb") as file:
            yield file
    except OSError as error:
        raise GalleryError(
            f"{shortened(place)} cannot be read: {error.strerror}"
        ) from shortened_path(error)


_BATCH = 500


def copy_gallery(source: StoredGallery, target: StoredGallery) -> TransferReport:
    """Store every subject of one gallery in another, in batches that are each stored whole.

    A run that was interrupted is continued by another: who is in the target with the same templates,
    reasons and metadata is skipped. Both galleries must be left alone meanwhile: the counts are compared
    at the end.

    Args:
        source: What to copy; a batch of 500 subjects at a time is in memory.
        target: Where to; of the same model. It may hold other subjects.

    Returns:
        What was stored now, and how many subjects were skipped.

    Raises:
        TemplateMismatchError: The galleries are of two models.
        GalleryError: A subject is in the target with other content, the counts differ at the end, or one
            of them cannot be read or written. Batches before that are stored.
    """
    if source.spec_digest != target.spec_digest:
        raise TemplateMismatchError(
            f"the source holds templates of model {source.model} ({source.spec_digest[:12]}), the target "
            f"those of {target.model} ({target.spec_digest[:12]}), and the two cannot be compared: copy "
            "into a gallery of that model, or enrol the subjects again"
        )
    before = target.info()
    subjects = templates = skipped = 0
    subject_ids = source.subject_ids()
    while batch := list(itertools.islice(subject_ids, _BATCH)):
        entries = list(_missing(source, target, batch))
        report = target.add_entries(entries, "error")
        subjects += report.subject_count
        templates += report.template_count
        skipped += len(batch) - len(entries)
    _require_counts(source, target, before, (subjects, templates, skipped))
    return TransferReport(subjects, templates, skipped)


def _missing(
    source: StoredGallery, target: StoredGallery, subject_ids: list[str]
) -> Iterator[Entry]:
    for subject_id in subject_ids:
        subject = source.get(subject_id)
        there = find_exact(target, subject_id)
        if there is None:
            entry = checked_entry(
                subject_id,
                subject.templates,
                subject.metadata,
                spec_digest=target.spec_digest,
                embedding_size=target.embedding_size,
                keep_id=True,
            )
            yield dataclasses.replace(entry, enrolled_at=subject.enrolled_at)
            continue
        if not _is_same(subject, there):
            raise GalleryError(
                f"subject {shown(subject_id)} is in the target with other templates, reasons or metadata: "
                "remove one of the two, and copy again; nothing of this batch was stored"
            )


def _is_same(one: Subject, other: Subject) -> bool:
    return (
        json.dumps(dict(one.metadata)) == json.dumps(dict(other.metadata))  # 1 is not 1.0
        and [t.reasons for t in one.templates] == [t.reasons for t in other.templates]
        and np.array_equal(
            [t.embedding for t in one.templates], [t.embedding for t in other.templates]
        )
    )


def _require_counts(
    source: StoredGallery,
    target: StoredGallery,
    before: GalleryInfo,
    copied: tuple[int, int, int],
) -> None:
    subjects, templates, skipped = copied
    now, whole = target.info(), source.info()
    counts = {
        "subjects read": (subjects + skipped, whole["subject_count"]),
        "subjects stored": (now["subject_count"], before["subject_count"] + subjects),
        "templates stored": (now["template_count"], before["template_count"] + templates),
    }
    for what, (found, expected) in counts.items():
        if found != expected:
            raise GalleryError(
                f"{what}: {found}, expected {expected}: one of the galleries was written to meanwhile; "
                "copy again, which continues from here"
            )
