"""Galleries: where enrolled subjects are kept and searched."""

from __future__ import annotations

from verifykit.gallery.base import (
    Enrolment,
    Entry,
    Gallery,
    GalleryIdentity,
    GalleryInfo,
    GallerySnapshot,
    KeySource,
    OnExisting,
    RekeyReport,
    StoredGallery,
    SupportsCheck,
    SupportsCrops,
    SupportsExpiry,
    SupportsPaging,
    SupportsRekey,
    SupportsSnapshot,
    SupportsTransfer,
    TransferReport,
    checked_entry,
    checked_question,
)
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.open import (
    GalleryLocation,
    GalleryOpener,
    open_existing,
    open_for,
    open_gallery,
    shown_location,
    stored_fusion,
)
from verifykit.gallery.penalised import searcher
from verifykit.gallery.postgres.gallery import PostgresGallery
from verifykit.gallery.postgres.sharding import create_shards
from verifykit.gallery.snapshot import take_snapshot
from verifykit.gallery.sqlite.connection import accept_copy
from verifykit.gallery.sqlite.encryption import key_fingerprint, new_key_file
from verifykit.gallery.sqlite.gallery import SqliteGallery
from verifykit.gallery.sqlite.rekey import encrypt_gallery
from verifykit.gallery.subject_ids import checked_subject_id
from verifykit.gallery.transfer import (
    ExportHeader,
    copy_gallery,
    export_gallery,
    import_gallery,
    read_export_header,
)

PortableGallery = StoredGallery  # the name in version 0.1

__all__ = [
    "Enrolment",
    "Entry",
    "ExportHeader",
    "Gallery",
    "GalleryIdentity",
    "GalleryInfo",
    "GalleryLocation",
    "GalleryOpener",
    "GallerySnapshot",
    "KeySource",
    "MemoryGallery",
    "OnExisting",
    "PostgresGallery",
    "RekeyReport",
    "SqliteGallery",
    "StoredGallery",
    "SupportsCheck",
    "SupportsCrops",
    "SupportsExpiry",
    "SupportsPaging",
    "SupportsRekey",
    "SupportsSnapshot",
    "SupportsTransfer",
    "TransferReport",
    "accept_copy",
    "checked_entry",
    "checked_question",
    "checked_subject_id",
    "copy_gallery",
    "create_shards",
    "encrypt_gallery",
    "export_gallery",
    "import_gallery",
    "key_fingerprint",
    "new_key_file",
    "open_existing",
    "open_for",
    "open_gallery",
    "read_export_header",
    "searcher",
    "shown_location",
    "stored_fusion",
    "take_snapshot",
]
