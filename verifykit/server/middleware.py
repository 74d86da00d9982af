"""Who may talk to the service from where, and what browsers are told: plain ASGI middlewares.

From the outside in: :class:`RequestId`, :class:`SecurityHeaders`, :class:`TrustedHosts`,
:class:`SameOrigin`, and then :class:`~verifykit.server.middleware.BodyLimit`.

Refuses a body that is too large or too slow, without keeping it.

Subject ids in paths: one segment, percent-encoded, whatever it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifykit.errors import InputError
from verifykit.server.errors import ProblemError, problem_response, request_id_of

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{0,5})?")

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class RequestId:
    """Gives each request an id: in ``scope["state"]``, the answer, the log and every problem.

    The client's ``X-Request-Id`` is kept when it is up to 64 characters of ``A-Z a-z 0-9 . _ -``.

    Args:
        app: What is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _SANE_ID.fullmatch(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        await self._app(scope, receive, named)


class SecurityHeaders:
    """Tells browsers to run nothing but our own scripts, and to keep no answer.

    Args:
        app: What is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The page and its files are nobody's secret: a browser may keep them, if it asks for news.
        path = scope["path"]
        is_page = path == "/" or path.startswith("/static/")

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["Cache-Control"] = "no-cache" if is_page else "no-store"
            await send(message)

        await self._app(scope, receive, protected)


class TrustedHosts:
    """Refuses a ``Host`` that is not ours: a foreign name that was pointed at this address (DNS rebinding).

    Args:
        app: What is inside.
        hosts: Names and addresses without port; IPv6 addresses with or without brackets.

    Raises:
        InputError: One of them is not a name or an address.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(_host_name(host) for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; 400 when its host is none of ours."""
        if scope["type"] == "http" and not self._is_ours(Headers(scope=scope).getlist("host")):
            refusal = problem_response(
                400,
                "bad_request",
                "the Host header is missing or names another host than this service",
                "Ask under the service's own name; the operator can add one by --trusted-host.",
                request_id_of(scope),
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_ours(self, asked: list[str]) -> bool:
        if len(asked) != 1:
            return False
        match = _HOST.fullmatch(asked[0].lower())
        return match is not None and match[1].rstrip(".") in self._hosts


def _host_name(host: str) -> str:
    name = host.lower().rstrip(".")
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    match = _HOST.fullmatch(name)
    if match is None or match[2] is not None or not re.fullmatch(r"[\w.\[\]:-]+", name):
        raise InputError(f"a trusted host is a name or an address without port, got {host!r}")
    return name


class SameOrigin:
    """Refuses what other web sites make a browser send, unless their origin was named.

    A request without ``Origin`` and ``Sec-Fetch-Site`` comes from no browser, and passes. A link from
    another site to the page ``/`` passes too: it does nothing and shows nothing.

    Args:
        app: What is inside.
        cors_origins: Origins such as ``https://door.example``, without a path.

    Raises:
        InputError: One of them is no origin.
    """

    def __init__(self, app: ASGIApp, cors_origins: Iterable[str] = ()) -> None:
        self._app = app
        self._named = frozenset(_checked_origin(origin) for origin in cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; 403 when another site sends it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin in self._named:
            await self._answer_named(origin, scope, receive, send)
        elif _is_own(scope, headers):
            await self._app(scope, receive, self._varying(send) if self._named else send)
        else:
            refusal = problem_response(
                403,
                "forbidden",
                "another web site sent this request; nothing was done",
                "Use the service's own page; the operator can allow another origin by --cors.",
                request_id_of(scope),
            )
            await refusal(scope, receive, send)

    async def _answer_named(self, origin: str, scope: Scope, receive: Receive, send: Send) -> None:
        async def shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Access-Control-Allow-Origin"] = origin
                answer["Access-Control-Expose-Headers"] = (
                    "Idempotency-Replayed, Retry-After, X-Request-Id"
                )
                answer["Cross-Origin-Resource-Policy"] = "cross-origin"
                answer.add_vary_header("Origin")
            await send(message)

        asked = Headers(scope=scope).get("access-control-request-method")
        if scope["method"] != "OPTIONS" or asked is None:
            await self._app(scope, receive, shared)
            return
        allowed = {
            "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
            "Access-Control-Allow-Headers": (
                "Authorization, Content-Type, Idempotency-Key, X-Request-Id"
            ),
            "Access-Control-Max-Age": "600",
        }
        await Response(status_code=204, headers=allowed)(scope, receive, shared)

    @staticmethod
    def _varying(send: Send) -> Send:
        async def varying(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).add_vary_header("Origin")
            await send(message)

        return varying


def _is_own(scope: Scope, headers: Headers) -> bool:
    site = headers.get("sec-fetch-site", "none")
    origins = headers.getlist("origin")
    if site not in ("same-origin", "none"):
        is_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return is_link and scope["path"] == "/" and not origins
    host = headers.get("host", "")
    own = {f"https://{host}".lower()}
    if scope.get("scheme", "http") == "http":  # what ends the TLS may be before us
        own.add(f"http://{host}".lower())
    return len(origins) <= 1 and own.issuperset(origin.lower() for origin in origins)


def _checked_origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise InputError(
            f"an origin is http(s)://HOST[:PORT] in lower case and without a path, got {origin!r}"
        )
    return origin


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


_SUBJECTS = b"/v1/subjects/"


class EncodedSubjects:
    """Routes subjects by the path as it was sent.

    Servers decode paths before they are routed, and then the subject ``a/verify`` would be the address of
    another's verification. Here ``%2F`` stays what it is until the segment has been taken.

    Args:
        app: What is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        raw = scope.get("raw_path") or b"" if scope["type"] == "http" else b""
        if raw.startswith(_SUBJECTS):
            scope["path"] = raw.decode("ascii", "replace")
        await self._app(scope, receive, send)
