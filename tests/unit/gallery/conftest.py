"""A gallery file for every test that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gallery.files import reopen
from verifykit.gallery import SqliteGallery


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staff.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[SqliteGallery]:
    with reopen(path, model="face") as opened:
        yield opened
