"""Where the service listens, and what it says when it cannot."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.unit.server.conftest import OwnService
from verifykit.errors import InputError, ModelNotFoundError
from verifykit.server import ServerSettings, serve
from verifykit.server.auth import KeyStore
from verifykit.server.observability import Metrics
from verifykit.server.service import Service
from verifykit.server.state import ServerState
from verifykit.server.uvicorn_runner import HeaderTimeoutProtocol, _address, _bound


@pytest.fixture
def own_logging() -> Iterator[None]:
    """`serve` sets up logging for its process, which is the tests' here."""
    loggers = [logging.getLogger(name) for name in ("verifykit", "uvicorn", "uvicorn.access")]
    before = [(one.handlers, one.level, one.propagate, one.disabled) for one in loggers]
    yield
    for one, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
        one.handlers, one.propagate, one.disabled = handlers, propagate, disabled
        one.setLevel(level)


def test_a_port_that_is_taken_is_said_before_a_model_is_opened(
    tmp_path: Path, own_logging: None
) -> None:
    with closing(_bound("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ServerSettings(str(tmp_path / "staff.db"), model="no such model", port=port)
        with pytest.raises(InputError, match=f"127.0.0.1 port {port}: Address already in use"):
            serve(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_is_none_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot listen at no\.such\.host"):
        _bound("no.such.host.invalid", 0)


def test_the_address_is_one_that_can_be_opened() -> None:
    with closing(_bound("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = ServerSettings("staff.db")
        assert _address(settings, listener) == f"http://127.0.0.1:{port}"
        tls = ServerSettings("staff.db", tls_cert=__file__, tls_key=__file__)
        assert _address(tls, listener) == f"https://127.0.0.1:{port}"
        for host in ("::1", "[::1]"):
            assert _address(ServerSettings("s.db", host=host), listener) == f"http://[::1]:{port}"
        # An answer is two writes: the second must not wait for the client.
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_beyond_loopback_there_must_be_a_key(face_model: Path, tmp_path: Path) -> None:
    settings = ServerSettings(str(tmp_path / "staff.db"), host="0.0.0.0", with_signatures=False)
    with pytest.raises(InputError, match="there is no API key"):
        Service.open(settings, Metrics())
    assert not (tmp_path / "staff.db").exists()
    with closing(ServerState(settings.state_path)) as state:
        KeyStore(state).create("door", ["verify"])
    with closing(Service.open(settings, Metrics())) as service:
        assert list(service.models) == ["face"]


def test_a_model_that_is_not_there_leaves_no_gallery(tmp_path: Path) -> None:
    settings = ServerSettings(str(tmp_path / "staff.db"), model=str(tmp_path / "none.onnx"))
    with pytest.raises(ModelNotFoundError, match=r"none\.onnx"):
        Service.open(settings, Metrics())
    assert not (tmp_path / "staff.db").exists()


@pytest.mark.parametrize(
    "content", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_that_is_none_is_an_input_error(
    tmp_path: Path, own_logging: None, content: str
) -> None:
    pem = tmp_path / "cert.pem"
    pem.write_text(content)
    settings = ServerSettings(str(tmp_path / "s.db"), tls_cert=str(pem), tls_key=str(pem), port=0)
    with pytest.raises(InputError, match=r"cert\.pem.* with key .* cannot be used"):
        serve(settings)
    assert list(tmp_path.iterdir()) == [pem]


def test_a_head_that_never_ends_is_given_up_and_a_whole_one_is_not(
    own_service: OwnService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeaderTimeoutProtocol, "head_timeout_s", 1.0)
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with own_service(with_signatures=False) as found:
        port = found.client.base_url.port
        for first, begin in ((b"", b""), (b"", whole[:10]), (whole, whole[:10])):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                if first:
                    client.sendall(first)
                    _require_ok(client)
                client.sendall(begin)
                told = b"".join(iter(partial(client.recv, 65536), b""))
            head, _, body = told[told.index(b"HTTP/1.1 408") :].partition(b"\r\n\r\n")
            assert b"connection: close" in head.lower()
            assert json.loads(body)["code"] == "request_timeout"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            for _ in range(3):  # longer in all than one head may take
                client.sendall(whole)
                _require_ok(client)
                time.sleep(0.6)


def _require_ok(client: socket.socket) -> None:
    told = b""
    while not told.endswith(b'{"status": "ok"}'):
        part = client.recv(65536)
        assert part, told
        told += part
    assert told.startswith(b"HTTP/1.1 200")
