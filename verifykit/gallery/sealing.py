"""Sealing what a gallery keeps: AES-256-GCM, each value bound to its place.

A file has keys of its own, derived from the operator's key and the file's salt (HKDF-SHA256, RFC 5869): so
nonces never meet across files, and a subject id's hash says nothing without the key.

The place that is bound into a value as associated data is not stored with it: a value that was moved to
another place does not open. Which places there are is in sqlite_values.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from verifykit.errors import GalleryFormatError, GalleryKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "CIPHER",
    "NONCE_BYTES",
    "SALT_BYTES",
    "KeySource",
    "Sealer",
    "key_fingerprint",
    "new_key_file",
    "read_key",
]

CIPHER = "AES-256-GCM"
KEY_BYTES = 32
SALT_BYTES = 16

KeySource: TypeAlias = Union[bytes, str, "os.PathLike[str]", Callable[[], bytes]]
"""32 bytes, the path of a key file, ``"env:NAME"``, or what asks a key service for the bytes."""

_LABEL = b"verifykit gallery 2"
# Random nonces of 96 bits: at most 2^32 values may be sealed with one key (NIST SP 800-38D, 8.3). A file of
# a billion templates stays below.
NONCE_BYTES = 12


class Sealer:
    """Seals and opens the values of one gallery file; safe to share between threads.

    Attributes:
        fingerprint: Tells which key it is, 16 hexadecimal digits; says nothing about the key.
        sealed: True.
    """

    sealed = True

    def __init__(self, key: bytes, salt: bytes) -> None:
        """Derive the file's keys.

        Args:
            key: The operator's 32 bytes, from :func:`read_key`.
            salt: The file's 16 bytes.

        Raises:
            GalleryKeyError: The extra ``encrypt`` is not installed.
        """
        aead, self._invalid_tag, derive = _cryptography()
        self._aead: AESGCM = aead(derive(key, salt, b"values"))
        self._id_key = derive(key, salt, b"subject ids")
        # Of the key alone, so that an operator finds it for every file that it opens.
        self.fingerprint = derive(key, b"", b"fingerprint")[:8].hex()

    def seal(self, value: bytes, place: bytes) -> bytes:
        """Encrypt a value for one place.

        Args:
            value: What is kept.
            place: What it is and where it belongs, so that no two places read alike; the same is needed to
                open it.

        Returns:
            Nonce, ciphertext and tag: 28 bytes more than the value.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Decrypt a value, if it is the one that was sealed for this place.

        Args:
            sealed: From :meth:`seal`.
            place: As given there.

        Raises:
            GalleryFormatError: Changed, cut short, or sealed for another place or with another key.
        """
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
        except (self._invalid_tag, ValueError, TypeError) as error:
            raise GalleryFormatError(
                "a sealed value was changed, moved from another place, or put back from an older state"
            ) from error

    def id_key(self, subject_id: str) -> int:
        """A keyed hash of a subject id, 64 bits signed: what the file looks it up by."""
        digest = hashlib.blake2b(subject_id.encode(), digest_size=8, key=self._id_key).digest()
        return int.from_bytes(digest, "little", signed=True)


def read_key(source: KeySource) -> bytes:
    """The operator's key.

    Args:
        source: 32 bytes; the path of a file that holds them raw, in base64 or in 64 hexadecimal digits;
            ``"env:NAME"`` for an environment variable with one of the two texts; or a callable that returns
            the bytes.

    Returns:
        32 bytes.

    Raises:
        GalleryKeyError: There is none, it is of another length, or others may read the file.
    """
    if callable(source):
        return _checked(source(), "what the key's callable returned")
    if isinstance(source, (bytes, bytearray)):
        return _checked(bytes(source), "the key")
    text = os.fspath(source)
    if text.startswith("env:"):
        value = os.environ.get(text[4:])
        if value is None:
            raise GalleryKeyError(
                f"the environment variable {text[4:]} holds no key: set it to 32 bytes in base64"
            )
        return _decoded(value.encode(), f"the environment variable {text[4:]}")
    return _from_file(Path(text))


def key_fingerprint(source: KeySource) -> str:
    """Tells which key it is, 16 hexadecimal digits; says nothing about the key.

    Args:
        source: As for :func:`read_key`.

    Raises:
        GalleryKeyError: There is no such key, or the extra ``encrypt`` is not installed.
    """
    return Sealer(read_key(source), b"").fingerprint


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
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise GalleryKeyError(
            f"{os.fspath(path)} is there already, and without it what it sealed is lost: give another path"
        ) from error
    except OSError as error:
        raise GalleryKeyError(
            f"{os.fspath(path)}: the key cannot be written: {error.strerror}"
        ) from error


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(4096)
    except OSError as error:
        raise GalleryKeyError(f"key file {path}: {error.strerror}: check the path") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise GalleryKeyError(
            f"key file {path} may be read by others (mode {stat.S_IMODE(mode):o}): chmod 600 it"
        )
    return content if len(content) == KEY_BYTES else _decoded(content, f"key file {path}")


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
        f"{name} holds no key: 32 bytes are wanted, in base64 or as 64 hexadecimal digits "
        f"(`verifykit gallery new-key FILE` makes one)"
    )


def _checked(key: object, name: str) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        got = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise GalleryKeyError(f"{name} is no key: 32 bytes are wanted, got {got}")
    return key


def _cryptography() -> tuple[type[AESGCM], type[Exception], Callable[[bytes, bytes, bytes], bytes]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise GalleryKeyError(
            "an encrypted gallery needs the extra: pip install 'verifykit[encrypt]'"
        ) from error

    def derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
        info = _LABEL + b" " + purpose
        return HKDF(SHA256(), KEY_BYTES, salt or None, info).derive(key)

    return AESGCM, InvalidTag, derive
