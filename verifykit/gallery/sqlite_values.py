"""How values lie in a gallery file: in clear, or sealed for their place.

A place says what the value is and where it belongs, and is bound into it when it is sealed:

- subject id: the subject's row number, which a file never gives twice.
- record (subject id and metadata): the subject's row, its revision, when it was enrolled, and the nonces of
  all its templates in their order. So it answers for the subject as a whole: a template that was taken
  away, doubled, moved to another subject, or put back from an older state is found when the subject is read.
- embedding: the subject's row and id, and the template's row number, which is never given twice either.
- reasons: the same, and the nonce of the embedding. Crop: the same, and the crop's row number.

Not found is what replaces a whole state by an older one: the file put back as it was, a subject put back
with all its rows as they were in this file, or a subject taken out with the traces that a removal leaves.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Protocol

from verifykit.errors import GalleryFormatError
from verifykit.gallery.sealing import NONCE_BYTES

__all__ = [
    "ClearValues",
    "Values",
    "check_place",
    "crop_place",
    "embedding_place",
    "id_place",
    "nonces",
    "pack_record",
    "reasons_place",
    "record_place",
    "unpack_record",
]

# Every kind has a name that ends with a zero byte, numbers of fixed size, and one part of any length, the
# last: no two places read alike.
_LABEL = b"verifykit gallery 2 "
_ID = _LABEL + b"subject id\0"
_RECORD = _LABEL + b"record\0"
_EMBEDDING = _LABEL + b"embedding\0"
_REASONS = _LABEL + b"reasons\0"
_CROP = _LABEL + b"crop\0"
_CHECK = _LABEL + b"key check\0"
_ONE, _TWO, _THREE = struct.Struct("<q"), struct.Struct("<qq"), struct.Struct("<qqq")
_LENGTH = struct.Struct("<H")


class Values(Protocol):
    """What writes and reads values; of ``Sealer`` and of :class:`ClearValues`.

    Attributes:
        sealed: Whether values are encrypted.
    """

    sealed: bool

    def seal(self, value: bytes, place: bytes) -> bytes:
        """The value as it is stored."""

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """The value that was stored.

        Raises:
            GalleryFormatError: It is not what was sealed for this place.
        """

    def id_key(self, subject_id: str) -> int:
        """A keyed hash of a subject id, 64 bits signed."""


class ClearValues:
    """Values as they are.

    Args:
        salt: The file's key for hashing subject ids.
    """

    sealed = False

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def seal(self, value: bytes, place: bytes) -> bytes:  # noqa: ARG002
        """The value itself."""
        return value

    def open(self, sealed: bytes, place: bytes) -> bytes:  # noqa: ARG002
        """The value itself."""
        return sealed

    def id_key(self, subject_id: str) -> int:
        """What an index of the ids themselves would spread over the file, a hash does not give away."""
        digest = hashlib.blake2b(subject_id.encode(), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest, "little", signed=True)


def id_place(row: int) -> bytes:
    """Of a subject's id.

    Args:
        row: The subject's row number.
    """
    return _ID + _ONE.pack(row)


def record_place(row: int, revision: int, enrolled_at: int | None, template_nonces: bytes) -> bytes:
    """Of a subject's record.

    Args:
        row: The subject's row number.
        revision: Of its last enrolment.
        enrolled_at: When that was, Unix seconds; None for unknown.
        template_nonces: Of all its templates, from :func:`nonces`.
    """
    return _RECORD + _THREE.pack(row, revision, _when(enrolled_at)) + template_nonces


def embedding_place(row: int, template: int, subject_id: bytes) -> bytes:
    """Of an embedding.

    Args:
        row: The subject's row number.
        template: The template's row number.
        subject_id: UTF-8.
    """
    return _EMBEDDING + _TWO.pack(row, template) + subject_id


def reasons_place(row: int, template: int, subject_id: bytes, embedding: bytes) -> bytes:
    """Of a template's reason codes; ``embedding`` is the sealed one, the rest as there."""
    return _REASONS + _TWO.pack(row, template) + embedding[:NONCE_BYTES] + subject_id


def crop_place(row: int, template: int, crop: int, subject_id: bytes) -> bytes:
    """Of a crop; ``crop`` is its row number, the rest as for an embedding."""
    return _CROP + _THREE.pack(row, template, crop) + subject_id


def check_place(identity: Iterable[object]) -> bytes:
    """Of the constant by which a key is known: what the file says about itself is bound into it."""
    return _CHECK + "\0".join(map(str, identity)).encode()


def nonces(embeddings: Iterable[bytes]) -> bytes:
    """The nonces of sealed embeddings in their order: they name the very values, under this file's key.

    Raises:
        GalleryFormatError: One of them is not even bytes.
    """
    try:
        return b"".join([sealed[:NONCE_BYTES] for sealed in embeddings])
    except TypeError as error:
        raise GalleryFormatError(f"an embedding is of another type: {error}") from error


def pack_record(subject_id: bytes, metadata: bytes) -> bytes:
    """A subject's id and metadata (JSON) as one value."""
    return _LENGTH.pack(len(subject_id)) + subject_id + metadata


def unpack_record(record: bytes) -> tuple[bytes, bytes]:
    """Subject id and metadata; the record was sealed, so it is one.

    Raises:
        GalleryFormatError: It is none.
    """
    if len(record) < _LENGTH.size:
        raise GalleryFormatError("a subject's record is cut short")
    end = _LENGTH.size + _LENGTH.unpack_from(record)[0]
    return record[_LENGTH.size : end], record[end:]


def _when(enrolled_at: int | None) -> int:
    return -1 if enrolled_at is None else enrolled_at
