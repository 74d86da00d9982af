"""Galleries: where enrolled subjects are kept and searched."""

from __future__ import annotations

from verifykit.gallery.base import (
    Entry,
    Gallery,
    OnExisting,
    PortableGallery,
    TransferReport,
    checked_entry,
    checked_question,
    checked_subject_id,
)
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.open import (
    GalleryLocation,
    StoredGallery,
    open_existing,
    open_for,
    open_gallery,
    shown_location,
    stored_fusion,
)
from verifykit.gallery.postgres.gallery import PostgresGallery
from verifykit.gallery.postgres.sharding import create_shards
from verifykit.gallery.sqlite.encryption import KeySource, key_fingerprint, new_key_file
from verifykit.gallery.sqlite.gallery import Enrolment, SqliteGallery, unix_time
from verifykit.gallery.sqlite.rekey import SealReport, seal_gallery
from verifykit.gallery.transfer import (
    ExportHeader,
    copy_gallery,
    export_gallery,
    import_gallery,
    read_export_header,
)

__all__ = [
    "Enrolment",
    "Entry",
    "ExportHeader",
    "Gallery",
    "GalleryLocation",
    "KeySource",
    "MemoryGallery",
    "OnExisting",
    "PortableGallery",
    "PostgresGallery",
    "SealReport",
    "SqliteGallery",
    "StoredGallery",
    "TransferReport",
    "checked_entry",
    "checked_question",
    "checked_subject_id",
    "copy_gallery",
    "create_shards",
    "export_gallery",
    "import_gallery",
    "key_fingerprint",
    "new_key_file",
    "open_existing",
    "open_for",
    "open_gallery",
    "read_export_header",
    "seal_gallery",
    "shown_location",
    "stored_fusion",
    "unix_time",
]
