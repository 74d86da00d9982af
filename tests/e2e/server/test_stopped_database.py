"""PostgreSQL goes away under a running service: clear answers, and all is well when it is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server.served import Served, command, served
from tests.helpers.postgres_server import PostgresServer, _children
from tests.unit.server.running import problem

Portraits = Mapping[str, Path]
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False, "timeout": 60}  # without TLS


@pytest.fixture
def service(
    face_model: Path, portraits: Portraits, tmp_path: Path, own_postgres: PostgresServer
) -> Iterator[Served]:
    """With alice enrolled on a server of its own."""
    files = ("--state", tmp_path / "state", "--audit", tmp_path / "audit.jsonl")
    with served(tmp_path, "--gallery", own_postgres.url(), *files) as started:
        assert started.put("alice", portraits["person_a_1"]).status_code == 201
        yield started
        assert started.stop() == 0
    verified = command("audit", "verify", tmp_path / "audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert str(own_postgres.port) not in started.log.read_text()


def test_a_server_that_was_shut_down(
    service: Served, portraits: Portraits, own_postgres: PostgresServer
) -> None:
    for number in range(2):
        own_postgres.kill()
        for _ in range(3):
            _require_unavailable(service, portraits, own_postgres)
        own_postgres.start()
        _require_well(service, portraits, f"back-{number}")


@pytest.mark.slow
def test_a_server_that_hangs(
    service: Served, portraits: Portraits, own_postgres: PostgresServer
) -> None:
    with _stopped(own_postgres), ThreadPoolExecutor(12) as pool:
        begin = time.monotonic()
        asked = [pool.submit(service.verify, "alice", portraits["person_a_2"]) for _ in range(12)]
        ready = httpx.get(f"{service.url}/readyz", **PLAIN)
        assert ready.status_code == 503
        assert httpx.get(f"{service.url}/healthz", **PLAIN).status_code == 200
        answers = [future.result() for future in asked]
        assert time.monotonic() - begin < 45
        assert {answer.status_code for answer in answers} == {503}
        codes = {answer.json()["code"] for answer in answers}
        assert codes <= {"gallery_unavailable", "queue_full"}
        assert "gallery_unavailable" in codes
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    _require_well(service, portraits, "back")


def _require_unavailable(service: Served, portraits: Portraits, server: PostgresServer) -> None:
    for answer in (
        service.put("bob", portraits["person_b_1"]),
        service.verify("alice", portraits["person_a_2"]),
        httpx.delete(f"{service.url}/v1/subjects/alice", **PLAIN),
        httpx.get(f"{service.url}/v1/subjects", **PLAIN),
        httpx.get(f"{service.url}/v1/models", **PLAIN),
    ):
        problem(answer, 503, "gallery_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert str(server.port) not in answer.text  # where it is concerns no client
    ready = httpx.get(f"{service.url}/readyz", **PLAIN)
    assert ready.status_code == 503
    assert ready.json()["missing"] == ["the gallery of face"]
    assert httpx.get(f"{service.url}/healthz", **PLAIN).status_code == 200


def _require_well(service: Served, portraits: Portraits, name: str) -> None:
    assert service.verify("alice", portraits["person_a_2"]).json()["match"] is True
    assert service.verify("alice", portraits["person_b_1"]).json()["match"] is False
    assert service.put(name, portraits["person_b_1"]).status_code == 201
    assert httpx.get(f"{service.url}/readyz", **PLAIN).json()["status"] == "ready"


@contextmanager
def _stopped(server: PostgresServer) -> Iterator[None]:
    """All its processes stand still; their connections stay open."""
    assert server._process
    processes = [server._process.pid, *_children(server._process.pid)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
