"""Send requests from many clients without a pause: bare HTTP/1.1 over asyncio's streams.

The requests are prepared in advance, and only the status and the length of a response are parsed, so that the
clients take little CPU time from the service.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PAUSE_S = 0.1

NO_RESPONSE = 0
"""In place of a status, for a connection that ended without a response."""


@dataclass(frozen=True)
class Load:
    """The requests to send, and for how long.

    Attributes:
        host: Host of the service.
        port: Port of the service.
        requests: Complete requests, head and body; each client sends them in turn.
        clients: Number of concurrent connections.
        warm_up_s: Time before the measurement.
        seconds: Time of the measurement.
    """

    host: str
    port: int
    requests: Sequence[bytes]
    clients: int
    warm_up_s: float
    seconds: float


@dataclass
class LoadResult:
    """The responses of a measurement.

    Attributes:
        statuses: Responses by status, including ``NO_RESPONSE``.
        latencies_s: Latency of each response with status 2xx.
        seconds: Time of the measurement.
        succeeded: All responses with status 2xx, including those of the warm-up.
        cpu_s: CPU time of the clients, including the warm-up.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    succeeded: int = 0
    cpu_s: float = 0.0


def multipart(method: str, target: str, host: str, parts: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a complete request with images; ``parts`` are field names and image bytes."""
    boundary = "verifykit-load"
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; name=%b; filename=p.jpg\r\n"
        b"Content-Type: image/jpeg\r\n\r\n%b\r\n" % (boundary.encode(), f'"{name}"'.encode(), image)
        for name, image in parts
    )
    body += f"--{boundary}--\r\n".encode()
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n"
    )
    return head.encode() + body


def send_load(load: Load) -> LoadResult:
    """Send requests until the time is over."""
    return asyncio.run(_send_load(load))


async def _send_load(load: Load) -> LoadResult:
    result = LoadResult(seconds=load.seconds)
    cpu_start, begin = time.process_time(), time.perf_counter() + load.warm_up_s
    clients = (
        _client(load, itertools.cycle(_rotate(load.requests, number)), begin, result)
        for number in range(load.clients)
    )
    await asyncio.gather(*clients)
    result.cpu_s = time.process_time() - cpu_start
    return result


def _rotate(requests: Sequence[bytes], number: int) -> Sequence[bytes]:
    start = number % len(requests)
    return [*requests[start:], *requests[:start]]


async def _client(load: Load, requests: Iterator[bytes], begin: float, result: LoadResult) -> None:
    end = begin + load.seconds
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while time.perf_counter() < end:
        request = next(requests)
        is_fresh = connection is None
        sent = time.perf_counter()
        try:
            if connection is None:
                connection = await asyncio.open_connection(load.host, load.port)
            reader, writer = connection
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError):
            if connection is not None:
                connection[1].close()
            connection = None
            if is_fresh:
                result.statuses[NO_RESPONSE] += 1
                await asyncio.sleep(_PAUSE_S)
            continue  # the service may close a kept-alive connection at any time
        _record(result, int(head[9:12]), sent, begin)
        if _CLOSE.search(head):
            writer.close()
            connection = None
        if wait := _RETRY.search(head):
            await asyncio.sleep(min(float(wait[1]), max(0.0, end - time.perf_counter())))
    if connection is not None:
        connection[1].close()


def _record(result: LoadResult, status: int, sent: float, begin: float) -> None:
    now = time.perf_counter()
    is_success = 200 <= status < 300
    result.succeeded += is_success
    if begin <= now < begin + result.seconds:
        result.statuses[status] += 1
        if is_success:
            result.latencies_s.append(now - sent)
    elif not is_success:  # errors count at any time
        result.statuses[status] += 1
