"""How values are stored in a gallery file: in plain text, or encrypted by AES-256-GCM for their place.

A file has keys of its own, derived from the operator's key and the file's salt (HKDF-SHA256, RFC 5869): so
nonces never meet across files, and a subject id's hash says nothing without the key.

A place says what a value is and where it belongs. It is bound into the value as associated data and not
stored: a value that was moved to another place is refused.

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

import base64
import binascii
import hashlib
import os
import secrets
import sqlite3
import stat
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from verifykit._environment import import_problem
from verifykit._files import sync
from verifykit.errors import GalleryFormatError, GalleryKeyError, shortened, shortened_path, shown
from verifykit.gallery.base import KeySource

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER = "AES-256-GCM"
KEY_BYTES = 32
SALT_BYTES = 16

_LABEL = b"verifykit gallery 2"
# Random nonces of 96 bits: at most 2^32 values may be encrypted with one key (NIST SP 800-38D, 8.3). A file
# of a billion templates stays below.
NONCE_BYTES = 12


def read_key(source: KeySource) -> bytes:
    """Return the operator's 32 bytes."""
    if callable(source):
        return _checked(source(), "what the key's callable returned")
    if isinstance(source, (bytes, bytearray)):
        return _checked(bytes(source), "the key")
    text = os.fspath(source)
    if text.startswith("env:"):
        value = os.environ.get(text[4:])
        if value is None:
            raise GalleryKeyError(
                f"the environment variable {shortened(text[4:])} holds no key: set it to 32 bytes in base64"
            )
        return _decoded(value.encode(), f"the environment variable {shortened(text[4:])}")
    return _from_file(Path(text))


def key_fingerprint(source: KeySource) -> str:
    """Return 16 hexadecimal digits by which a key is known; they say nothing about the key.

    Args:
        source: 32 bytes, a key file's path, ``"env:NAME"``, or a callable that returns the bytes.

    Raises:
        GalleryKeyError: There is no such key, or the extra ``encrypt`` is not installed.
    """
    return EncryptedValues(read_key(source), b"").fingerprint


def new_key_file(path: str | os.PathLike[str]) -> None:
    """Make a key file of 32 random bytes in base64, which only its owner may read.

    Args:
        path: Where; nothing is there yet.

    Raises:
        GalleryKeyError: Something is there already, or it cannot be written.
    """
    text = base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            sync(file.fileno())
    except FileExistsError as error:
        raise GalleryKeyError(
            f"{shortened(os.fspath(path))} is there already, and what it encrypted is lost without "
            "it: choose "
            "another path"
        ) from shortened_path(error)
    except OSError as error:
        raise GalleryKeyError(
            f"{shortened(os.fspath(path))}: the key cannot be written: {error.strerror}"
        ) from shortened_path(error)


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(4096)
    except OSError as error:
        raise GalleryKeyError(
            f"key file {shortened(path)}: {error.strerror}: check the path"
        ) from shortened_path(error)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise GalleryKeyError(
            f"key file {shortened(path)} may be read by others (mode {stat.S_IMODE(mode):o}): chmod 600 it"
        )
    return (
        content if len(content) == KEY_BYTES else _decoded(content, f"key file {shortened(path)}")
    )


def _decoded(text: bytes, name: str) -> bytes:
    stripped = text.strip()
    for read in (binascii.unhexlify, lambda value: base64.b64decode(value, validate=True)):
        try:
            key = read(stripped)
        except (binascii.Error, ValueError):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise GalleryKeyError(
        f"{name} holds no key: 32 bytes are required, in base64 or as 64 hexadecimal digits "
        f"(`verifykit gallery new-key FILE` makes one)"
    )


def _checked(key: object, name: str) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        got = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise GalleryKeyError(f"{name} is not a key: 32 bytes are required, got {got}")
    return key


def _cryptography() -> tuple[type[AESGCM], type[Exception], Callable[[bytes, bytes, bytes], bytes]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        missing = "an encrypted gallery needs the extra: pip install 'verifykit-sdk[encrypt]'"
        raise GalleryKeyError(import_problem(error, missing)) from error

    def derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
        info = _LABEL + b" " + purpose
        return HKDF(SHA256(), KEY_BYTES, salt or None, info).derive(key)

    return AESGCM, InvalidTag, derive


# Every kind has a name that ends with a zero byte, numbers of fixed size, and one part of any length, the
# last: no two places read alike.
_ID, _RECORD, _EMBEDDING, _REASONS, _CROP, _CHECK = (
    _LABEL + b" " + kind + b"\0"
    for kind in (b"subject id", b"record", b"embedding", b"reasons", b"crop", b"key check")
)
_ONE, _TWO, _THREE = struct.Struct("<q"), struct.Struct("<qq"), struct.Struct("<qqq")
_LENGTH = struct.Struct("<H")


class Values(Protocol):
    """What writes and reads the values of a file."""

    encrypted: bool

    def encrypt(self, value: bytes, place: bytes) -> bytes:
        """Return the value as it is stored."""

    def decrypt(self, stored: bytes, place: bytes) -> bytes:
        """Return the value, or raise :class:`GalleryFormatError` if it was not stored for this place."""

    def id_key(self, subject_id: str) -> int:
        """Return a keyed hash of a subject id, 64 bits signed: what the file looks it up by."""


def _hashed(subject_id: str, key: bytes) -> int:
    digest = hashlib.blake2b(subject_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little", signed=True)


class PlainValues:
    """Values as they are; ids are hashed, as an index of the ids themselves would spread over the file."""

    encrypted = False

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def encrypt(self, value: bytes, place: bytes) -> bytes:  # noqa: ARG002
        """Return the value itself."""
        return value

    def decrypt(self, stored: bytes, place: bytes) -> bytes:  # noqa: ARG002
        """Return the value itself."""
        return stored

    def id_key(self, subject_id: str) -> int:
        """See :meth:`Values.id_key`."""
        return _hashed(subject_id, self._salt)


class EncryptedValues:
    """Encrypted values; safe to share between threads. ``fingerprint`` tells which key it is."""

    encrypted = True

    def __init__(self, key: bytes, salt: bytes) -> None:
        aead, self._invalid_tag, derive = _cryptography()
        self._aead: AESGCM = aead(derive(key, salt, b"values"))
        self._id_key = derive(key, salt, b"subject ids")
        # Of the key alone, so that an operator finds it for every file that it opens.
        self.fingerprint = derive(key, b"", b"fingerprint")[:8].hex()

    def encrypt(self, value: bytes, place: bytes) -> bytes:
        """Return nonce, ciphertext and tag: 28 bytes more than the value."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, place)

    def decrypt(self, stored: bytes, place: bytes) -> bytes:
        """See :meth:`Values.decrypt`."""
        try:
            return self._aead.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], place)
        except (self._invalid_tag, ValueError, TypeError) as error:
            raise GalleryFormatError(
                "an encrypted value was changed, moved from another place, or put back from an older state"
            ) from error

    def id_key(self, subject_id: str) -> int:
        """See :meth:`Values.id_key`."""
        return _hashed(subject_id, self._id_key)


def id_place(row: int) -> bytes:
    """Return the place of a subject's id."""
    return _ID + _ONE.pack(row)


def record_place(row: int, revision: int, enrolled_at: int | None, template_nonces: bytes) -> bytes:
    """Return the place of a subject's record."""
    when = -1 if enrolled_at is None else enrolled_at
    return _RECORD + _THREE.pack(row, revision, when) + template_nonces


def embedding_place(row: int, template: int, subject_id: bytes) -> bytes:
    """Return the place of an embedding; ``template`` is its row number."""
    return _EMBEDDING + _TWO.pack(row, template) + subject_id


def reasons_place(row: int, template: int, subject_id: bytes, embedding: bytes) -> bytes:
    """Return the place of a template's reason codes; ``embedding`` is the encrypted one."""
    return _REASONS + _TWO.pack(row, template) + embedding[:NONCE_BYTES] + subject_id


def crop_place(row: int, template: int, crop: int, subject_id: bytes) -> bytes:
    """Return the place of a crop; ``crop`` is its row number."""
    return _CROP + _THREE.pack(row, template, crop) + subject_id


def nonces(embeddings: Iterable[bytes]) -> bytes:
    """Return the nonces of encrypted embeddings: they name the very values, under this file's key."""
    try:
        return b"".join([stored[:NONCE_BYTES] for stored in embeddings])
    except TypeError as error:
        raise GalleryFormatError(f"an embedding is of another type: {error}") from error


def pack_record(subject_id: bytes, metadata: bytes) -> bytes:
    """Return a subject's id and metadata (JSON) as one value."""
    return _LENGTH.pack(len(subject_id)) + subject_id + metadata


def unpack_record(record: bytes) -> tuple[bytes, bytes]:
    """Return subject id and metadata of a record."""
    if len(record) < _LENGTH.size:
        raise GalleryFormatError("a subject's record is cut short")
    end = _LENGTH.size + _LENGTH.unpack_from(record)[0]
    return record[_LENGTH.size : end], record[end:]


_CHECK_VALUE = b"verifykit"


class Keyring:
    """How a file's values are read, also after the file was encrypted with another key."""

    def __init__(self, path: Path, source: KeySource | None) -> None:
        self._path, self._source = path, source
        self.key = None if source is None else read_key(source)
        self._known: tuple[list[Any], Values] | None = None

    def portable_source(self) -> KeySource | None:
        """Return what yields the key in another process; never the key itself."""
        if isinstance(self._source, (bytes, bytearray)):
            raise GalleryKeyError(
                f"gallery {shortened(self._path)}: its key was given as bytes, which are not put into "
                "a pickle: give a "
                "key file's path or 'env:NAME' (key=), or open the gallery in the other process"
            )
        source = self._source
        if source is None or callable(source) or os.fspath(source).startswith("env:"):
            return source
        return os.path.abspath(source)  # noqa: PTH100 - of either type

    def values(self, file: sqlite3.Connection) -> Values:
        """Return what writes and reads the values that the transaction sees."""
        query = "SELECT key, value FROM meta WHERE key IN ('file_salt', 'id_salt')"
        salts = file.execute(query).fetchall()
        known = self._known
        if known is None or known[0] != salts:
            if known is not None and self._source is not None:
                # Encrypted again since: the key's source may yield the new key by now.
                self.key = read_key(self._source)
            meta = dict(file.execute("SELECT key, value FROM meta").fetchall())
            known = self._known = (salts, values_of(self._path, meta, self.key))
        return known[1]


def salted(meta: Mapping[str, Any], key: bytes | None) -> dict[str, Any]:
    """Return what a file's meta table has in addition for its values; fresh salts at each call."""
    if key is None:
        return {"id_salt": secrets.token_bytes(SALT_BYTES)}
    salt = secrets.token_bytes(SALT_BYTES)
    encrypting = EncryptedValues(key, salt)
    body = {"cipher": CIPHER, "file_salt": salt, "key_fingerprint": encrypting.fingerprint}
    return {**body, "key_check": encrypting.encrypt(_CHECK_VALUE, _check_place({**meta, **body}))}


def key_description(file: sqlite3.Connection) -> dict[str, str]:
    """Return what ``verifykit gallery info`` says about the key."""
    query = "SELECT key, value FROM meta WHERE key IN ('cipher', 'key_fingerprint')"
    found = dict(file.execute(query).fetchall())
    if not found:
        return {"encrypted": "no"}
    return {"encrypted": found["cipher"], "key_fingerprint": found["key_fingerprint"]}


def values_of(path: Path, meta: Mapping[str, Any], key: bytes | None) -> Values:
    """Return what writes and reads the values of a file with this meta table."""
    if not {"cipher", "file_salt", "key_check", "key_fingerprint"} & meta.keys():
        if key is not None:
            raise GalleryKeyError(
                f"gallery {shortened(path)}: a key was given, but it is not encrypted: encrypt it with "
                "`verifykit gallery encrypt`, or give no key"
            )
        return PlainValues(meta["id_salt"])
    try:
        cipher, salt, check = meta["cipher"], bytes(meta["file_salt"]), bytes(meta["key_check"])
        fingerprint = str(meta["key_fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: its meta table is damaged: {shown(error)}"
        ) from error
    if cipher != CIPHER:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: it is encrypted by {shown(cipher)}, this verifykit knows "
            f"{CIPHER}: install the verifykit that wrote it"
        )
    if key is None:
        raise GalleryKeyError(
            f"gallery {shortened(path)}: it is encrypted (key {fingerprint}), and no key was given: give "
            "--key-file FILE or the environment variable VERIFYKIT_GALLERY_KEY"
        )
    encrypting = EncryptedValues(key, salt)
    try:
        encrypting.decrypt(check, _check_place(meta))
    except GalleryFormatError as error:
        if encrypting.fingerprint == fingerprint:
            raise GalleryFormatError(
                f"gallery {shortened(path)}: the key is right, but what its meta table says about model "
                "and key was changed: restore it from an export or a copy"
            ) from error
        raise GalleryKeyError(
            f"gallery {shortened(path)}: it is encrypted with key {fingerprint}, and key "
            f"{encrypting.fingerprint} was given: give the other one"
        ) from error
    return encrypting


def _check_place(meta: Mapping[str, Any]) -> bytes:
    """Return the place of the value by which a key is known: the file's identity is bound into it."""
    names = ("spec_digest", "embedding_size", "created", "key_fingerprint", "model")
    return _CHECK + "\0".join(str(meta[name]) for name in names).encode()
