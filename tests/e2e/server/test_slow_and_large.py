"""Clients that are slow and bodies that are huge: they are told so, and others notice nothing."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.e2e.server.served import Served, served
from tests.unit.server.running import files, running
from verifykit.server import ServerSettings

SLOW_CLIENTS = 40
GB = 1_000_000_000
CHUNK = b"10000\r\n" + b"\0" * 65_536 + b"\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
HEAD = "PUT /v1/subjects/huge HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"


def test_slow_clients_are_told_so_and_hold_nobody_up(
    face_model: Path, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    settings = ServerSettings(str(tmp_path / "staff.db"), with_signatures=False, body_timeout_s=2.0)
    picture = pictures["person_a_1"]
    with running(settings) as service, ExitStack() as connections:
        client = service.client
        assert client.put("/v1/subjects/a", files=files(image=picture)).status_code == 201
        host = f"{client.base_url.host}:{client.base_url.port}"
        begin = time.monotonic()
        slow = []
        for _ in range(SLOW_CLIENTS):  # many more than there are workers
            connection = connections.enter_context(closing(_connect(host)))
            head = f"{HEAD.format(host=host)}Content-Length: 100000\r\n\r\n"
            connection.sendall(head.encode() + PART)
            slow.append(connection)
        served_meanwhile = 0
        while time.monotonic() < begin + 1.5:
            for connection in slow:
                connection.sendall(b"x")
            answer = client.post("/v1/subjects/a/verify", files=files(image=picture))
            assert answer.json()["match"] is True
            served_meanwhile += 1
        assert served_meanwhile >= 2
        for connection in slow:
            connection.settimeout(20)
            said = _all(connection)
            assert said.startswith(b"HTTP/1.1 408 "), said
            assert b"request_timeout" in said
        assert client.get("/healthz").status_code == 200


@pytest.fixture(scope="module")
def process(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("large"), "--no-signatures") as service:
        yield service


def test_a_body_of_1_gb_is_refused_before_it_is_sent(process: Served) -> None:
    host, before = process.url.removeprefix("http://"), _resident_peak(process)
    with closing(_connect(host)) as connection:
        connection.sendall(f"{HEAD.format(host=host)}Content-Length: {GB}\r\n\r\n".encode())
        begin = time.monotonic()
        said = connection.recv(12)
        assert time.monotonic() - begin < 2
        connection.shutdown(socket.SHUT_WR)
        said += _all(connection)
        assert said.startswith(b"HTTP/1.1 413 "), said
        assert b"body_too_large" in said
    assert _resident_peak(process) - before < 10_000_000


@pytest.mark.parametrize(
    "head",
    [f"Content-Length: {GB}\r\n\r\n", f"Transfer-Encoding: chunked\r\n\r\n{len(PART):x}\r\n"],
)
def test_who_sends_it_all_the_same_costs_no_memory(
    process: Served, portraits: Mapping[str, Path], head: str
) -> None:
    host, before = process.url.removeprefix("http://"), _resident_peak(process)
    with closing(_connect(host)) as connection:
        connection.sendall(f"{HEAD.format(host=host)}{head}".encode() + PART + b"\r\n")
        sent = 0
        with suppress(
            OSError
        ):  # it is read and thrown away for some seconds, then the connection is cut
            while sent < GB:
                connection.sendall(CHUNK)
                sent += len(CHUNK)
        if sent >= GB:
            assert connection.recv(13) == b"HTTP/1.1 413 "
    # The largest body that is possible is held in memory, and a part of it that was read ahead.
    assert _resident_peak(process) - before < 60_000_000
    assert process.put(f"after-{len(head)}", portraits["person_a_1"]).status_code == 201


def _connect(host: str) -> socket.socket:
    name, _, port = host.rpartition(":")
    return socket.create_connection((name, int(port)), timeout=60)


def _all(connection: socket.socket) -> bytes:
    """What is said until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def _resident_peak(service: Served) -> int:
    """Bytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])
