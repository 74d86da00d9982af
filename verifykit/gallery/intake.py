"""What a gallery lets in: one check of entries and questions for every implementation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import (
    GalleryError,
    InputError,
    TemplateFormatError,
    TemplateMismatchError,
)
from verifykit.gallery.subject_id import checked_subject_id
from verifykit.types import Template

__all__ = [
    "Entry",
    "checked_entry",
    "checked_identity",
    "checked_question",
    "metadata_from_json",
    "require_no_crops",
]

MAX_METADATA_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Entry:
    """A checked enrolment.

    Attributes:
        subject_id: Who.
        embeddings: (T, D) float32, T at least 1.
        reasons: The quality reason codes of each template.
        metadata: JSON text of an object; None leaves what is there.
        crops: What to keep of the image of each template; empty for nothing.
        enrolled_at: When the subject was there, Unix seconds; None for now.
    """

    subject_id: str
    embeddings: NDArray[np.float32]
    reasons: tuple[tuple[str, ...], ...]
    metadata: str | None
    crops: tuple[bytes, ...] = ()
    enrolled_at: int | None = None


def checked_entry(
    subject_id: str,
    templates: Sequence[Template],
    metadata: Mapping[str, Any] | None,
    *,
    spec_digest: str,
    embedding_size: int,
    crops: Sequence[bytes] = (),
) -> Entry:
    """An enrolment that this gallery can take, or the reason why not, before anything is stored.

    Raises:
        InputError: The subject id or the metadata are not usable, there is no template, or the crops are
            not one for each.
        TemplateMismatchError: A template is another model's.
        TemplateFormatError: A template is of another length.
    """
    subject_id = checked_subject_id(subject_id)
    if isinstance(templates, Template):
        raise InputError("templates is a sequence of templates: write [template]")
    templates = list(templates)
    if not templates:
        raise InputError(f"subject {subject_id!r}: no templates were given, enrol at least one")
    for template in templates:
        if not isinstance(template, Template):
            raise InputError(f"a Template was expected, got {type(template).__name__}")
        template.require(spec_digest, embedding_size)
    if crops and len(crops) != len(templates):
        raise InputError(
            f"subject {subject_id!r}: {len(crops)} crops for {len(templates)} templates: give one for each"
        )
    return Entry(
        subject_id,
        np.stack([template.embedding for template in templates]),
        tuple(template.reasons for template in templates),
        None if metadata is None else _metadata_to_json(metadata, subject_id),
        tuple(bytes(crop) for crop in crops),
    )


def require_no_crops(entry: Entry) -> Entry:
    """The entry, for a gallery that is not encrypted.

    Raises:
        GalleryError: Crops are to be kept.
    """
    if entry.crops:
        raise GalleryError(
            f"subject {entry.subject_id!r}: crops are pictures of people, and kept in an encrypted gallery "
            "only (SqliteGallery with key=); nothing was stored"
        )
    return entry


def checked_question(limit: int, threshold: float) -> tuple[int, float]:
    """The two numbers of a search.

    Raises:
        InputError: ``limit`` is not a positive integer, or ``threshold`` is not a finite number.
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 1:
        raise InputError(f"limit must be a positive integer, got {limit!r}")
    if not isinstance(threshold, (int, float, np.floating)) or not math.isfinite(threshold):
        raise InputError(f"threshold must be a finite number, got {threshold!r}")
    return int(limit), float(threshold)


def checked_identity(spec_digest: str, embedding_size: int) -> None:
    """Whether a gallery can be made for this model.

    Raises:
        TemplateMismatchError: No digest.
        TemplateFormatError: ``embedding_size`` is not a positive integer.
    """
    if not isinstance(spec_digest, str) or not spec_digest:
        raise TemplateMismatchError("a gallery belongs to one model: spec_digest is empty")
    if (
        isinstance(embedding_size, bool)
        or not isinstance(embedding_size, int)
        or embedding_size < 1
    ):
        raise TemplateFormatError(
            f"embedding_size must be a positive integer, got {embedding_size!r}"
        )


def _metadata_to_json(metadata: Mapping[str, Any], subject_id: str) -> str:
    if not isinstance(metadata, Mapping):
        raise InputError(
            f"subject {subject_id!r}: metadata is a mapping, got {type(metadata).__name__}"
        )
    try:
        _require_string_keys(metadata)
        text = json.dumps(dict(metadata), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"subject {subject_id!r}: metadata is not a JSON object: {error}"
        ) from error
    if len(text) > MAX_METADATA_BYTES:
        raise InputError(
            f"subject {subject_id!r}: metadata is {len(text)} bytes of JSON, at most "
            f"{MAX_METADATA_BYTES} are kept: keep the rest elsewhere, under the subject id"
        )
    return text


def _require_string_keys(value: Any) -> None:
    # json.dumps would turn the keys 1 and None into strings, and two of them into one.
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings, got {key!r}")
            _require_string_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_string_keys(item)


def metadata_from_json(text: str) -> dict[str, Any]:
    """The metadata that a gallery keeps as text, a fresh object at each call.

    Raises:
        ValueError: The text is not a JSON object.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, got {type(value).__name__}")  # noqa: TRY004
    return value
