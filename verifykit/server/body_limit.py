"""Refuses a body that is too large or too slow, without keeping it."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifykit.server.problems import ProblemError, request_id_of

__all__ = ["BodyLimit"]

# How long to wait for the rest of a body that nobody will read, before the connection is given up.
_MOMENT_S = 0.05


class BodyLimit:
    """An ASGI middleware that ends a request whose body is too large (413) or comes too slowly (408).

    An announced length is refused at once; otherwise bytes are counted as they come. Most clients read no
    answer before they have sent everything, and lose it when the connection is cut: what they still send
    after an early answer is read and thrown away for a while.

    Args:
        app: What is inside. It sees ``http.disconnect`` in place of the rest of a refused body, and what
            it answers to that is dropped.
        max_bytes: Size that a body may have.
        timeout_s: Time in seconds that the whole of it may take.
        linger_s: How long the rest is thrown away after an early answer, in seconds.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, timeout_s: float, *, linger_s: float = 5.0
    ) -> None:
        self._app = app
        self.max_bytes, self.timeout_s, self.linger_s = max_bytes, timeout_s, linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = _Exchange(headers, receive, send, self)
        if exchange.problem is None:
            try:
                await self._app(scope, exchange.receive, exchange.send_from_app)
            except Exception:
                if exchange.problem is None or exchange.started:
                    raise
        if exchange.problem is not None and not exchange.started:
            answer = exchange.problem.response(request_id_of(scope))
            await answer(scope, receive, exchange.send)


class _Exchange:
    """One request's body, and its answer."""

    problem: ProblemError | None = None
    started = False
    _start: Message | None = None

    def __init__(self, headers: Headers, receive: Receive, send: Send, limit: BodyLimit) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self._linger_s = limit.linger_s
        self._end = asyncio.get_running_loop().time() + limit.timeout_s
        self._seen = 0
        announced = headers.get("content-length", "")
        # Who asks whether to send a body is not made to send it by our reading.
        self._waits = headers.get("expect", "").lower() == "100-continue"
        self._complete = announced in ("", "0") and "transfer-encoding" not in headers
        if announced and not (announced.isascii() and announced.isdigit()):
            self.problem = ProblemError("bad_request", "Content-Length is not a number")
        elif len(announced) > 18 or int(announced or 0) > limit.max_bytes:
            self._refuse_size()

    async def receive(self) -> Message:
        """The next part of the body, or the end of a refused one."""
        if self.problem is None and not self._complete:
            try:
                left_s = self._end - asyncio.get_running_loop().time()
                message = await asyncio.wait_for(self._next(), left_s)
            except asyncio.TimeoutError:
                self.problem = ProblemError(
                    "request_timeout",
                    f"the body took longer than {self._limit.timeout_s:g} s; nothing was done",
                )
                self._linger_s = 0.0
            else:
                if self._seen <= self._limit.max_bytes:
                    return message
                self._refuse_size()
        if self.problem is not None:
            return {"type": "http.disconnect"}
        return await self._receive()

    async def send_from_app(self, message: Message) -> None:
        """Send, unless the request was refused meanwhile: then the refusal is the answer."""
        if self.problem is None or self.started:
            await self.send(message)

    async def send(self, message: Message) -> None:
        """Send, and see to what the client still sends of a body that nobody reads."""
        if message["type"] == "http.response.start":
            self._start = message  # until it is known whether the application still reads
            return
        is_last = not message.get("more_body", False)
        if self._start is not None:
            if is_last and self.problem is None:
                await self._drain(_MOMENT_S)
            await self._send_start(self._start)
        if is_last and not self._complete:
            await self._send({**message, "more_body": True})
            await self._drain(self._linger_s)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _send_start(self, message: Message) -> None:
        if not self._complete:
            MutableHeaders(scope=message)["Connection"] = "close"
        self.started, self._start = True, None
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        return message

    async def _drain(self, patience_s: float) -> None:
        if not self._complete and not self._waits:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._rest(), patience_s)

    async def _rest(self) -> None:
        while not self._complete:
            await self._next()

    def _refuse_size(self) -> None:
        self.problem = ProblemError(
            "body_too_large",
            f"the body has more than the {self._limit.max_bytes} bytes that are possible; nothing was done",
        )
