"""Clients that ask without a pause, for ``benchmarks.serve``: bare HTTP/1.1 over asyncio's streams.

The requests are made beforehand, and of an answer no more is read than its status and its length, so that
the clients leave the processor to the service.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["NO_ANSWER", "Load", "Seen", "multipart", "offer"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PAUSE_S = 0.1

NO_ANSWER = 0
"""In place of a status, for a connection that ended without one."""


@dataclass(frozen=True)
class Load:
    """What is sent, and for how long.

    Attributes:
        host: Where the service listens.
        port: Its port.
        requests: Whole requests, head and body; each client takes them in turn.
        clients: Connections that ask at the same time.
        warm_s: How long they ask before it counts.
        seconds: How long it counts.
    """

    host: str
    port: int
    requests: Sequence[bytes]
    clients: int
    warm_s: float
    seconds: float


@dataclass
class Seen:
    """What came back while it counted.

    Attributes:
        statuses: Answers by status; ``NO_ANSWER`` among them.
        latencies_s: Of each answer with a status of 2xx.
        seconds: How long it counted.
        answered: Answers with a status of 2xx from the first to the last, counted or not.
        cpu_s: What the clients themselves needed of the processor for all of it.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    answered: int = 0
    cpu_s: float = 0.0


def multipart(method: str, target: str, host: str, parts: Sequence[tuple[str, bytes]]) -> bytes:
    """A whole request with pictures.

    Args:
        method: POST or PUT.
        target: Path and query.
        host: For the header Host.
        parts: Field names and pictures.
    """
    boundary = "verifykit-load"
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; name=%b; filename=p.jpg\r\n"
        b"Content-Type: image/jpeg\r\n\r\n%b\r\n"
        % (boundary.encode(), f'"{name}"'.encode(), picture)
        for name, picture in parts
    )
    body += f"--{boundary}--\r\n".encode()
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n"
    )
    return head.encode() + body


def offer(load: Load) -> Seen:
    """Ask until the time is over, and say what came back."""
    return asyncio.run(_offer(load))


async def _offer(load: Load) -> Seen:
    seen = Seen(seconds=load.seconds)
    used, begin = time.process_time(), time.perf_counter() + load.warm_s
    clients = (
        _client(load, itertools.cycle(_from(load.requests, number)), begin, seen)
        for number in range(load.clients)
    )
    await asyncio.gather(*clients)
    seen.cpu_s = time.process_time() - used
    return seen


def _from(requests: Sequence[bytes], number: int) -> Sequence[bytes]:
    start = number % len(requests)
    return [*requests[start:], *requests[:start]]


async def _client(load: Load, requests: Iterator[bytes], begin: float, seen: Seen) -> None:
    end = begin + load.seconds
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while time.perf_counter() < end:
        request = next(requests)
        is_fresh = connection is None
        asked = time.perf_counter()
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
                seen.statuses[NO_ANSWER] += 1
                await asyncio.sleep(_PAUSE_S)
            continue  # one that was kept may be closed by the service at any time
        _note(seen, int(head[9:12]), asked, begin)
        if _CLOSE.search(head):
            writer.close()
            connection = None
        if wait := _RETRY.search(head):
            await asyncio.sleep(min(float(wait[1]), max(0.0, end - time.perf_counter())))
    if connection is not None:
        connection[1].close()


def _note(seen: Seen, status: int, asked: float, begin: float) -> None:
    now = time.perf_counter()
    is_good = 200 <= status < 300
    seen.answered += is_good
    if begin <= now < begin + seen.seconds:
        seen.statuses[status] += 1
        if is_good:
            seen.latencies_s.append(now - asked)
    elif not is_good:  # what may not be may not be at any time
        seen.statuses[status] += 1
