"""Digests of decoded images, which name an image whatever its file is called; computed once a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from verifykit._files import atomic_write
from verifykit.errors import ImageError, shortened, shortened_path
from verifykit.image import load_image
from verifykit.types import Image
from verifykit_training.dataset import Record, pixel_digest
from verifykit_training.errors import TrainingError
from verifykit_training.parallel import in_threads


def file_key(image: Path) -> str | None:
    """Return what names a file's state: path, size and modification time; None if it is missing."""
    try:
        status = image.stat()
    except OSError:
        return None
    identity = f"{image.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()


def write_cached(path: Path, data: bytes | str) -> None:
    """Write a file of the cache whole or not at all, also with another process at the same file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only a cache: to wait for the disk at each image would take longer than to crop it.
        atomic_write(path, data, mode=0o600, durable=False)
    except OSError as error:
        raise TrainingError(
            f"{shortened(path.parent)} cannot be written ({error.strerror}): crops and digests of images are "
            "kept there; free some of the disk, or give another --cache"
        ) from shortened_path(error)


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
        write_cached(self._path(key), digest)
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
