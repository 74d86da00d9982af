"""Privacy: erase subjects whose retention time is over, and export all that is stored of one subject.

GDPR, article 5 (1) e: personal data are kept no longer than is necessary; articles 15 (access) and 20
(portability).
"""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from verifykit.audit import AuditLog, read_log
from verifykit.errors import InputError, shown
from verifykit.expiry_check import MAX_SHARE, check_expiry
from verifykit.gallery import Enrolment, Gallery, StoredGallery, SupportsCrops, SupportsExpiry
from verifykit.gallery.times import iso_time


@dataclass(frozen=True)
class Expired:
    """A subject whose retention time was over.

    Attributes:
        subject_id: Who.
        enrolled_at: Of the last enrolment, ISO 8601, UTC; None where an earlier version of verifykit
            enrolled, which did not note it: their time counts from the making of the gallery.
        template_count: Templates.
    """

    subject_id: str
    enrolled_at: str | None
    template_count: int


@dataclass(frozen=True)
class ExpiryReport:
    """Who was erased, or would be.

    Attributes:
        before: Last enrolments before this moment were too long ago; ISO 8601, UTC.
        gallery_created: When the gallery was made, ISO 8601, UTC.
        expired: In the order of first enrolment.
        dry_run: Whether nothing was erased.
        erased: Whether the bytes have left every file: not so while another process is reading, or in a
            dry run.
        refusal: In a dry run, why the erasure would be refused; None if it would not.
        suspect: Subjects whose time of enrolment cannot be right, each with the reason: subjects
            enrolled while a clock was wrong, due or not.
    """

    before: str
    gallery_created: str
    expired: tuple[Expired, ...]
    dry_run: bool
    erased: bool
    refusal: str | None = None
    suspect: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain values."""
        return dataclasses.asdict(self)


def expire(
    gallery: Gallery,
    age: timedelta,
    *,
    audit: AuditLog | None = None,
    dry_run: bool = False,
    max_share: float = MAX_SHARE,
    confirmed: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> ExpiryReport:
    """Erase all subjects whose last enrolment is longer ago.

    Twenty at a time: others may write in between, and who is enrolled again before their turn stays.

    A wrong clock would erase people who were enrolled today. So nothing is erased if the clock is more than
    five minutes behind the newest enrolment or audit entry; if nothing was enrolled or logged for longer than
    ``age`` and 30 days; if the time of one of those to be erased cannot be right; or if more than
    ``max_share`` of all subjects would be erased at once, except up to three of them while the newest
    enrolment or audit entry is of the last 30 days.

    Args:
        gallery: One that notes the time of an enrolment, open for writing unless it is a dry run.
        age: How long is long enough; more than zero.
        audit: Where each erasure is written down (verb ``expire``) before it is done: a crash in between may
            leave an entry for a subject who is erased, with another entry, by the next call.
        dry_run: Only report who it would be, and whether it would be refused.
        max_share: The share of all subjects that may be erased at once, 0 to 1.
        confirmed: The operator has looked at the clock and at those who are to be erased: nothing is
            refused.
        go_on: Called before each transaction; False ends it early.

    Returns:
        Who was erased.

    Raises:
        InputError: The gallery does not note when a subject was enrolled, ``age`` is zero or less, or an
            option is of another type or range.
        ExpiryRefusedError: The clock or the number of those to be erased is not plausible; nothing was
            erased.
        AuditError: The log cannot be read, or an erasure could not be written down; no subject was erased
            since the last entries.
        GalleryError: The gallery cannot be read or written.
    """
    if not isinstance(age, timedelta) or age <= timedelta(0):
        raise InputError(f"age must be > 0, a timedelta, got {shown(age)}")
    for name, value in (("dry_run", dry_run), ("confirmed", confirmed)):
        if not isinstance(value, bool):  # "no" would be true
            raise InputError(f"{name} is True or False, got {shown(value)}")
    dated = require_expiry(gallery)
    check = check_expiry(dated, age, audit=audit, max_share=max_share)
    if check.refusal is not None and not (dry_run or confirmed):
        raise check.refusal
    found: list[Enrolment] = []
    erased = False

    def on_erase(enrolment: Enrolment) -> None:
        if audit is not None:
            audit.append(
                "expire",
                subject_id=enrolment.subject_id,
                decision="removed",
                model_digest=gallery.spec_digest,
            )
        found.append(enrolment)

    if dry_run:
        found = list(check.due)
    else:
        count = 1
        while count and go_on():
            count, erased = dated.expire(check.before, on_erase)
    return ExpiryReport(
        iso_time(check.before),
        iso_time(check.created),
        tuple(map(_expired, found)),
        dry_run,
        erased,
        str(check.refusal) if check.refusal is not None and dry_run else None,
        tuple((each.subject_id, problem) for each, problem in check.suspect),
    )


def require_expiry(gallery: object) -> SupportsExpiry:
    """Return the gallery, or raise :class:`InputError` if it does not note when a subject was enrolled."""
    if not isinstance(gallery, SupportsExpiry):
        raise InputError(
            f"{type(gallery).__name__} does not note when a subject was enrolled, so no subject can expire: "
            "retention is not offered there yet, only for a gallery in a file"
        )
    return gallery


def _expired(enrolment: Enrolment) -> Expired:
    at = enrolment.enrolled_at
    return Expired(
        enrolment.subject_id, None if at is None else iso_time(at), enrolment.template_count
    )


_FORMAT = "verifykit subject"
_VERSION = 1


def subject_record(
    gallery: StoredGallery, subject_id: str, audit_log: str | os.PathLike[str] | None = None
) -> Mapping[str, Any]:
    """Return everything that a gallery and an audit log hold about a subject, JSON-ready.

    Args:
        gallery: Where the subject is enrolled.
        subject_id: Who.
        audit_log: The log, if there is one.

    Returns:
        ``subject_id``; ``enrolled_at``, the last enrolment (ISO 8601, UTC; None where it is not known);
        ``model`` (``name``, ``spec_digest``, ``embedding_size``); ``metadata``; ``templates``, each with
        ``embedding`` and ``reasons``; ``crops``, each with ``media_type`` and ``base64``; ``audit``, the
        entries about the subject, or None without a log; and ``format``, ``version``, ``made_at``.

    Raises:
        SubjectNotFoundError: No subject is enrolled under this id.
        GalleryError: The gallery cannot be read, or what is stored was changed.
        AuditError: The log cannot be read, or is damaged.
        InputError: No such subject id is possible.
    """
    subject = gallery.get(subject_id)
    crops = gallery.crops(subject_id) if isinstance(gallery, SupportsCrops) else []
    at = subject.enrolled_at
    entries = None
    if audit_log is not None:
        # An earlier version logged the id as it was typed.
        ids = {subject_id, subject.subject_id}
        entries = [e.to_dict() for e in read_log(audit_log) if e.subject_id in ids]
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "made_at": _iso_time(datetime.now(timezone.utc)),
        "subject_id": subject.subject_id,
        "enrolled_at": None if at is None else _iso_time(datetime.fromtimestamp(at, timezone.utc)),
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


def _iso_time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
