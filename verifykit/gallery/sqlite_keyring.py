"""Whether a gallery file is sealed, and with which key."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verifykit.errors import GalleryFormatError, GalleryKeyError
from verifykit.gallery.sealing import CIPHER, SALT_BYTES, KeySource, Sealer, read_key
from verifykit.gallery.sqlite_values import ClearValues, Values, check_place

__all__ = ["Keyring", "key_description", "salted", "values_of"]

_CHECK = b"verifykit"


class Keyring:
    """How a file's values are read; it goes on when the file is sealed, or sealed with another key.

    Args:
        path: The file, for messages.
        source: The key, or None for a file in clear.

    Raises:
        GalleryKeyError: There is no such key.
    """

    def __init__(self, path: Path, source: KeySource | None) -> None:
        self._path, self._source = path, source
        self.key = None if source is None else read_key(source)
        self._known: tuple[list[Any], Values] | None = None

    def values(self, file: sqlite3.Connection) -> Values:
        """What writes and reads the values that the transaction sees.

        Raises:
            GalleryKeyError: The file is sealed with another key or is in clear, or no key was given.
            GalleryFormatError: What the file says about its sealing is damaged.
        """
        query = "SELECT key, value FROM meta WHERE key IN ('file_salt', 'id_salt')"
        salts = file.execute(query).fetchall()
        known = self._known
        if known is None or known[0] != salts:
            if known is not None and self._source is not None:
                # Sealed anew since: the key's place may hold the new key by now.
                self.key = read_key(self._source)
            meta = dict(file.execute("SELECT key, value FROM meta").fetchall())
            known = self._known = (salts, values_of(self._path, meta, self.key))
        return known[1]


def salted(meta: Mapping[str, Any], key: bytes | None) -> dict[str, Any]:
    """What a file's meta table has in addition, for values in clear or sealed; fresh salts at each call.

    Args:
        meta: What the file says about its model.
        key: The operator's key; None for values in clear.
    """
    if key is None:
        return {"id_salt": secrets.token_bytes(SALT_BYTES)}
    salt = secrets.token_bytes(SALT_BYTES)
    sealer = Sealer(key, salt)
    body = {"cipher": CIPHER, "file_salt": salt, "key_fingerprint": sealer.fingerprint}
    return {**body, "key_check": sealer.seal(_CHECK, _check_place({**meta, **body}))}


def key_description(file: sqlite3.Connection) -> dict[str, str]:
    """What ``verifykit gallery info`` says about the key.

    Returns:
        ``encrypted``: ``"no"`` or the cipher's name, and for a sealed file ``key_fingerprint``.
    """
    query = "SELECT key, value FROM meta WHERE key IN ('cipher', 'key_fingerprint')"
    found = dict(file.execute(query).fetchall())
    if not found:
        return {"encrypted": "no"}
    return {"encrypted": found["cipher"], "key_fingerprint": found["key_fingerprint"]}


def values_of(path: Path, meta: Mapping[str, Any], key: bytes | None) -> Values:
    """What writes and reads the values of a file with this meta table.

    Args:
        path: The file, for messages.
        meta: All of the table.
        key: The operator's key, or None.

    Raises:
        GalleryKeyError: The file is sealed with another key or is in clear, or no key was given.
        GalleryFormatError: What the table says about its sealing is damaged.
    """
    if not {"cipher", "file_salt", "key_check", "key_fingerprint"} & meta.keys():
        if key is not None:
            raise GalleryKeyError(
                f"gallery {path}: a key was given, but it is not encrypted: seal it with `verifykit gallery "
                "encrypt`, or give no key"
            )
        return ClearValues(meta["id_salt"])
    try:
        cipher, salt, check = meta["cipher"], bytes(meta["file_salt"]), bytes(meta["key_check"])
        fingerprint = str(meta["key_fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise GalleryFormatError(f"gallery {path}: its meta table is damaged: {error!r}") from error
    if cipher != CIPHER:
        raise GalleryFormatError(
            f"gallery {path}: it is encrypted by {cipher!r}, this verifykit knows {CIPHER}: install the "
            "verifykit that wrote it"
        )
    if key is None:
        raise GalleryKeyError(
            f"gallery {path}: it is encrypted (key {fingerprint}), and no key was given: key=, --key-file "
            "FILE or the environment variable VERIFYKIT_GALLERY_KEY"
        )
    sealer = Sealer(key, salt)
    try:
        sealer.open(check, _check_place(meta))
    except GalleryFormatError as error:
        if sealer.fingerprint == fingerprint:
            raise GalleryFormatError(
                f"gallery {path}: the key is right, but what its meta table says about model and key was "
                "changed: restore it from an export or a copy"
            ) from error
        raise GalleryKeyError(
            f"gallery {path}: it is encrypted with key {fingerprint}, and key {sealer.fingerprint} was "
            "given: give the other one"
        ) from error
    return sealer


def _check_place(meta: Mapping[str, Any]) -> bytes:
    names = ("spec_digest", "embedding_size", "created", "key_fingerprint", "model")
    return check_place(meta[name] for name in names)
