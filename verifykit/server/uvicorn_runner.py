"""The service as a process: a socket, uvicorn with a header timeout, and an orderly shutdown."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from verifykit.errors import InputError, shortened, shown
from verifykit.server.app import create_app
from verifykit.server.errors import ProblemError
from verifykit.server.observability import Metrics, configure_logging
from verifykit.server.service import Service
from verifykit.server.settings import ServerSettings


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol with a header timeout: a slow client does not keep a connection forever."""

    head_timeout_s = 20.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout with the connection."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Start the timeout with a head, stop it after one."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._waits_for_head():
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.transport.is_closing() or not self._waits_for_head():
            return
        detail = f"the head of the request took longer than {self.head_timeout_s:g} s"
        answer = ProblemError("request_timeout", detail, headers={"Connection": "close"}).response(
            ""
        )
        head = [b"HTTP/1.1 408 Request Timeout"]
        head += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()


_BACKLOG = 2048
_KEEP_ALIVE_S = 15


def serve(settings: ServerSettings, on_listening: Callable[[str], None] | None = None) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish what was accepted; a second SIGINT does not wait.

    Args:
        settings: The operator's settings.
        on_listening: Called with the address as soon as requests are answered.

    Raises:
        InputError: The address cannot be used, it would be open to other machines without a key, or the
            certificate cannot be used.
        VerifyKitError: A model, a gallery or a file cannot be opened.
    """
    configure_logging()
    _require_usable_tls(settings)
    with (
        closing(_bound(settings.host, settings.port)) as listener,
        closing(Service.open(settings, Metrics())) as service,
        _signals_end_quietly(),
    ):
        address = _address(settings, listener)
        config = _config(settings, create_app(settings, service))
        _Server(config, address, on_listening).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, address: str, on_listening: Callable[[str], None] | None
    ) -> None:
        super().__init__(config)
        self._address, self._on_listening = address, on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, and report the address."""
        await super().startup(sockets)
        if self.started and self._on_listening is not None:
            self._on_listening(self._address)


def _config(settings: ServerSettings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HeaderTimeoutProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Rates are limited by address: it must not be one that a client can choose.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout_s),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def _require_usable_tls(settings: ServerSettings) -> None:
    if settings.tls_cert is None:
        return
    try:
        # With an empty password OpenSSL does not ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=lambda: b""
        )
    except OSError as error:
        raise InputError(
            f"certificate {shown(settings.tls_cert)} with key {shown(settings.tls_key)} cannot be used: "
            f"{error.strerror or error}; give a certificate in PEM and its own key, without a password"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # Head and body of a response are two writes, and the second would wait for the client's ACK: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:  # the latter for what is no host name
        raise InputError(
            f"cannot listen at {shortened(host)} port {port}: "
            f"{getattr(error, 'strerror', None) or error}; choose another "
            "--host or --port"
        ) from error
    return listener


def _address(settings: ServerSettings, listener: socket.socket) -> str:
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Ignore the signal that uvicorn raises again when it has stopped because of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, signal.SIG_IGN) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
