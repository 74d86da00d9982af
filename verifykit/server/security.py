"""Who may talk to the service from where, and what browsers are told: plain ASGI middlewares.

From the outside in: :class:`RequestId`, :class:`SecurityHeaders`, :class:`TrustedHosts`,
:class:`SameOrigin`, and then :class:`~verifykit.server.body_limit.BodyLimit`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifykit.errors import InputError
from verifykit.server.problems import problem_response, request_id_of

__all__ = ["RequestId", "SameOrigin", "SecurityHeaders", "TrustedHosts"]

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
