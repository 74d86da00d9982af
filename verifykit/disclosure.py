"""All that is stored of one person, for that person: GDPR, articles 15 (access) and 20 (portability)."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from verifykit.audit import read_log
from verifykit.gallery import SqliteGallery, StoredGallery

__all__ = ["subject_record"]

_FORMAT = "verifykit subject"
_VERSION = 1


def subject_record(
    gallery: StoredGallery, subject_id: str, audit_log: str | os.PathLike[str] | None = None
) -> Mapping[str, Any]:
    """Everything that a gallery and an audit log hold about a subject, JSON-ready.

    Args:
        gallery: Where the subject is enrolled.
        subject_id: Who.
        audit_log: The log, or None for none.

    Returns:
        ``subject_id``; ``enrolled_at``, the last enrolment (ISO 8601, UTC; None where it is not known);
        ``model`` (``name``, ``spec_digest``, ``embedding_size``); ``metadata``; ``templates``, each with
        ``embedding`` and ``reasons``; ``crops``, each with ``media_type`` and ``base64``; ``audit``, the
        entries about the subject, or None without a log; and ``format``, ``version``, ``made_at``.

    Raises:
        SubjectNotFoundError: Nobody is enrolled under this id.
        GalleryError: The gallery cannot be read, or what is stored was changed.
        AuditError: The log cannot be read, or is damaged.
        InputError: No such subject id is possible.
    """
    subject = gallery.get(subject_id)
    crops = gallery.crops(subject_id) if isinstance(gallery, SqliteGallery) else []
    at = subject.enrolled_at
    entries = None
    if audit_log is not None:
        entries = [e.to_dict() for e in read_log(audit_log) if e.subject_id == subject_id]
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "made_at": _iso(datetime.now(timezone.utc)),
        "subject_id": subject_id,
        "enrolled_at": None if at is None else _iso(datetime.fromtimestamp(at, timezone.utc)),
        "model": {
            "name": gallery.model,
            "spec_digest": gallery.spec_digest,
            "embedding_size": gallery.embedding_size,
        },
        "metadata": dict(subject.metadata),
        "templates": [
            {"embedding": template.embedding.tolist(), "reasons": list(template.reasons)}
            for template in subject.templates
        ],
        "crops": [
            {"media_type": "image/png", "base64": base64.b64encode(crop).decode()} for crop in crops
        ],
        "audit": entries,
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
