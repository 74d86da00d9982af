"""Galleries to a file and back, between engines and machines; the format is in transfer_format."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    InputError,
    SubjectNotFoundError,
    TemplateMismatchError,
)
from verifykit.gallery.intake import Entry
from verifykit.gallery.protocol import OnExisting, PortableGallery, TransferReport
from verifykit.gallery.transfer_format import (
    FORMAT,
    MAX_LINE_BYTES,
    VERSION,
    ExportHeader,
    parse_entry,
    parse_header,
    parse_line,
    subject_line,
)

__all__ = [
    "ExportHeader",
    "TransferReport",
    "export_gallery",
    "import_gallery",
    "read_export_header",
]


def export_gallery(
    gallery: PortableGallery, path: str | os.PathLike[str], *, overwrite: bool = False
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
        raise InputError(f"{place} exists: give another path, or say that it shall be overwritten")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                report = _write(gallery, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, place)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108
            raise
    except OSError as error:
        raise GalleryError(
            f"{place} cannot be written: {error.strerror}; nothing was left there"
        ) from error
    return report


def _write(gallery: PortableGallery, file: BinaryIO) -> TransferReport:
    digest = hashlib.sha256()
    subjects = templates = 0

    def put(body: dict[str, Any]) -> None:
        line = json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise GalleryError(f"{body['subject_id']!r} has too many templates to be exported")
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
    for subject_id in gallery.subject_ids():
        try:
            subject = gallery.get(subject_id)
        except SubjectNotFoundError:
            continue  # removed meanwhile
        put(subject_line(subject))
        subjects += 1
        templates += len(subject.templates)
    put({"end": {"subjects": subjects, "templates": templates, "sha256": digest.hexdigest()}})
    return TransferReport(subjects, templates)


def read_export_header(path: str | os.PathLike[str]) -> ExportHeader:
    """The first line of an exported file, for example to make a gallery that can take it.

    Raises:
        GalleryFormatError: Not an exported gallery, or of a newer version.
        GalleryError: The file cannot be read.
    """
    place = Path(path)
    with _readable(place) as file:
        return parse_header(parse_line(file.readline(MAX_LINE_BYTES), place, 1), place)


def import_gallery(
    gallery: PortableGallery,
    path: str | os.PathLike[str],
    *,
    on_existing: OnExisting = "error",
) -> TransferReport:
    """Enrol every subject of an exported file: all of them or, if anything is wrong, none.

    The file is read twice, first to check it to its last byte, then to store it in one transaction.

    Args:
        gallery: Where to; of the same model.
        path: The file.
        on_existing: For a subject who is enrolled: ``"error"``, ``"skip"``, or ``"append"`` the templates.

    Raises:
        TemplateMismatchError: The file holds another model's templates.
        GalleryFormatError: Cut short, damaged, of a newer version, or not an exported gallery.
        GalleryError: A subject is enrolled already, or the gallery cannot store it.
        InputError: No such ``on_existing``.
    """
    if on_existing not in ("append", "error", "skip"):
        raise InputError(f"on_existing is 'append', 'error' or 'skip', got {on_existing!r}")
    place = Path(path)
    seen: set[str] = set()
    for number, entry in enumerate(_entries(gallery, place), start=2):
        if entry.subject_id in seen:
            raise GalleryFormatError(f"{place}, line {number}: {entry.subject_id!r} is there twice")
        seen.add(entry.subject_id)
    return gallery.add_entries(_entries(gallery, place), on_existing)


def _entries(gallery: PortableGallery, place: Path) -> Iterator[Entry]:
    """The file's subjects; raises after the last one if the file is not whole."""
    digest = hashlib.sha256()
    subjects = templates = 0
    with _readable(place) as file:
        line = file.readline(MAX_LINE_BYTES)
        header = parse_header(parse_line(line, place, 1), place)
        if header.spec_digest != gallery.spec_digest:
            raise TemplateMismatchError(
                f"{place} holds templates of model {header.model} ({header.spec_digest[:12]}), the gallery "
                f"those of {gallery.model} ({gallery.spec_digest[:12]}), and the two cannot be compared: "
                "import it into a gallery of that model, or enrol the subjects again"
            )
        for number in range(2, 2**62):
            digest.update(line)
            line = file.readline(MAX_LINE_BYTES)
            body = parse_line(line, place, number)
            if "end" in body:
                break
            entry = parse_entry(body, gallery, f"{place}, line {number}")
            subjects += 1
            templates += len(entry.embeddings)
            yield entry
        wanted = {"subjects": subjects, "templates": templates, "sha256": digest.hexdigest()}
        if body != {"end": wanted} or file.read(1):
            raise GalleryFormatError(
                f"{place}: the last line does not agree with what stands before it: the file is damaged or "
                "was changed; nothing was imported; export it again"
            )


@contextlib.contextmanager
def _readable(place: Path) -> Iterator[BinaryIO]:
    try:
        with place.open("rb") as file:
            yield file
    except OSError as error:
        raise GalleryError(f"{place} cannot be read: {error.strerror}") from error
