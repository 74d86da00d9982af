"""Galleries: where enrolled subjects are kept and searched."""

from __future__ import annotations

from verifykit.gallery.copying import copy_gallery
from verifykit.gallery.intake import checked_question
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.opening import (
    GalleryLocation,
    StoredGallery,
    open_existing,
    open_for,
    open_gallery,
    shown_location,
    stored_fusion,
)
from verifykit.gallery.postgres import PostgresGallery
from verifykit.gallery.postgres_shards import create_shards
from verifykit.gallery.protocol import Gallery, OnExisting, PortableGallery
from verifykit.gallery.sqlite import SqliteGallery
from verifykit.gallery.subject_id import checked_subject_id
from verifykit.gallery.transfer import (
    ExportHeader,
    TransferReport,
    export_gallery,
    import_gallery,
    read_export_header,
)

__all__ = [
    "ExportHeader",
    "Gallery",
    "GalleryLocation",
    "MemoryGallery",
    "OnExisting",
    "PortableGallery",
    "PostgresGallery",
    "SqliteGallery",
    "StoredGallery",
    "TransferReport",
    "checked_question",
    "checked_subject_id",
    "copy_gallery",
    "create_shards",
    "export_gallery",
    "import_gallery",
    "open_existing",
    "open_for",
    "open_gallery",
    "read_export_header",
    "shown_location",
    "stored_fusion",
]
