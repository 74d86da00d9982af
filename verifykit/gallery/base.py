"""What a gallery is: the protocol, its capabilities, and the validation that all galleries share."""

from __future__ import annotations

import contextlib
import json
import math
import os
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar, Union, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    InputError,
    SubjectExistsError,
    SubjectNotFoundError,
    TemplateFormatError,
    TemplateMismatchError,
    shown,
)
from verifykit.gallery.subject_ids import checked_subject_id, is_storable
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template

KeySource: TypeAlias = Union[bytes, str, "os.PathLike[str]", Callable[[], bytes]]
"""32 bytes, the path of a key file, ``"env:NAME"``, or what asks a key service for the bytes."""

OnExisting = Literal["append", "error", "skip"]
"""What to do with an entry whose subject is already enrolled."""


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


@dataclass(frozen=True)
class Enrolment:
    """What a gallery says of a subject without opening what is stored.

    Attributes:
        subject_id: Who.
        enrolled_at: When templates were last enrolled, Unix seconds; None where an earlier version of
            verifykit enrolled, which did not note it: then since the gallery was made at the longest.
        template_count: Templates.
        crop_count: Images that were kept.
    """

    subject_id: str
    enrolled_at: int | None
    template_count: int
    crop_count: int


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


@dataclass(frozen=True)
class RekeyReport:
    """What was encrypted.

    Attributes:
        subject_count: Subjects in the gallery.
        key_fingerprint: Of the key that it is encrypted with now.
        already: It was encrypted with this key before; nothing but a log was written.
    """

    subject_count: int
    key_fingerprint: str
    already: bool


@dataclass(frozen=True)
class GalleryIdentity:
    """The model that a gallery is made or opened for, and what the gallery says about itself.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: That model's name, human-readable; may be empty.
        created: When the gallery was made, ISO 8601, UTC; empty for one that is to be made.
        version: Of its schema; 0 for one that is to be made.
    """

    spec_digest: str
    embedding_size: int
    fusion: Fusion = "max"
    model: str = ""
    created: str = ""
    version: int = 0


class _Counts(TypedDict):
    spec_digest: str
    subject_count: int


class GalleryInfo(_Counts, total=False):
    """What a gallery says about itself; a stored gallery has all but the last seven.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        subject_count: Subjects.
        template_count: Templates.
        path: Path of the file, or the URL without its password.
        model: Name of the model; may be empty.
        embedding_size: D.
        created: ISO 8601, UTC.
        revision: Another number after every write.
        schema_version: Of the tables.
        fusion: Where the gallery keeps it.
        encrypted: ``"no"``, or the name of the cipher.
        key_fingerprint: Of the key.
        crop_count: Images that were kept.
        size_bytes: Of the file.
        sealing_unfinished: An encryption was interrupted.
        shards: Servers; 0 for one.
        hnsw: Whether there is an index for approximate search.
        copied_since: The earliest time of enrolment that a copy brought, ISO 8601; absent without.
    """

    path: str
    schema_version: int
    model: str
    embedding_size: int
    fusion: Fusion
    created: str
    encrypted: str
    key_fingerprint: str
    template_count: int
    crop_count: int
    revision: int
    size_bytes: int
    sealing_unfinished: bool
    shards: int
    hnsw: bool
    copied_since: str


@runtime_checkable
class Gallery(Protocol):
    """The templates of enrolled subjects; every implementation passes one contract test suite.

    All calls may be made from several threads at once. A class that inherits from this protocol gets
    :meth:`info` and :meth:`close`, which came after version 0.1. An object with the methods of version 0.1
    and without these two is still accepted as ``gallery=``. What else a gallery can do is said by
    protocols of their own: :class:`SupportsTransfer`, :class:`SupportsCrops`, :class:`SupportsExpiry`,
    :class:`SupportsRekey`, :class:`SupportsPaging`, :class:`SupportsCheck`.

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
        """Return what is stored of one subject, templates in the order of enrolment.

        Raises:
            SubjectNotFoundError: No subject is enrolled under this id.
            InputError: No such subject id is possible.
        """

    def remove(self, subject_id: str) -> int:
        """Erase a subject: templates, metadata and id, not merely flagged.

        Returns:
            The number of templates that were erased.

        Raises:
            SubjectNotFoundError: No subject is enrolled under this id.
            InputError: No such subject id is possible.
            GalleryError: It could not be erased, and why.
        """

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """Return the best subjects for each probe.

        Exact, and the same to the last bit whether a probe is searched alone or among others.

        Args:
            probes: (N, D) float32, rows of unit length; N may be 0.
            limit: Most candidates a probe, at least 1.
            threshold: Only scores of at least this much; -1.0 takes every subject.

        Returns:
            One list a probe: one candidate a subject, its templates' scores fused; best first, equal
            scores by subject id.

        Raises:
            TemplateFormatError: Probes of another shape, not finite, or not of unit length.
            InputError: ``limit`` or ``threshold`` is not usable.
        """

    def subject_ids(self) -> Iterator[str]:
        """Return the ids of all subjects, sorted by code point."""

    def info(self) -> GalleryInfo:
        """Return what the gallery says about itself, JSON-ready."""
        return {"spec_digest": self.spec_digest, "subject_count": len(self)}

    def close(self) -> None:
        """Release files and connections. May be called twice; the default does nothing."""
        return

    def __len__(self) -> int:
        """Return the number of subjects."""


@runtime_checkable
class SupportsTransfer(Protocol):
    """A gallery that stores many subjects in one step, so that it can be imported and copied to.

    Attributes:
        embedding_size: D.
        model: Name of the model, human-readable; may be empty.
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


_G = TypeVar("_G")


@runtime_checkable
class StoredGallery(Gallery, SupportsTransfer, Protocol):
    """A gallery as it is opened at a path or a URL: it can be exported, imported and copied.

    A class that inherits from this protocol is a context manager that closes at the end.
    """

    def __enter__(self: _G) -> _G:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@runtime_checkable
class SupportsCrops(Protocol):
    """A gallery that can keep enrollment crops, :attr:`Entry.crops`.

    Attributes:
        encrypted: Whether it is encrypted, and so accepts crops.
    """

    encrypted: bool

    def crops(self, subject_id: str) -> list[bytes]:
        """Return a subject's crops in the order of enrolment; templates may lack theirs.

        Raises:
            SubjectNotFoundError: No subject is enrolled under this id.
            GalleryFormatError: One of them was changed.
            InputError: No such subject id is possible.
        """

    def enrolments(self) -> list[Enrolment]:
        """Return who is enrolled since when, with how many templates and crops; opens none of them."""


@runtime_checkable
class SupportsExpiry(Protocol):
    """A gallery that knows when each subject was enrolled.

    Attributes:
        created: When the gallery was made, ISO 8601.
    """

    created: str

    def enrolments(self) -> list[Enrolment]:
        """Return who is enrolled since when, with how many templates and crops; opens none of them."""

    def expire(self, before: int, on_erase: Callable[[Enrolment], None]) -> tuple[int, bool]:
        """Erase some of those whose last enrolment is older; call it again until there is none.

        Args:
            before: Unix seconds.
            on_erase: Called with each one before it is final; what it raises undoes this call.

        Returns:
            How many were erased, and whether their bytes have left every file too.
        """


@runtime_checkable
class SupportsRekey(Protocol):
    """A gallery that verifykit encrypts, and encrypts with another key, while it is in use."""

    def rekey(
        self, key: KeySource, *, on_progress: Callable[[int, int], None] | None = None
    ) -> RekeyReport:
        """Encrypt everything with another key; the gallery that is open continues with that key.

        Args:
            key: The key to encrypt with.
            on_progress: Called with the number of subjects that are done, and of all of them.
        """


@runtime_checkable
class SupportsPaging(Protocol):
    """A gallery that reads a page of its ids without reading all of them."""

    def subject_page(self, after: str | None, limit: int) -> list[str]:
        """Return the first ids behind ``after``, at most ``limit``, sorted by code point."""


@runtime_checkable
class SupportsCheck(Protocol):
    """A gallery that can look for damage in what it stores."""

    def check(self) -> list[str]:
        """Read everything and return a sentence for each problem, none for a sound gallery."""


class GallerySnapshot(Protocol):
    """A gallery as it was at one moment, whatever is written to it since."""

    @property
    def info(self) -> GalleryInfo:
        """What the gallery said about itself at that moment."""

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`; without metadata."""

    def close(self) -> None:
        """Release what it holds."""


@runtime_checkable
class SupportsSnapshot(Protocol):
    """A gallery that can be searched as it was at one moment; of others a copy is made."""

    def snapshot(self) -> GallerySnapshot:
        """Return the gallery as it is now."""


_METHODS_0_1 = ("add", "get", "remove", "search", "subject_ids", "__len__", "spec_digest")


def is_gallery(value: object) -> bool:
    """Return whether a value has what :class:`Gallery` had in version 0.1, which is enough to use it."""
    return all(hasattr(value, name) for name in _METHODS_0_1)


def gallery_info(gallery: Gallery) -> GalleryInfo:
    """Return :meth:`Gallery.info`, or its default for a gallery that was written for version 0.1."""
    return gallery.info() if hasattr(gallery, "info") else Gallery.info(gallery)


def subject_page(gallery: Gallery, after: str | None, limit: int) -> list[str]:
    """Return the first ids behind ``after``, at most ``limit``, sorted by code point."""
    if isinstance(gallery, SupportsPaging):
        return gallery.subject_page(after, limit)
    ids = list(gallery.subject_ids())
    start = 0 if after is None else bisect_right(ids, after)
    return ids[start : start + limit]


def each_subject(gallery: Gallery) -> Iterator[Subject]:
    """Yield all subjects, sorted by code point; one who is removed meanwhile is left out."""
    for subject_id in gallery.subject_ids():
        try:
            subject = gallery.get(subject_id)
        except SubjectNotFoundError:
            continue
        yield subject


def stored_subject_id(gallery: Gallery, value: str) -> str:
    """Return the id of a subject as a gallery stores it; a new one's as it would be stored.

    Raises:
        InputError: No such subject id is possible, and none is stored.
    """
    try:
        subject_id = checked_subject_id(value)
    except InputError:
        with contextlib.suppress(SubjectNotFoundError):
            return gallery.get(value).subject_id
        raise
    if subject_id == value:
        return value
    try:
        return gallery.get(value).subject_id
    except SubjectNotFoundError:
        return subject_id


def require_one_spelling(gallery: Gallery, subject_id: str) -> None:
    """Raise :class:`SubjectExistsError` for a new id that an earlier version stored in another form."""
    decomposed = unicodedata.normalize("NFD", subject_id)
    if decomposed == subject_id or not find_exact(gallery, decomposed):
        return
    if find_exact(gallery, subject_id):
        return
    raise SubjectExistsError(
        f"subject {shown(subject_id)} is enrolled as {decomposed!a}, the same name in another form, by an "
        "earlier version: remove that one, and enrol again; nothing was stored"
    )


def find_exact(gallery: Gallery, subject_id: str) -> Subject | None:
    """Return a subject under this very id: another form of a name is another subject of an old gallery."""
    try:
        found = gallery.get(subject_id)
    except (SubjectNotFoundError, InputError):  # an id of an earlier version
        return None
    return found if found.subject_id == subject_id else None


MAX_METADATA_BYTES = 1 << 20


def checked_entry(
    subject_id: str,
    templates: Sequence[Template],
    metadata: Mapping[str, Any] | None,
    *,
    spec_digest: str,
    embedding_size: int,
    crops: Sequence[bytes] = (),
    keep_id: bool = False,
) -> Entry:
    """Return an enrolment that this gallery can take, or raise before anything is stored.

    ``keep_id`` takes the id as an earlier version stored it, for copies.

    Raises:
        InputError: The subject id or the metadata are not usable, there is no template, or the crops are
            not one for each.
        TemplateMismatchError: A template is another model's.
        TemplateFormatError: A template is of another length.
    """
    if not (keep_id and isinstance(subject_id, str) and is_storable(subject_id)):
        subject_id = checked_subject_id(subject_id)
    if isinstance(templates, Template):
        raise InputError("templates is a sequence of templates: write [template]")
    templates = list(templates)
    if not templates:
        raise InputError(
            f"subject {shown(subject_id)}: no templates were given, enrol at least one"
        )
    for template in templates:
        if not isinstance(template, Template):
            raise InputError(f"a Template was expected, got {type(template).__name__}")
        template.require(spec_digest, embedding_size)
    if crops and len(crops) != len(templates):
        raise InputError(
            f"subject {shown(subject_id)}: {len(crops)} crops for {len(templates)} templates: give one for "
            "each"
        )
    return Entry(
        subject_id,
        np.stack([template.embedding for template in templates]),
        tuple(template.reasons for template in templates),
        None if metadata is None else _metadata_to_json(metadata, subject_id),
        tuple(bytes(crop) for crop in crops),
    )


def new_entry(
    gallery: StoredGallery,
    subject_id: str,
    templates: Sequence[Template],
    metadata: Mapping[str, Any] | None,
    *,
    crops: Sequence[bytes] = (),
) -> Entry:
    """Return what :meth:`Gallery.add` is to store, or raise as it does before anything is stored."""
    entry = checked_entry(
        subject_id,
        templates,
        metadata,
        spec_digest=gallery.spec_digest,
        embedding_size=gallery.embedding_size,
        crops=crops,
    )
    require_one_spelling(gallery, entry.subject_id)
    return entry


def require_no_crops(entry: Entry) -> Entry:
    """Return the entry, for a gallery that is not encrypted; raise if it has crops."""
    if entry.crops:
        raise GalleryError(
            f"subject {shown(entry.subject_id)}: crops are images of people, and kept in an encrypted "
            "gallery only (SqliteGallery with key=); nothing was stored"
        )
    return entry


def checked_question(limit: int, threshold: float) -> tuple[int, float]:
    """Return the two numbers of a search.

    Raises:
        InputError: ``limit`` is not a positive integer, or ``threshold`` is not a finite number.
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 1:
        raise InputError(f"limit must be a positive integer, got {shown(limit)}")
    if not isinstance(threshold, (int, float, np.floating)) or not math.isfinite(threshold):
        raise InputError(f"threshold must be a finite number, got {shown(threshold)}")
    return int(limit), float(threshold)


def checked_identity(spec_digest: str, embedding_size: int) -> None:
    """Raise unless a gallery can be made for this model."""
    if not isinstance(spec_digest, str) or not spec_digest:
        raise TemplateMismatchError("a gallery belongs to one model: spec_digest is empty")
    if (
        isinstance(embedding_size, bool)
        or not isinstance(embedding_size, int)
        or embedding_size < 1
    ):
        raise TemplateFormatError(
            f"embedding_size must be a positive integer, got {shown(embedding_size)}"
        )


def checked_timeout(timeout_s: float) -> float:
    """Return the timeout, or raise :class:`InputError` if it is negative or not a number."""
    if not isinstance(timeout_s, (int, float)) or not timeout_s >= 0:
        raise InputError(f"timeout_s must be 0 or more, got {shown(timeout_s)}")
    return float(timeout_s)


def unix_time(created: str) -> int:
    """Return when a gallery was made, Unix seconds, from :attr:`SupportsExpiry.created`."""
    return int(datetime.fromisoformat(created).timestamp())


def copied_since(gallery: object) -> int | None:
    """Return the earliest time of enrolment that a copy brought to a gallery, Unix seconds."""
    found = gallery.info().get("copied_since") if isinstance(gallery, Gallery) else None
    return None if found is None else unix_time(found)


def require_same_model(shown: str, found: GalleryIdentity, required: GalleryIdentity) -> None:
    """Raise unless a gallery was made with this model."""
    if found.spec_digest != required.spec_digest:
        raise TemplateMismatchError(
            f"gallery {shown} holds templates of model {found.model or 'without a name'} "
            f"({found.spec_digest[:12]}), not of {required.model or 'this one'} "
            f"({required.spec_digest[:12]}), and the two cannot be compared: open it with that model, or "
            "enrol the subjects again into a new gallery"
        )
    if found.embedding_size != required.embedding_size:
        raise GalleryFormatError(
            f"gallery {shown} holds embeddings of {found.embedding_size} values, the model makes "
            f"{required.embedding_size}: the gallery is damaged"
        )


def _metadata_to_json(metadata: Mapping[str, Any], subject_id: str) -> str:
    if not isinstance(metadata, Mapping):
        raise InputError(
            f"subject {shown(subject_id)}: metadata is a mapping, got {type(metadata).__name__}"
        )
    try:
        _require_string_keys(metadata)
        text = json.dumps(dict(metadata), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"subject {shown(subject_id)}: metadata is not a JSON object: {error}"
        ) from error
    if len(text) > MAX_METADATA_BYTES:
        raise InputError(
            f"subject {shown(subject_id)}: metadata is {len(text)} bytes of JSON, at most "
            f"{MAX_METADATA_BYTES} are kept: keep the rest elsewhere, under the subject id"
        )
    return text


def _require_string_keys(value: Any) -> None:
    # json.dumps would turn the keys 1 and None into strings, and two of them into one.
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings, got {shown(key)}")
            _require_string_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_string_keys(item)


def metadata_from_json(text: str) -> dict[str, Any]:
    """Return the metadata that a gallery keeps as text, a fresh object at each call."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, got {type(value).__name__}")  # noqa: TRY004
    return value


def embedding_from_blob(blob: object, embedding_size: int) -> NDArray[np.float32]:
    """(D,) float32 from little-endian bytes."""
    if not isinstance(blob, bytes) or len(blob) != 4 * embedding_size:
        size = f"{len(blob)} bytes" if isinstance(blob, bytes) else type(blob).__name__
        raise TemplateFormatError(f"an embedding has {4 * embedding_size} bytes, got {size}")
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)
