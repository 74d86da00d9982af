"""From what an application writes as ``gallery=`` to a gallery."""

from __future__ import annotations

import os
from typing import Union

from verifykit.errors import InputError, TemplateMismatchError
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.protocol import Gallery
from verifykit.gallery.sqlite import SqliteGallery
from verifykit.spec import ModelSpec

__all__ = ["GalleryLocation", "open_gallery"]

GalleryLocation = Union[str, "os.PathLike[str]", Gallery, None]
"""A path, a gallery, or None for one in memory."""


def open_gallery(location: GalleryLocation, spec: ModelSpec) -> Gallery:
    """The gallery at a place, for a model.

    Args:
        location: The path of a file, which is made if it is missing; None for a gallery in memory; or
            any object with :class:`~verifykit.gallery.Gallery`'s methods.
        spec: The model's specification.

    Returns:
        A gallery whose ``spec_digest`` is the model's.

    Raises:
        TemplateMismatchError: The gallery was made with another model.
        GalleryFormatError: The file is not a gallery, is damaged, or is of a newer schema.
        GalleryError: It cannot be made or opened, and why.
        InputError: No place that verifykit knows, or a gallery with another fusion than the model's.
    """
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
        if "://" in text:
            raise InputError(
                f"gallery {text.split('://')[0]}://...: only the path of a file is possible here"
            )
        return SqliteGallery(
            text,
            spec_digest=spec.digest,
            embedding_size=spec.embedding_size,
            fusion=spec.fusion,
            model=spec.name,
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
