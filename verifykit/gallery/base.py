"""What a gallery is: enrolled subjects, kept and searched.

What a gallery lets in: one check of entries and questions for every implementation.

What a subject may be called: one rule for every gallery.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import GalleryError, InputError, TemplateFormatError, TemplateMismatchError
from verifykit.types import Candidate, Embeddings, Subject, Template

MAX_SUBJECT_ID_BYTES = 255

# Line and paragraph separators break logs; embeddings, overrides and isolates (Unicode UAX #9) make
# one id print as another. The joiner of emoji is neither.
_FORBIDDEN_CATEGORIES = {"Cc": "a control character", "Cs": "half of a surrogate pair"}
_FORBIDDEN_POINTS = {
    **dict.fromkeys("\u2028\u2029", "a line separator"),
    **dict.fromkeys(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", "a text direction override"
    ),
}


def checked_subject_id(value: object) -> str:
    """The subject id, if it is one.

    Ids are compared code point by code point: two Unicode spellings of one name are two subjects.

    Args:
        value: 1 to 255 bytes of UTF-8, not only white space. ``/``, spaces and emoji are fine.

    Returns:
        The same string.

    Raises:
        InputError: Not a string, empty, too long, or it holds a control character, a lone
            surrogate, a line separator or a text direction override.
    """
    if not isinstance(value, str):
        raise InputError(f"a subject id is a string, got {type(value).__name__}")
    if not value.strip():
        raise InputError(f"a subject id must not be empty, got {value!r}")
    for position, character in enumerate(value):
        what = _FORBIDDEN_CATEGORIES.get(unicodedata.category(character))
        what = what or _FORBIDDEN_POINTS.get(character)
        if what:
            raise InputError(
                f"subject id {value[:64]!r} holds {what} (U+{ord(character):04X}) at position "
                f"{position}: leave it out"
            )
    size = len(value.encode())
    if size > MAX_SUBJECT_ID_BYTES:
        raise InputError(
            f"a subject id has at most {MAX_SUBJECT_ID_BYTES} bytes of UTF-8, {value[:32]!r}... has {size}"
        )
    return value


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


OnExisting = Literal["append", "error", "skip"]
"""What to do with an entry whose subject is already enrolled."""


@dataclass(frozen=True)
class TransferReport:
    """What was written or stored.

    Attributes:
        subject_count: Subjects written to the file, or stored in the gallery.
        template_count: Their templates.
        skipped_count: Subjects who were enrolled before, with ``on_existing="skip"``.
    """

    subject_count: int
    template_count: int
    skipped_count: int = 0


@runtime_checkable
class Gallery(Protocol):
    """The templates of enrolled subjects; every implementation passes one contract test suite.

    All calls may be made from several threads at once.

    Attributes:
        spec_digest: Digest of the model whose templates it holds; others are refused.
    """

    spec_digest: str

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Enrol templates; a subject who is there already gets them in addition.

        What returns is stored: a gallery on disk has it on the disk. What raises has stored nothing.
        An embedding, its reason codes and the metadata are kept; the place in the image is not.

        Args:
            subject_id: See :func:`~verifykit.gallery.checked_subject_id`.
            templates: At least one, all of this gallery's model.
            metadata: A JSON object that replaces what is stored; None leaves it.

        Raises:
            InputError: No such subject id is possible, no template, or metadata that is not JSON.
            TemplateMismatchError: A template was made by another model.
            TemplateFormatError: A template is of another length.
            GalleryError: It could not be stored, and why.
        """

    def get(self, subject_id: str) -> Subject:
        """What is stored of one subject, templates in the order of enrolment.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            InputError: No such subject id is possible.
        """

    def remove(self, subject_id: str) -> int:
        """Erase a subject: templates, metadata and id, not merely flagged.

        Returns:
            The number of templates that were erased.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            InputError: No such subject id is possible.
            GalleryError: It could not be erased, and why.
        """

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """The best subjects for each probe.

        Exact, and the same to the last bit whether a probe is searched alone or among others.

        Args:
            probes: (N, D) float32, rows of unit length; N may be 0.
            limit: Most candidates a probe, at least 1.
            threshold: Only scores of at least this much; -1.0 takes everybody.

        Returns:
            One list a probe: one candidate a subject, its templates' scores fused; best first, equal
            scores by subject id.

        Raises:
            TemplateFormatError: Probes of another shape, not finite, or not of unit length.
            InputError: ``limit`` or ``threshold`` is not usable.
        """

    def subject_ids(self) -> Iterator[str]:
        """Ids of all subjects, sorted by code point."""

    def __len__(self) -> int:
        """Number of subjects."""


@runtime_checkable
class PortableGallery(Gallery, Protocol):
    """A gallery that can be exported and imported.

    Attributes:
        embedding_size: D.
        model: Name of the model, for people; may be empty.
    """

    embedding_size: int
    model: str

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """Store all entries or, if anything raises, none of them.

        Args:
            entries: Checked entries, each subject once; may be a generator, whose errors pass through.
            on_existing: What to do with a subject who was enrolled before.

        Returns:
            How many entries were stored, and how many skipped.

        Raises:
            SubjectExistsError: ``on_existing="error"``, and a subject is there.
            GalleryError: It could not be stored.
        """
