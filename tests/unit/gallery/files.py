"""Templates, gallery files and processes of their own, for tests of the gallery."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.gallery import SqliteGallery
from verifykit.types import Template

DIGEST = "d" * 64
SIZE = 128


def units(seed: int, count: int) -> NDArray[np.float32]:
    """Random rows of unit length."""
    rows = np.random.default_rng(seed).normal(size=(count, SIZE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def templates(seed: int, count: int = 1) -> list[Template]:
    """The same rows as templates."""
    return [Template(row, DIGEST) for row in units(seed, count)]


def reopen(path: Path, **options: Any) -> SqliteGallery:
    """The gallery file of the tests' model."""
    return SqliteGallery(path, spec_digest=DIGEST, embedding_size=SIZE, **options)


def people(gallery: SqliteGallery) -> dict[str, object]:
    """All that is stored, to the bit."""
    return {
        name: (
            [(t.embedding.tobytes(), t.reasons) for t in gallery.get(name).templates],
            dict(gallery.get(name).metadata),
        )
        for name in gallery.subject_ids()
    }


def file_bytes(path: Path) -> bytes:
    """All bytes of a gallery and of the files that SQLite keeps beside it."""
    return b"".join(part.read_bytes() for part in sorted(path.parent.glob(f"{path.name}*")))


def run_python(code: str, path: Path, timeout_s: float = 120) -> str:
    """What a process of its own prints; it has the names of this module, and PATH."""
    prelude = """
        import os, sys
        from pathlib import Path
        import numpy as np
        from tests.unit.gallery.files import DIGEST, SIZE, reopen, templates, units
        from verifykit.errors import GalleryError
        from verifykit.gallery import SqliteGallery
        PATH = Path(sys.argv[1])
    """
    checkout = Path(__file__).resolve().parents[3]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code), str(path)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if result.returncode:
        raise AssertionError(f"exit status {result.returncode}: {result.stderr}")
    return result.stdout
