"""From what an application writes as ``gallery=`` to a gallery."""

from __future__ import annotations

import os
from typing import TypeAlias, Union

from verifykit.errors import GalleryKeyError, InputError, TemplateMismatchError
from verifykit.gallery.base import Gallery
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.postgres.connection import is_postgres_url, parse_url
from verifykit.gallery.postgres.gallery import PostgresGallery
from verifykit.gallery.postgres.schema import find_identity
from verifykit.gallery.sqlite.encryption import KeySource
from verifykit.gallery.sqlite.gallery import SqliteGallery
from verifykit.spec import Fusion, ModelSpec

GalleryLocation = Union[str, "os.PathLike[str]", Gallery, None]
"""A path, a URL, a gallery, or None for one in memory."""

StoredGallery: TypeAlias = SqliteGallery | PostgresGallery
"""A gallery that outlives the process."""


def shown_location(location: str) -> str:
    """A path as it is, a URL without its password: for messages and reports."""
    return parse_url(location).shown if is_postgres_url(location) else location


def stored_fusion(location: str) -> Fusion | None:
    """The fusion that a gallery keeps: None for a file, which keeps none, and where there is no gallery.

    Raises:
        GalleryError: The server cannot be asked, or the gallery is damaged.
        InputError: No such URL is possible.
    """
    found = find_identity(parse_url(location)) if is_postgres_url(location) else None
    return found.fusion if found else None


def open_existing(
    location: str, *, key: KeySource | None = None, read_only: bool = True
) -> StoredGallery:
    """Open a gallery for whatever model it was made with.

    Args:
        location: The path of a file that exists, or a ``postgresql://`` URL of a gallery that exists.
        key: Of an encrypted file.
        read_only: Refuse to write, and need no permission to.

    Raises:
        GalleryKeyError: The key cannot be read or is another one, or only one of file and caller has one.
        GalleryFormatError: It is no gallery, is damaged, or is of a newer schema.
        GalleryError: There is none, or it cannot be opened.
        InputError: No such URL is possible.
    """
    if is_postgres_url(location):
        _require_no_key(location, key)
        return PostgresGallery.open_existing(location, read_only=read_only)
    return SqliteGallery.open_existing(location, key=key, read_only=read_only)


def open_for(
    location: str,
    *,
    spec_digest: str,
    embedding_size: int,
    fusion: Fusion,
    model: str,
    key: KeySource | None = None,
    create: bool = True,
    read_only: bool = False,
) -> StoredGallery:
    """Open or make a gallery for a model.

    Args:
        location: The path of a file, or a ``postgresql://`` URL.
        spec_digest: Digest of the model.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, for people.
        key: Of an encrypted file; a new file is then encrypted.
        create: Whether to make it when there is none.
        read_only: Refuse to write, and need no permission to.

    Raises:
        TemplateMismatchError: It was made with another model.
        GalleryKeyError: The key cannot be read or is another one, or only one of file and caller has one.
        GalleryError: It cannot be made or opened; see the class of that kind of gallery.
        InputError: No such URL or fusion is possible, or it was made with another fusion.
    """
    if is_postgres_url(location):
        _require_no_key(location, key)
        return PostgresGallery(
            location,
            spec_digest=spec_digest,
            embedding_size=embedding_size,
            fusion=fusion,
            model=model,
            create=create,
            read_only=read_only,
        )
    return SqliteGallery(
        location,
        spec_digest=spec_digest,
        embedding_size=embedding_size,
        fusion=fusion,
        model=model,
        key=key,
        create=create,
        read_only=read_only,
    )


def _require_no_key(location: str, key: KeySource | None) -> None:
    if key is not None:
        raise GalleryKeyError(
            f"gallery {shown_location(location)}: only a gallery in a file is encrypted by verifykit: "
            "give no key (--key-file, VERIFYKIT_GALLERY_KEY), and have the server's disk encrypted"
        )


def open_gallery(
    location: GalleryLocation, spec: ModelSpec, *, key: KeySource | None = None
) -> Gallery:
    """The gallery at a place, for a model.

    Args:
        location: The path of a file or a ``postgresql://`` URL, where a gallery is made if there is none;
            None for a gallery in memory; or any object with :class:`~verifykit.gallery.Gallery`'s methods.
        spec: The model's specification.
        key: Of an encrypted file; a new file is then encrypted.

    Returns:
        A gallery whose ``spec_digest`` is the model's.

    Raises:
        TemplateMismatchError: The gallery was made with another model.
        GalleryKeyError: The key cannot be read or is another one, or only one of file and caller has one.
        GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be made or opened, and why.
        InputError: No place that verifykit knows, a gallery with another fusion than the model's, or a key
            for a gallery that is not in a file.
    """
    if key is not None and not isinstance(location, (str, os.PathLike)):
        raise InputError("key= is of a gallery in a file, and gallery= names no file: leave it out")
    if location is None:
        return MemoryGallery(
            spec_digest=spec.digest,
            embedding_size=spec.embedding_size,
            fusion=spec.fusion,
            model=spec.name,
        )
    if isinstance(location, (str, os.PathLike)):
        text = os.fspath(location)
        if not isinstance(text, str) or not text:
            raise InputError(f"a gallery's path is a string and not empty, got {text!r}")
        if "://" in text and not is_postgres_url(text):
            raise InputError(
                f"gallery {text.split('://')[0]}://...: only the path of a file or postgresql://... is "
                "possible here"
            )
        return open_for(
            text,
            spec_digest=spec.digest,
            embedding_size=spec.embedding_size,
            fusion=spec.fusion,
            model=spec.name,
            key=key,
        )
    if not isinstance(location, Gallery):
        raise InputError(
            f"a gallery is a path, None or an object with Gallery's methods, got "
            f"{type(location).__name__}"
        )
    if location.spec_digest != spec.digest:
        raise TemplateMismatchError(
            f"this gallery holds templates of model {location.spec_digest[:12]}, not of {spec.name} "
            f"({spec.digest[:12]}), and the two cannot be compared: open it with that model, or enrol "
            "the subjects again into a new gallery"
        )
    fusion = getattr(location, "fusion", spec.fusion)
    if fusion != spec.fusion:
        raise InputError(
            f"this gallery fuses scores by {fusion!r}, model {spec.name} by {spec.fusion!r}: make it "
            f"with fusion={spec.fusion!r}, so that verify and identify agree"
        )
    return location
