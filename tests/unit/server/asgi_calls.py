"""Calls a plain ASGI application, as a server would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    scope: Mapping[str, Any]

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = json.loads(self.body)
        assert body["status"] == self.status
        return body


def a_scope(
    method: str = "GET",
    path: str = "/v1/models",
    headers: Iterable[tuple[str, str]] = (("host", "localhost:8000"),),
    **more: Any,
) -> Scope:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


def call(app: ASGIApp, scope: Scope | None = None, parts: Iterable[bytes] = ()) -> Answer:
    """Run the application once; the body comes in these parts, and then the client stays."""
    return asyncio.run(_call(app, scope or a_scope(), list(parts)))


async def _call(app: ASGIApp, scope: Scope, parts: list[bytes]) -> Answer:
    sent: list[Message] = []
    never = asyncio.Event()
    waiting = [*parts] or [b""]

    async def receive() -> Message:
        if not waiting:
            await never.wait()
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert bodies
    assert [body.get("more_body", False) for body in bodies] == [True] * (len(bodies) - 1) + [False]
    pairs = [(name.decode().lower(), value.decode()) for name, value in start["headers"]]
    assert len(dict(pairs)) == len(pairs), "a header twice"
    return Answer(
        start["status"], dict(pairs), b"".join(body.get("body", b"") for body in bodies), scope
    )


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers everything with 200 and its path."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"yes")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that raises, with a subject's id in the message."""
    raise LookupError("subject alice.secret is not here")
