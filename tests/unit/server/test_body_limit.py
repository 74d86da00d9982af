"""Bodies that are too large or too slow, by messages and over a real connection."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.unit.server.asgi_calls import Answer, a_scope, call, greet
from verifykit.server.middleware import BodyLimitMiddleware

MAX = 1000


async def measure(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes it was given, and `gone` when the client went before the end."""
    size, more, gone = 0, True, False
    while more:
        message = await receive()
        gone = message["type"] == "http.disconnect"
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 400 if gone else 200, "headers": []})
    await send({"type": "http.response.body", "body": b"gone" if gone else str(size).encode()})


def _sent(app: ASGIApp, parts: list[bytes], *headers: tuple[str, str]) -> Answer:
    kept = headers or [("transfer-encoding", "chunked")]
    return call(app, a_scope("PUT", headers=kept), parts)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=8), st.booleans())
def test_up_to_the_limit_the_body_passes_and_beyond_it_is_refused(
    sizes: list[int], announced: bool
) -> None:
    total = sum(sizes)
    headers = [("content-length", str(total))] if announced else []
    answer = _sent(
        BodyLimitMiddleware(measure, MAX, 5.0), [b"x" * size for size in sizes], *headers
    )
    if total <= MAX:
        assert (answer.status, answer.body) == (200, str(total).encode())
        assert "connection" not in answer.headers
    else:
        assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
        assert str(MAX) in answer.problem["detail"]


def test_an_announced_length_is_refused_before_the_application_is_asked() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    for length in ("1001", "9" * 18, "9" * 5000):
        answer = _sent(BodyLimitMiddleware(never, MAX, 5.0), [b""], ("content-length", length))
        assert answer.status == 413
    for wrong in ("-1", "1e3", "0x10", "\u00b2", " 1", "1,1"):
        answer = _sent(BodyLimitMiddleware(never, MAX, 5.0), [b""], ("content-length", wrong))
        assert (answer.status, answer.problem["code"]) == (400, "bad_request")


START: Message = {"type": "http.response.start", "status": 200, "headers": []}
CHUNK: Message = {"type": "http.response.body", "body": b"a", "more_body": True}


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("sent", [[], [START], [START, CHUNK]])
def test_an_applications_own_error_stays_one(sent: list[Message], reads: bool) -> None:
    async def raises(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        while reads and (await receive())["type"] == "http.request":
            pass
        raise RuntimeError

    limited = BodyLimitMiddleware(raises, MAX, 5.0)
    if reads and CHUNK not in sent:  # nothing has left yet: the refusal is the answer
        assert _sent(limited, [b"x" * 600] * 3).status == 413
    else:
        with pytest.raises(RuntimeError):
            _sent(limited, [b"x" * 600] * 3)


def test_an_application_may_read_while_it_answers() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({**message, "type": "http.response.body"})

    answer = _sent(BodyLimitMiddleware(echo, MAX, 5.0), [b"a", b"b", b"c"])
    assert (answer.status, answer.body) == (200, b"abc")


def test_a_client_that_stops_in_the_middle_is_told_so() -> None:
    begin = time.monotonic()
    answer = call(
        _stalling(BodyLimitMiddleware(measure, MAX, 0.2)),
        a_scope("PUT", headers=[("content-length", "10")]),
    )
    assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"
    assert 0.2 <= time.monotonic() - begin < 3.0


def _stalling(app: ASGIApp) -> ASGIApp:
    """The client sends three bytes of ten, and the rest never."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        first = True

        async def receiving() -> Message:
            nonlocal first
            message = await receive() if first else await receive_nothing()
            first = False
            return {**message, "body": b"abc", "more_body": True}

        async def receive_nothing() -> Message:
            await receive()  # the call's only part is gone: this waits for ever
            raise AssertionError

        await app(scope, receiving, send)

    return wrapped


def test_a_whole_body_is_waited_for_however_long_the_work_takes() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0.2)
        with pytest.raises(asyncio.TimeoutError):  # listens for the end of the connection
            await asyncio.wait_for(receive(), 0.1)
        await greet(scope, receive, send)

    assert (
        _sent(BodyLimitMiddleware(slow, MAX, 0.1), [b"abc"], ("content-length", "3")).status == 200
    )


@contextmanager
def _served(app: ASGIApp) -> Iterator[int]:
    """The port of a server on loopback."""
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, ws="none", lifespan="off", http="h11"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def _head(length: int, *more: str) -> bytes:
    lines = ["PUT / HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


def _read(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_who_sends_everything_before_reading_still_gets_the_answer() -> None:
    size = 50_000_000
    with (
        _served(BodyLimitMiddleware(measure, MAX, 5.0)) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(_head(size))
        for _ in range(size // 100_000):
            connection.sendall(bytes(100_000))
        answer = _read(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer
    assert b"connection: close" in answer.lower()


def test_who_never_ends_is_cut_and_who_asks_first_is_not_made_to_send() -> None:
    with _served(BodyLimitMiddleware(measure, MAX, 5.0, linger_s=0.2)) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(_head(MAX + 1))
            begin = time.monotonic()
            assert b"413" in _read(connection)
            assert time.monotonic() - begin < 3.0
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(_head(MAX + 1, "Expect: 100-continue"))
            assert _read(connection).startswith(b"HTTP/1.1 413")


def test_a_refusal_that_reads_no_body_keeps_the_connection_if_the_body_is_there() -> None:
    with (
        _served(BodyLimitMiddleware(greet, MAX, 5.0)) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        for _ in range(3):
            connection.sendall(_head(500) + bytes(500))
            answer = connection.recv(65536)
            while not answer.endswith(b"\r\n/\r\n0\r\n\r\n"):  # the path, as one chunk
                answer += connection.recv(65536)
            assert b"connection: close" not in answer.lower()


def test_a_slow_client_is_told_over_its_connection() -> None:
    with (
        _served(BodyLimitMiddleware(measure, MAX, 0.3)) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(_head(10) + b"abc")
        answer = _read(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer
