"""The load of ``benchmarks.serve``: the service accepts its requests, and responses are counted."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

if not find_spec("fastapi"):
    pytest.skip("needs the extra server", allow_module_level=True)

from benchmarks.serve import __main__ as command
from benchmarks.serve import library
from benchmarks.serve.library import (
    ENROLLED,
    IMAGES,
    VERBS,
    run_in_fresh_process,
    run_library,
    tasks,
)
from benchmarks.serve.load import NO_RESPONSE, Load, multipart, send_load
from tests.unit.server.running import files, running
from verifykit.server import ServerSettings


@pytest.fixture(autouse=True)
def use_cached_portraits(portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the checkout's cache; the cache of the tests is empty."""
    for module in (command, library):
        monkeypatch.setattr(module, "portraits", lambda: portraits)


def test_the_service_accepts_the_requests(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    settings = ServerSettings(
        str(tmp_path / "staff.db"), with_signatures=False, failed_verifications=0
    )
    with running(settings) as service:
        client = service.client
        for name in ENROLLED:
            body = files(image=portraits[name].read_bytes())
            assert client.put(f"/v1/subjects/{name}", files=body).status_code == 201
        host, port = client.base_url.host, client.base_url.port
        assert port
        requests = [task.request(f"{host}:{port}") for task in tasks(VERBS)]
        assert len(requests) == len(ENROLLED) * len(IMAGES) * len(VERBS)
        result = send_load(Load(host, port, requests, clients=3, warm_up_s=0.1, seconds=2.0))
        assert set(result.statuses) == {200}, result.statuses
        assert len(result.latencies_s) == result.statuses[200] <= result.succeeded
        assert 0 < max(result.latencies_s) < 30
        assert result.cpu_s > 0
        unknown = [
            multipart("POST", "/v1/subjects/nobody/verify", f"{host}:{port}", [("image", b"x")])
        ]
        result = send_load(Load(host, port, unknown, clients=2, warm_up_s=0.0, seconds=0.3))
        assert set(result.statuses) == {404}
        assert result.latencies_s == []
        alone = run_library(tmp_path / "staff.db", 2, tasks(VERBS), 1.0)
    assert alone.count > 0
    assert 0 < alone.cpu_s_each < 10


def test_retry_after_is_respected_and_closed_connections_are_counted() -> None:
    responses = (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"",
    )
    for response, status, at_most in zip(
        responses, (503, 200, NO_RESPONSE), (1, 10**6, 10), strict=True
    ):
        with _responding(response) as port:
            request = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
            load = Load("127.0.0.1", port, request, clients=1, warm_up_s=0.0, seconds=0.4)
            result = send_load(load)
        assert set(result.statuses) == {status}
        assert 1 <= result.statuses[status] <= at_most


@pytest.mark.slow
def test_the_command(
    face_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seconds", "3", "--clients", "2", "90", "--options", "--workers 2 --queue 8"]
    monkeypatch.setattr("sys.argv", ["serve", *options])
    monkeypatch.setattr(command, "console", Console(width=140))
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert re.search(r"│ 2 +│ \d+\.\d +│ \d+\.\d", printed), printed
    assert re.search(r"│ 90 .*503: \d+", printed), printed
    monkeypatch.setattr(command, "ALLOWED", (429,))
    monkeypatch.setattr("sys.argv", ["serve", *options[:2], "--clients", "90", *options[-2:]])
    assert command.main() == 1
    assert "with status 503, which is not expected" in capsys.readouterr().out


def test_a_fresh_process_is_another_process() -> None:
    assert run_in_fresh_process(os.getpid) != os.getpid()


@contextmanager
def _responding(response: bytes) -> Iterator[int]:
    """Start a server that sends these bytes for every request and closes the connection; yield its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        stopped = threading.Event()

        def run() -> None:
            listener.settimeout(0.05)
            while not stopped.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with closing(connection):
                    connection.settimeout(1.0)
                    connection.recv(1000)
                    connection.sendall(response)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        stopped.set()
        thread.join()
