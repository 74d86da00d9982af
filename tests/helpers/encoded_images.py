"""Encode images in memory."""

from __future__ import annotations

import io

from PIL import Image as PilImage


def encoded(image: PilImage.Image, file_format: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
