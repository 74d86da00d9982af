r"""The lines of an exported gallery.

The file is UTF-8 text, a JSON object a line (JSON Lines), and nothing in it is ever executed:

1. ``{"format": "verifykit-gallery", "version": 1, "spec_digest": ..., "embedding_size": D, "model": ...}``
2. one line a subject: ``{"subject_id": ..., "metadata": {...}, "templates": [{"embedding": ...,
   "reasons": [...]}, ...]}``, where an embedding is the base64 of D little-endian float32;
3. ``{"end": {"subjects": n, "templates": m, "sha256": ...}}``, the SHA-256 of all bytes before this line.

A file without the last line was cut short. It detects damage, not forgery. Whoever can read it has the
embeddings: it is made readable by its owner only.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifykit.errors import GalleryFormatError, InputError, TemplateError
from verifykit.gallery.intake import Entry, checked_entry
from verifykit.gallery.protocol import PortableGallery
from verifykit.gallery.sqlite_index import embedding_from_blob
from verifykit.types import Subject, Template

__all__ = [
    "FORMAT",
    "MAX_LINE_BYTES",
    "VERSION",
    "ExportHeader",
    "parse_entry",
    "parse_header",
    "parse_line",
    "subject_line",
]

FORMAT = "verifykit-gallery"
VERSION = 1
MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True)
class ExportHeader:
    """What the first line of an exported file says.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        model: That model's name, for people; may be empty.
    """

    spec_digest: str
    embedding_size: int
    model: str


def subject_line(subject: Subject) -> dict[str, Any]:
    """A subject as the object of its line."""
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


def parse_entry(body: dict[str, Any], gallery: PortableGallery, where: str) -> Entry:
    """A subject's line as an entry that this gallery can take.

    Raises:
        GalleryFormatError: It is not one; the message begins with ``where``.
    """
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
        )
    except (InputError, TemplateError, ValueError, TypeError, KeyError, binascii.Error) as error:
        raise GalleryFormatError(f"{where}: {error}; nothing was imported") from error


def parse_line(line: bytes, place: Path, number: int) -> dict[str, Any]:
    """A line as a JSON object.

    Raises:
        GalleryFormatError: It is not one, or is not a whole line.
    """
    if not line.endswith(b"\n"):
        raise GalleryFormatError(
            f"{place}, line {number}: the file ends here without its last line, or the line is longer than "
            f"{MAX_LINE_BYTES >> 20} MB: it was cut short, or is no exported gallery; nothing was imported"
        )
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GalleryFormatError(
            f"{place}, line {number}: not JSON: {error}; nothing was imported"
        ) from error
    if not isinstance(body, dict):
        raise GalleryFormatError(f"{place}, line {number}: not a JSON object; nothing was imported")
    return body


def parse_header(body: dict[str, Any], place: Path) -> ExportHeader:
    """The first line.

    Raises:
        GalleryFormatError: Not an exported gallery, of a newer version, or damaged.
    """
    if body.get("format") != FORMAT:
        raise GalleryFormatError(f"{place} is not an exported gallery")
    if body.get("version") != VERSION:
        raise GalleryFormatError(
            f"{place} has version {body.get('version')!r}, this verifykit reads {VERSION}: install the "
            "verifykit that wrote it"
        )
    values = (body.get("spec_digest"), body.get("embedding_size"), body.get("model"))
    digest, size, model = values
    if not isinstance(digest, str) or not isinstance(size, int) or not isinstance(model, str):
        raise GalleryFormatError(f"{place}: the first line is damaged: {values}")
    return ExportHeader(digest, size, model)
