"""Galleries: where enrolled subjects are kept and searched."""

from __future__ import annotations

from verifykit.gallery.intake import checked_question
from verifykit.gallery.memory import MemoryGallery
from verifykit.gallery.opening import GalleryLocation, open_gallery
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
    "SqliteGallery",
    "TransferReport",
    "checked_question",
    "checked_subject_id",
    "export_gallery",
    "import_gallery",
    "open_gallery",
    "read_export_header",
]
