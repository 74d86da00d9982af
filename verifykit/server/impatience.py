"""A client that never finishes the head of its request does not keep a connection for ever."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from verifykit.server.problems import ProblemError

__all__ = ["ImpatientProtocol"]


class ImpatientProtocol(H11Protocol):
    """uvicorn's protocol, which waits for a head without end, with a time-out for it.

    Attributes:
        head_timeout_s: From the connection, or the first byte of a later head, to its end.
    """

    head_timeout_s = 20.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, and has not asked yet."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Some of a head, or of a body."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._waits_for_head():
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _forget(self) -> None:
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
