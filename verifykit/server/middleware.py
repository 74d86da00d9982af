"""ASGI middlewares, from the outside in: what every request passes before it reaches a route.

:class:`RequestIdMiddleware`, :class:`AccessLogMiddleware` and :class:`MetricsMiddleware` see every request;
:class:`SecurityHeadersMiddleware`, :class:`TrustedHostsMiddleware` and :class:`SameOriginMiddleware` protect
browsers and their users; :class:`BodyLimitMiddleware` ends requests that are too large or too slow;
:class:`ErrorMiddleware` answers what no handler caught; :class:`SubjectPathMiddleware` keeps subject ids in
paths encoded until they are routed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifykit.errors import InputError, shown
from verifykit.server.errors import ProblemError
from verifykit.server.exception_handlers import error_response
from verifykit.server.observability import Metrics, request_id_of, route_template

_log = logging.getLogger("verifykit.server")

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
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
_SUBJECTS = b"/v1/subjects/"
# How long to wait for the rest of a body that is not read, before the connection is closed.
_MOMENT_S = 0.05


class _HttpMiddleware(ABC):
    """A middleware for HTTP requests; anything else, such as the start of the service, passes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._answer if scope["type"] == "http" else self._app
        await answer(scope, receive, send)

    @abstractmethod
    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def _with_headers(send: Send, change: Callable[[MutableHeaders], object]) -> Send:
    """Return ``send``, which first changes the headers of the response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            change(MutableHeaders(scope=message))
        await send(message)

    return sending


class RequestIdMiddleware(_HttpMiddleware):
    """Give each request an id: in ``scope["state"]``, the response, the log and every problem.

    The client's ``X-Request-Id`` is kept when it is up to 64 characters of ``A-Z a-z 0-9 . _ -``.
    """

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        named = _with_headers(send, lambda headers: headers.update({"X-Request-Id": request_id}))
        await self._app(scope, receive, named)


class AccessLogMiddleware(_HttpMiddleware):
    """Log one line for each request, when it has ended."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        status: int | None = None  # stays None when the client leaves before there is a response
        received = sent = 0

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        failed = True
        try:
            await self._app(scope, receiving, sending)
            failed = False
        finally:
            fields = {
                "request_id": request_id_of(scope),
                "method": scope["method"],
                "route": route_template(scope),
                "status": 500 if failed and status is None else status,
                "duration_ms": round((time.perf_counter() - begin) * 1000, 3),
                "key_id": scope.get("state", {}).get("key_id"),
                "request_bytes": received,
                "response_bytes": sent,
            }
            level = logging.ERROR if failed else logging.INFO
            _log.log(level, "request", extra={"fields": fields}, exc_info=failed)


class MetricsMiddleware(_HttpMiddleware):
    """Count and time each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        super().__init__(app)
        self._metrics = metrics

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        status = 500  # what the client sees when the application raises

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.started()
        try:
            await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - begin
            self._metrics.answered(route_template(scope), scope["method"], status, seconds)


class SecurityHeadersMiddleware(_HttpMiddleware):
    """Have browsers run only the scripts of the page, and store no response."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The page and its files are not secret: a browser may keep them if it revalidates.
        path = scope["path"]
        is_page = path == "/" or path.startswith("/static/")
        added = {**_HEADERS, "Cache-Control": "no-cache" if is_page else "no-store"}
        await self._app(scope, receive, _with_headers(send, lambda headers: headers.update(added)))


class TrustedHostsMiddleware(_HttpMiddleware):
    """Refuse requests for another host (400): a foreign name may resolve to this address (DNS rebinding).

    ``hosts`` are names and addresses without port; IPv6 addresses with or without brackets.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        super().__init__(app)
        self._hosts = frozenset(_host_name(host) for host in hosts)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_ours(Headers(scope=scope).getlist("host")):
            refusal = ProblemError(
                "bad_request",
                "the Host header is missing or names another host than this service",
                hint="Use the service's own name; the operator can add one by --trusted-host.",
            )
            await refusal.response(request_id_of(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_ours(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        match = _HOST.fullmatch(hosts[0].lower())
        return match is not None and match[1].rstrip(".") in self._hosts


def _host_name(host: str) -> str:
    name = host.lower().rstrip(".")
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    match = _HOST.fullmatch(name)
    if match is None or match[2] is not None or not re.fullmatch(r"[\w.\[\]:-]+", name):
        raise InputError(f"trusted host {shown(host)}: give a name or an address, without a port")
    return name


class SameOriginMiddleware(_HttpMiddleware):
    """Refuse what other web sites make a browser send (403), unless their origin is in ``cors_origins``.

    A request without ``Origin`` and ``Sec-Fetch-Site`` does not come from a browser, and passes. A link from
    another site to the page ``/`` passes too: it changes nothing and shows nothing.
    """

    def __init__(self, app: ASGIApp, cors_origins: Iterable[str] = ()) -> None:
        super().__init__(app)
        self._named = frozenset(_checked_origin(origin) for origin in cors_origins)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin in self._named:
            await self._answer_named(origin, scope, receive, send)
        elif _is_own(scope, headers):
            if self._named:
                send = _with_headers(send, lambda answer: answer.add_vary_header("Origin"))
            await self._app(scope, receive, send)
        else:
            refusal = ProblemError(
                "forbidden",
                "another web site sent this request; nothing was done",
                hint="Use the service's own page; the operator can allow another origin by --cors.",
            )
            await refusal.response(request_id_of(scope))(scope, receive, send)

    async def _answer_named(self, origin: str, scope: Scope, receive: Receive, send: Send) -> None:
        def share(headers: MutableHeaders) -> None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = (
                "Idempotency-Replayed, Retry-After, X-Request-Id"
            )
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            headers.add_vary_header("Origin")

        shared = _with_headers(send, share)
        requested = Headers(scope=scope).get("access-control-request-method")
        if scope["method"] != "OPTIONS" or requested is None:
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


def _is_own(scope: Scope, headers: Headers) -> bool:
    site = headers.get("sec-fetch-site", "none")
    origins = headers.getlist("origin")
    if site not in ("same-origin", "none"):
        is_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return is_link and scope["path"] == "/" and not origins
    host = headers.get("host", "")
    own = {f"https://{host}".lower()}
    if scope.get("scheme", "http") == "http":  # a proxy may terminate TLS
        own.add(f"http://{host}".lower())
    return len(origins) <= 1 and own.issuperset(origin.lower() for origin in origins)


def _checked_origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise InputError(
            f"origin {shown(origin)}: give http(s)://HOST[:PORT], in lower case and without a path"
        )
    return origin


class BodyLimitMiddleware(_HttpMiddleware):
    """End a request whose body has more than ``max_bytes`` (413) or takes longer than ``timeout_s`` (408).

    A ``Content-Length`` is refused at once; otherwise bytes are counted as they arrive. Most clients read no
    response before they have sent everything, and lose it when the connection is closed: after an early
    response the rest of the body is read and discarded for ``linger_s``. The application sees
    ``http.disconnect`` in place of the rest of a refused body, and its response to that is dropped.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, timeout_s: float, *, linger_s: float = 5.0
    ) -> None:
        super().__init__(app)
        self.max_bytes, self.timeout_s, self.linger_s = max_bytes, timeout_s, linger_s

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
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
    """The body of one request, and its response."""

    problem: ProblemError | None = None
    started = False
    _start: Message | None = None

    def __init__(
        self, headers: Headers, receive: Receive, send: Send, limit: BodyLimitMiddleware
    ) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self._linger_s = limit.linger_s
        self._end = asyncio.get_running_loop().time() + limit.timeout_s
        self._seen = 0
        announced = headers.get("content-length", "")
        # Reading would tell a client that asks whether to send its body to send it.
        self._waits = headers.get("expect", "").lower() == "100-continue"
        self._complete = announced in ("", "0") and "transfer-encoding" not in headers
        if announced and not (announced.isascii() and announced.isdigit()):
            self.problem = ProblemError("bad_request", "Content-Length is not a number")
        elif len(announced) > 18 or int(announced or 0) > limit.max_bytes:
            self._refuse_size()

    async def receive(self) -> Message:
        """Return the next part of the body, or a disconnect in place of a refused one."""
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
        """Send, unless the request has been refused since: then the refusal is the response."""
        if self.problem is None or self.started:
            await self.send(message)

    async def send(self, message: Message) -> None:
        """Send, and discard the rest of a body that the application does not read."""
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
            f"the body has more than the {self._limit.max_bytes} bytes that are allowed; nothing was done",
        )


class ErrorMiddleware(_HttpMiddleware):
    """Answer exceptions that no handler caught; inside the other middlewares, which see the response."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        super().__init__(app)
        self._metrics = metrics

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if started:
                raise
            answer = error_response(scope, error, self._metrics)
            await answer(scope, receive, send)


class SubjectPathMiddleware(_HttpMiddleware):
    """Route subjects by the path as it was sent, percent-encoded.

    A decoded path would make the subject ``a/verify`` the address of the verification of ``a``: ``%2F`` must
    stay encoded until the segment has been taken.
    """

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if raw.startswith(_SUBJECTS):
            scope["path"] = raw.decode("ascii", "replace")
        await self._app(scope, receive, send)
