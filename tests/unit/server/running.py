"""The service over a real socket, in a thread of the test's process."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from verifykit.server.app import create_app
from verifykit.server.observability import Metrics
from verifykit.server.service import Service
from verifykit.server.settings import ServerSettings
from verifykit.server.uvicorn_runner import _bound, _config


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes:
        client: Talks to it; safe to share between threads.
        service: What it has open.
        stop: Tells it to stop, and waits until it has.
    """

    client: httpx.Client
    service: Service
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()


@contextmanager
def running(settings: ServerSettings, **client_options: Any) -> Iterator[Running]:
    """A service at a free port; what `serve` does, without its log and its signals."""
    service = Service.open(settings, Metrics())
    with closing(_bound(settings.host, 0)) as listener:
        server = uvicorn.Server(_config(settings, create_app(settings, service)))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=60, trust_env=False, **client_options) as client:
            found = Running(client, service, server, thread)
            try:
                yield found
            finally:
                found.stop()


def files(**pictures: bytes | list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Parts of a multipart body."""
    return [
        (name, (f"{name}.jpg", one))
        for name, given in pictures.items()
        for one in (given if isinstance(given, list) else [given])
    ]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is; everything that every problem has is checked."""
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["type"] == f"urn:verifykit:problem:{code}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    assert body["hint"].endswith(".")
    return body
