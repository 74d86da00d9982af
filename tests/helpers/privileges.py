"""Without root's privileges, which see through permissions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def let_everybody_in(folder: Path) -> None:
    """Open a test's folder and those that pytest made above it, which are its user's alone."""
    top = Path(tempfile.gettempdir()).resolve()
    folder = folder.resolve()
    while folder != top and folder.is_relative_to(top):
        folder.chmod(0o755)
        folder = folder.parent


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write anywhere: be nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
