"""Opening a gallery file: made if there is none, of the right model, with the right key."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from verifykit.errors import GalleryError
from verifykit.gallery.sqlite_connections import Connections
from verifykit.gallery.sqlite_file import log_bytes, require_file
from verifykit.gallery.sqlite_keyring import Keyring
from verifykit.gallery.sqlite_schema import (
    FileIdentity,
    create_file,
    is_finished,
    read_identity,
    require_model,
)

__all__ = ["identity_of", "open_file"]


def open_file(
    path: Path,
    wanted: FileIdentity,
    keyring: Keyring,
    *,
    create: bool,
    read_only: bool,
    timeout_s: float,
) -> tuple[Connections, FileIdentity]:
    """Open a gallery file.

    Args:
        path: The file.
        wanted: The model that it is opened for, and what a new file says about itself.
        keyring: With the key, or without one.
        create: Whether to make the file when there is none.
        read_only: Refuse to write, and need no permission to.
        timeout_s: How long to wait for another process.

    Returns:
        Its connections, and what it says about itself.

    Raises:
        TemplateMismatchError: It was made with another model.
        GalleryKeyError: As for :class:`Keyring`.
        GalleryFormatError: It is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be made or opened.
    """
    writable = os.access(path.parent, os.W_OK) or not path.exists()
    if create and not read_only and writable and not is_finished(path):
        create_file(path, wanted, timeout_s, keyring.key)
    require_file(path)
    connections = Connections(path, read_only=read_only, timeout_s=timeout_s)
    try:
        with connections.reading() as file:
            found = read_identity(file, path)
            keyring.values(file)
        require_model(path, found, wanted.spec_digest, wanted.embedding_size, wanted.model)
        if not read_only and log_bytes(path):
            # A process that was killed may have left erased content in the log. Where that cannot
            # be written, the gallery can still be read.
            with contextlib.suppress(GalleryError):
                connections.wipe_log(wait=False)
    except BaseException:
        connections.close()
        raise
    return connections, found


def identity_of(path: Path, timeout_s: float) -> FileIdentity:
    """What a file says about itself; takes no key.

    Raises:
        GalleryFormatError: It is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be opened.
    """
    require_file(path)
    connections = Connections(path, read_only=True, timeout_s=timeout_s)
    with contextlib.closing(connections), connections.reading() as file:
        return read_identity(file, path)
