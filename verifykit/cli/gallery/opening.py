"""The gallery that a command names, its audit log, and the gallery that it writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.audit.log import log_path
from verifykit.cli.options import gallery_key
from verifykit.errors import InputError, ModelError, shown
from verifykit.gallery import (
    KeySource,
    StoredGallery,
    open_existing,
    open_for,
    shown_location,
    stored_fusion,
)
from verifykit.gallery.open import gallery_path
from verifykit.models import load
from verifykit.spec import Fusion

GalleryArgument = Annotated[
    str, typer.Argument(metavar="GALLERY", help="The gallery's file, or a postgresql:// URL.")
]


def existing(location: str, key_file: Path | None, *, read_only: bool = True) -> StoredGallery:
    """Open a gallery that is there, for whatever model it was made with."""
    return open_existing(location, key=gallery_key(key_file), read_only=read_only)


def target(
    location: str,
    *,
    spec_digest: str,
    embedding_size: int,
    fusion: Fusion | None,
    model: str,
    key: KeySource | None,
) -> StoredGallery:
    """Open a gallery to write to, made for this model if there is none.

    Where the gallery keeps its fusion and none is given, it is that of the installed model of this name.
    """
    if gallery_path(location) is None:
        fusion = fusion or stored_fusion(location) or _fusion_of(model, spec_digest)
        if fusion is None:
            raise InputError(
                f"gallery {shown_location(location)} is to be made for one fusion, and model "
                f"{shown(model)} ({spec_digest[:12]}), which states it, is not here: give --fusion"
            )
    return open_for(
        location,
        spec_digest=spec_digest,
        embedding_size=embedding_size,
        fusion=fusion or "max",  # a file keeps none
        model=model,
        key=key,
    )


def _fusion_of(model: str, spec_digest: str) -> Fusion | None:
    try:
        spec = load(model).spec
    except ModelError:
        return None
    return spec.fusion if spec.digest == spec_digest else None


def audit_log_of(gallery: str, audit: Path | None) -> Path | None:
    """Return the audit log that was named, else the one next to the gallery's file, if there is one."""
    beside = log_path(gallery)
    return audit or (beside if gallery_path(gallery) and beside.is_file() else None)


def is_encrypted(gallery: StoredGallery) -> bool:
    """Return whether what is copied out of a gallery loses its encryption."""
    return gallery.info().get("encrypted", "no") != "no"
