"""Digests of decoded images, which name an image whatever its file is called; computed once a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from verifykit._files import atomic_write
from verifykit.errors import ImageError
from verifykit.image import load_image
from verifykit.types import Image
from verifykit_training.dataset import Record, pixel_digest
from verifykit_training.parallel import in_threads


def file_key(image: Path) -> str | None:
    """Return what names a file's state: path, size and modification time; None if it is missing."""
    try:
        status = image.stat()
    except OSError:
        return None
    identity = f"{image.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()


class PixelDigests:
    """Digests of decoded images, cached in a folder by the state of the file."""

    def __init__(self, root: Path) -> None:
        """Open or begin the cache below ``root``."""
        self._folder = root / "pixels"

    def of(self, image: Path) -> str | None:
        """Return an image's digest; None if it cannot be read."""
        key = file_key(image)
        if key is None:
            return None
        path = self._path(key)
        try:
            return path.read_text(encoding="ascii")
        except FileNotFoundError:
            pass
        try:
            return self.note(key, load_image(image))
        except ImageError:
            return None

    def note(self, key: str, pixels: Image) -> str:
        """Store and return the digest of an image that is decoded already."""
        digest = pixel_digest(pixels)
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, digest, mode=0o600, durable=False)
        return digest

    def of_all(
        self,
        records: Sequence[Record],
        *,
        workers: int = 2,
        progress: Callable[[int], None] | None = None,
    ) -> dict[Path, str]:
        """Return the digest of each image that can be read."""
        paths = [record.path for record in records]
        found = in_threads(self.of, paths, workers=workers, progress=progress)
        return {path: digest for path, digest in found if digest}

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key[2:]
