"""Pictures as bytes."""

from __future__ import annotations

import io

from PIL import Image as PilImage


def encoded(picture: PilImage.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()
