"""The load of ``benchmarks.serve``: what it sends is read as it is meant, and what comes back is counted."""

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

from benchmarks import serve
from benchmarks.serve import VERBS, apart, library, tasks
from benchmarks.serve_load import NO_ANSWER, Load, multipart, offer
from tests.unit.server.running import files, running
from verifykit.server import ServerSettings


@pytest.fixture(autouse=True)
def fetched(portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the checkout's cache: the tests' own is empty."""
    monkeypatch.setattr(serve, "portraits", lambda: portraits)


def test_the_service_answers_what_is_sent(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    settings = ServerSettings(
        str(tmp_path / "staff.db"), with_signatures=False, failed_verifications=0
    )
    with running(settings) as service:
        client = service.client
        for name in serve.ENROLLED:
            body = files(image=portraits[name].read_bytes())
            assert client.put(f"/v1/subjects/{name}", files=body).status_code == 201
        host, port = client.base_url.host, client.base_url.port
        assert port
        requests = [task.request(f"{host}:{port}") for task in tasks(VERBS)]
        assert len(requests) == len(serve.ENROLLED) * len(serve.PICTURES) * len(VERBS)
        seen = offer(Load(host, port, requests, clients=3, warm_s=0.1, seconds=2.0))
        assert set(seen.statuses) == {200}, seen.statuses
        assert len(seen.latencies_s) == seen.statuses[200] <= seen.answered
        assert 0 < max(seen.latencies_s) < 30
        assert seen.cpu_s > 0
        gone = [
            multipart("POST", "/v1/subjects/nobody/verify", f"{host}:{port}", [("image", b"x")])
        ]
        seen = offer(Load(host, port, gone, clients=2, warm_s=0.0, seconds=0.3))
        assert set(seen.statuses) == {404}
        assert seen.latencies_s == []
        bare = library(tmp_path / "staff.db", 2, tasks(VERBS), 1.0)
    assert bare.count > 0
    assert 0 < bare.cpu_s_each < 10


def test_refusals_are_waited_out_and_connections_that_end_are_counted() -> None:
    refusal = (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"",
    )
    for said, status, at_most in zip(refusal, (503, 200, NO_ANSWER), (1, 10**6, 10), strict=True):
        with _saying(said) as port:
            request = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
            seen = offer(Load("127.0.0.1", port, request, clients=1, warm_s=0.0, seconds=0.4))
        assert set(seen.statuses) == {status}
        assert 1 <= seen.statuses[status] <= at_most


@pytest.mark.slow
def test_the_command(
    face_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seconds", "3", "--clients", "2", "90", "--options", "--workers 2 --queue 8"]
    monkeypatch.setattr("sys.argv", ["serve", *options])
    monkeypatch.setattr(serve, "console", Console(width=140))
    assert serve.main() == 0
    said = capsys.readouterr().out
    assert re.search(r"│ 2 +│ \d+\.\d +│ \d+\.\d", said), said
    assert re.search(r"│ 90 .*503: \d+", said), said
    monkeypatch.setattr(serve, "ALLOWED", (429,))
    monkeypatch.setattr("sys.argv", ["serve", *options[:2], "--clients", "90", *options[-2:]])
    assert serve.main() == 1
    assert "answers were 503, which may not be" in capsys.readouterr().out


def test_a_job_apart_runs_in_a_process_of_its_own() -> None:
    assert apart(os.getpid) != os.getpid()


@contextmanager
def _saying(answer: bytes) -> Iterator[int]:
    """A server that answers every request with these bytes, or ends the connection; its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        over = threading.Event()

        def run() -> None:
            listener.settimeout(0.05)
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with closing(connection):
                    connection.settimeout(1.0)
                    connection.recv(1000)
                    connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        thread.join()
