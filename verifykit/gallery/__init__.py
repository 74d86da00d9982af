"""Galleries: where enrolled subjects are kept and searched."""

from __future__ import annotations

from verifykit.gallery.copying import copy_gallery
from verifykit.gallery.intake import Entry, checked_entry, checked_question
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
from verifykit.gallery.sealing import KeySource, key_fingerprint, new_key_file
from verifykit.gallery.sqlite import SqliteGallery
from verifykit.gallery.sqlite_expiry import Enrolment, unix_time
from verifykit.gallery.sqlite_sealing import SealReport, seal_gallery
from verifykit.gallery.subject_id import checked_subject_id
from verifykit.gallery.transfer import (
    ExportHeader,
    TransferReport,
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
