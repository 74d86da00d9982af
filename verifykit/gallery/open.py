"""Open a gallery by what an application writes as ``gallery=``: a path, a URL, an object or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, TypeAlias, Union
from urllib.parse import urlsplit

from verifykit.errors import (
    GalleryError,
    GalleryKeyError,
    InputError,
    TemplateMismatchError,
    shortened,
    shown,
)
from verifykit.gallery.base import (
    Gallery,
    GalleryIdentity,
    KeySource,
    StoredGallery,
    is_gallery,
    require_same_model,
)
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.postgres.connection import parse_url
from verifykit.gallery.postgres.gallery import PostgresGallery
from verifykit.gallery.postgres.schema import find_identity
from verifykit.gallery.sqlite.gallery import SqliteGallery
from verifykit.spec import Fusion, ModelSpec

ENTRY_POINTS = "verifykit.galleries"
"""The entry point group in which a package registers a URL scheme: ``redis = "my_package:open_redis"``."""

GalleryLocation: TypeAlias = Union[str, "os.PathLike[str]", Gallery, None]
"""A path, a URL, a gallery, or None for one in memory."""


class GalleryOpener(Protocol):
    """What opens the galleries of a URL scheme; the value of an entry point in ``verifykit.galleries``."""

    def __call__(
        self,
        url: str,
        identity: GalleryIdentity | None,
        *,
        key: KeySource | None,
        create: bool,
        read_only: bool,
    ) -> StoredGallery:
        """Open a gallery."""


@dataclass(frozen=True)
class _Store:
    """How the galleries of a URL scheme are opened, shown without password, and looked at."""

    open: GalleryOpener
    shown: Callable[[str], str]
    fusion: Callable[[str], Fusion | None]


def _open_postgres(
    url: str,
    identity: GalleryIdentity | None,
    *,
    key: KeySource | None,
    create: bool,
    read_only: bool,
) -> PostgresGallery:
    if key is not None:
        raise GalleryKeyError(
            f"gallery {parse_url(url).shown}: only a gallery in a file is encrypted by verifykit: "
            "give no key (--key-file, VERIFYKIT_GALLERY_KEY), and have the server's disk encrypted"
        )
    if identity is None:
        return PostgresGallery.open_existing(url, read_only=read_only)
    return PostgresGallery(
        url,
        spec_digest=identity.spec_digest,
        embedding_size=identity.embedding_size,
        fusion=identity.fusion,
        model=identity.model,
        create=create,
        read_only=read_only,
    )


def _postgres_fusion(url: str) -> Fusion | None:
    found = find_identity(parse_url(url))
    return found.fusion if found else None


_POSTGRES = _Store(_open_postgres, lambda url: parse_url(url).shown, _postgres_fusion)
_STORES = {"postgresql": _POSTGRES, "postgres": _POSTGRES}


def _store(location: str) -> _Store:
    """Look a URL's scheme up in the table, then among the entry points."""
    scheme = location.partition("://")[0]
    if scheme in _STORES:
        return _STORES[scheme]
    points = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in points:
        known = ", ".join(f"{name}://" for name in sorted({*_STORES, *points}))
        raise InputError(
            f"gallery {shortened(scheme)}://...: no gallery store is registered for this scheme: give "
            "the path of a "
            f"file or one of {known}, or install a package with an entry point {shown(scheme)} in the group "
            f"{shown(ENTRY_POINTS)}"
        )
    try:
        opener: GalleryOpener = points[scheme].load()
    except (ImportError, AttributeError) as error:
        raise GalleryError(
            f"gallery {shortened(scheme)}://...: the entry point {shown(points[scheme].value)} cannot "
            f"be loaded: {shortened(error)}"
        ) from error
    return _Store(opener, _without_password, partial(_fusion_by_opening, opener))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    place = f"{user.partition(':')[0]}@{host}" if user else host
    return f"{parts.scheme}://{place}{parts.path}"  # a query may hold a secret


def _fusion_by_opening(opener: GalleryOpener, url: str) -> Fusion | None:
    try:
        opened = opener(url, None, key=None, create=False, read_only=True)
    except GalleryError:
        return None  # a store that cannot be reached says so when it is opened for writing
    with opened:
        return opened.info().get("fusion")


def gallery_path(location: str | os.PathLike[str]) -> Path | None:
    """Return the path of a gallery in a file; None for a URL."""
    return None if "://" in os.fspath(location) else Path(location)


def shown_location(location: str) -> str:
    """Return a path as it is, a URL without its password: for messages and reports."""
    return location if gallery_path(location) else _store(location).shown(location)


def stored_fusion(location: str) -> Fusion | None:
    """Return the fusion that a gallery keeps: None for a file, which keeps none, and without a gallery.

    Raises:
        GalleryError: The server cannot be reached, or the gallery is damaged.
        InputError: No such URL is possible.
    """
    return None if gallery_path(location) else _store(location).fusion(location)


def _open(
    location: str,
    identity: GalleryIdentity | None,
    *,
    key: KeySource | None,
    create: bool,
    read_only: bool,
) -> StoredGallery:
    path = gallery_path(location)
    if path is None:
        store = _store(location)
        opened = store.open(location, identity, key=key, create=create, read_only=read_only)
        if identity is not None:
            found = GalleryIdentity(
                opened.spec_digest, opened.embedding_size, identity.fusion, opened.model
            )
            require_same_model(store.shown(location), found, identity)
        return opened
    if identity is None:
        return SqliteGallery.open_existing(path, key=key, read_only=read_only)
    return SqliteGallery(
        path,
        spec_digest=identity.spec_digest,
        embedding_size=identity.embedding_size,
        fusion=identity.fusion,
        model=identity.model,
        key=key,
        create=create,
        read_only=read_only,
    )


def open_existing(
    location: str, *, key: KeySource | None = None, read_only: bool = True
) -> StoredGallery:
    """Open a gallery for whatever model it was made with.

    Args:
        location: The path of a file that exists, or the URL of a gallery that exists.
        key: Of an encrypted gallery.
        read_only: Refuse to write, and need no permission to.

    Raises:
        GalleryKeyError: The key cannot be read or is another one, or only one of file and caller has one.
        GalleryFormatError: It is not a gallery, is damaged, or is of a newer schema.
        GalleryError: There is none, or it cannot be opened.
        InputError: No such URL is possible.
    """
    return _open(location, None, key=key, create=False, read_only=read_only)


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
        location: The path of a file, or a URL.
        spec_digest: Digest of the model.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, human-readable.
        key: Of an encrypted gallery; a new file is then encrypted.
        create: Whether to make it when there is none.
        read_only: Refuse to write, and need no permission to.

    Raises:
        TemplateMismatchError: It was made with another model.
        GalleryKeyError: The key cannot be read or is another one, or only one of file and caller has one.
        GalleryError: It cannot be made or opened; see the class of that kind of gallery.
        InputError: No such URL or fusion is possible, or it was made with another fusion.
    """
    identity = GalleryIdentity(spec_digest, embedding_size, fusion, model)
    return _open(location, identity, key=key, create=create, read_only=read_only)


def open_gallery(
    location: GalleryLocation,
    spec: ModelSpec | None = None,
    *,
    key: KeySource | None = None,
    create: bool = True,
    read_only: bool = False,
) -> Gallery:
    """Open or make the gallery at a place, for a model.

    Args:
        location: The path of a file or a URL, where a gallery is made if there is none; None for a gallery
            in memory; or any object with :class:`~verifykit.gallery.Gallery`'s methods.
        spec: The model's specification. None opens a gallery that exists, at a path or a URL, for whatever
            model it was made with.
        key: Of an encrypted gallery; a new file is then encrypted.
        create: Whether to make it when there is none, at a path or a URL.
        read_only: Refuse to write there, and need no permission to.

    Returns:
        A gallery whose ``spec_digest`` is the model's.

    Raises:
        TemplateMismatchError: The gallery was made with another model.
        GalleryKeyError: The key cannot be read or is another one, or only one of file and caller has one.
        GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be made or opened, and why.
        InputError: No place that verifykit knows, a gallery with another fusion than the model's, or a key
            for a gallery that is neither at a path nor at a URL.
    """
    if isinstance(location, (str, os.PathLike)):
        text = os.fspath(location)
        if not isinstance(text, str) or not text:
            raise InputError(f"a gallery's path is a string and not empty, got {shown(text)}")
        if spec is None:
            return open_existing(text, key=key, read_only=read_only)
        identity = GalleryIdentity(spec.digest, spec.embedding_size, spec.fusion, spec.name)
        return _open(text, identity, key=key, create=create, read_only=read_only)
    if key is not None:
        raise InputError("key= is of a gallery in a file, and gallery= names no file: leave it out")
    if spec is None:
        raise InputError("spec= is required for a gallery that is not opened at a path or a URL")
    if location is None:
        return MemoryGallery(
            spec_digest=spec.digest,
            embedding_size=spec.embedding_size,
            fusion=spec.fusion,
            model=spec.name,
        )
    return _accepted(location, spec)


def _accepted(gallery: Gallery, spec: ModelSpec) -> Gallery:
    if not is_gallery(gallery):
        raise InputError(
            f"a gallery is a path, a URL, None or an object with Gallery's methods, got "
            f"{type(gallery).__name__}"
        )
    if gallery.spec_digest != spec.digest:
        raise TemplateMismatchError(
            f"this gallery holds templates of model {gallery.spec_digest[:12]}, not of {spec.name} "
            f"({spec.digest[:12]}), and the two cannot be compared: open it with that model, or enrol "
            "the subjects again into a new gallery"
        )
    fusion = getattr(gallery, "fusion", spec.fusion)
    if fusion != spec.fusion:
        raise InputError(
            f"this gallery fuses scores by {shown(fusion)}, model {spec.name} by {shown(spec.fusion)}: "
            f"make it with fusion={shown(spec.fusion)}, so that verify and identify agree"
        )
    return gallery
