"""Copying a gallery to another one of any kind, to be continued where it was interrupted."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from verifykit.errors import GalleryError, SubjectNotFoundError, TemplateMismatchError
from verifykit.gallery.intake import Entry, checked_entry
from verifykit.gallery.opening import StoredGallery
from verifykit.gallery.protocol import TransferReport
from verifykit.types import Subject

__all__ = ["copy_gallery"]

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
        try:
            there = target.get(subject_id)
        except SubjectNotFoundError:
            entry = checked_entry(
                subject_id,
                subject.templates,
                subject.metadata,
                spec_digest=target.spec_digest,
                embedding_size=target.embedding_size,
            )
            yield dataclasses.replace(entry, enrolled_at=subject.enrolled_at)
            continue
        if not _is_same(subject, there):
            raise GalleryError(
                f"subject {subject_id!r} is in the target with other templates, reasons or metadata: "
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
    before: dict[str, Any],
    copied: tuple[int, int, int],
) -> None:
    subjects, templates, skipped = copied
    now, whole = target.info(), source.info()
    counts = {
        "subjects read": (subjects + skipped, whole["subject_count"]),
        "subjects stored": (now["subject_count"], before["subject_count"] + subjects),
        "templates stored": (now["template_count"], before["template_count"] + templates),
    }
    for what, (found, wanted) in counts.items():
        if found != wanted:
            raise GalleryError(
                f"{what}: {found}, expected {wanted}: one of the galleries was written to meanwhile; "
                "copy again, which goes on from here"
            )
