"""A gallery file for every test that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.postgres_server import PostgresServer
from tests.unit.gallery.files import reopen, templates
from verifykit.gallery import SqliteGallery


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staff.db"


@pytest.fixture
def gallery(path: Path) -> Iterator[SqliteGallery]:
    with reopen(path, model="face") as opened:
        yield opened


@pytest.fixture
def full(path: Path) -> Path:
    """A file in clear with subjects who were appended to, and traces of others who were removed."""
    with reopen(path) as gallery:
        for i in range(30):
            gallery.add(f"s{i}", templates(i, 2), {"n": i} if i % 2 else None)
        for i in range(0, 30, 4):
            gallery.add(f"s{i}", templates(100 + i))
        for i in range(0, 30, 5):
            gallery.remove(f"s{i}")
    return path


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Of a gallery on PostgreSQL that is not there yet."""
    from tests.unit.gallery.postgres_galleries import next_name  # psycopg is there, with the server

    return postgres.url(gallery=next_name())
