"""One service on real models, for every test that does not need one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.signature_files import write_signatures
from tests.unit.server.running import Running, running
from verifykit.server.settings import ServerSettings

OwnService = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def service(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Of faces and signatures; the tests share it, so each takes subjects of its own."""
    gallery = tmp_path_factory.mktemp("served") / "staff.db"
    settings = ServerSettings(str(gallery), max_images=3, max_pixels=4_000_000)
    with running(settings) as found:
        yield found


@pytest.fixture
def client(service: Running) -> httpx.Client:
    return service.client


@pytest.fixture(scope="session")
def pictures(portraits: Mapping[str, Path]) -> dict[str, bytes]:
    """The portraits as the bytes that a client sends."""
    return {name: path.read_bytes() for name, path in portraits.items()}


@pytest.fixture
def own_service(face_model: Path, tmp_path: Path) -> OwnService:
    """Starts a service with other settings."""

    def start(**settings: Any) -> AbstractContextManager[Running]:
        return running(ServerSettings(str(tmp_path / "own.db"), **settings))

    return start


@pytest.fixture(scope="session")
def signatures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Drawn signatures, ``ada_1`` to ``blank``, as the bytes that a client sends."""
    written = write_signatures(tmp_path_factory.mktemp("signatures"))
    return {path.stem: path.read_bytes() for path in written}
