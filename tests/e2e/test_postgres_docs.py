"""The page on PostgreSQL runs as it stands there, against a real server."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.postgres_server import PostgresServer
from tests.helpers.run_document import run_document

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"


@pytest.mark.usefixtures("face_model")
def test_the_page_on_postgresql_runs(
    postgres: PostgresServer,
    portraits: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in portraits.values():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    postgres.create_databases("people")
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(postgres.port))
    monkeypatch.setenv("PGUSER", "postgres")
    assert run_document(PAGE) == {"python": 4, "console": 10}
