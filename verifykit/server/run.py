"""The service as a process: a socket, uvicorn, and an orderly end."""

from __future__ import annotations

import math
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI

from verifykit.errors import InputError
from verifykit.server.app import create_app
from verifykit.server.impatience import ImpatientProtocol
from verifykit.server.logs import configure_logging
from verifykit.server.metrics import Metrics
from verifykit.server.service import Service
from verifykit.server.settings import ServerSettings

__all__ = ["serve"]

_BACKLOG = 2048
_KEEP_ALIVE_S = 15


def serve(settings: ServerSettings, on_listening: Callable[[str], None] | None = None) -> None:
    """Answer requests until the process is told to stop, then finish what was accepted.

    SIGINT or SIGTERM stops it; a second SIGINT does not wait.

    Args:
        settings: What the operator decided.
        on_listening: Told the address as soon as requests are answered.

    Raises:
        InputError: Nothing can listen at this address, it would be open to others without a key, or the
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
        """Start to answer, and say so."""
        await super().startup(sockets)
        if self.started and self._on_listening is not None:
            self._on_listening(self._address)


def _config(settings: ServerSettings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # An address that a client may choose is no address to limit rates by.
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
        # Without a password there is nobody at a terminal to be asked for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=lambda: b""
        )
    except OSError as error:
        raise InputError(
            f"certificate {settings.tls_cert} with key {settings.tls_key} cannot be used: "
            f"{error.strerror or error}; give a certificate in PEM and its own key, without a password"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # Head and body of an answer are two writes, and the second would wait for the client's ACK: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise InputError(
            f"nothing can listen at {host} port {port}: {error.strerror or error}; choose another --host "
            "or --port"
        ) from error
    return listener


def _address(settings: ServerSettings, listener: socket.socket) -> str:
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Ignore the signal that uvicorn raises once more when it has stopped because of it."""
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
