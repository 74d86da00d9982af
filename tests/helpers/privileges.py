"""Run without the privileges of root, for which permissions have no effect."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def allow_all_users(folder: Path) -> None:
    """Open a test's folder, and pytest's folders above it, to every user."""
    top = Path(tempfile.gettempdir()).resolve()
    folder = folder.resolve()
    while folder != top and folder.is_relative_to(top):
        folder.chmod(0o755)
        folder = folder.parent


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be user nobody, as root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
