"""What the middlewares let through, refuse, and tell browsers."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from tests.unit.server.asgi_calls import Answer, a_scope, call, greet
from verifykit.errors import InputError
from verifykit.server.middleware import (
    RequestIdMiddleware,
    SameOriginMiddleware,
    SecurityHeadersMiddleware,
    TrustedHostsMiddleware,
)

HOST = ("host", "localhost:8000")
HEX = re.compile(r"[0-9a-f]{16}")


def _asked(app: ASGIApp, *headers: tuple[str, str], method: str = "GET", **more: str) -> Answer:
    return call(app, a_scope(method, headers=headers, **more))


@pytest.mark.parametrize("asked", ["a", "A-1.b_2", "x" * 64])
def test_a_sane_request_id_is_kept(asked: str) -> None:
    answer = _asked(RequestIdMiddleware(greet), ("x-request-id", asked))
    assert answer.headers["x-request-id"] == answer.scope["state"]["request_id"] == asked


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_whatever_a_client_sends_the_id_is_sane(asked: str) -> None:
    answer = _asked(RequestIdMiddleware(greet), ("x-request-id", asked))
    given_back = answer.headers["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given_back)
    assert given_back == answer.scope["state"]["request_id"]
    assert given_back == asked or HEX.fullmatch(given_back)


def test_without_one_each_request_gets_another() -> None:
    ids = {_asked(RequestIdMiddleware(greet)).headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50
    assert all(map(HEX.fullmatch, ids))
    for insane in ("", "x" * 65, "a b", 'a"b', "a\n", "\u00e9"):
        assert (
            _asked(RequestIdMiddleware(greet), ("x-request-id", insane)).headers["x-request-id"]
            != insane
        )


def test_browsers_are_told_to_run_nothing_foreign_and_to_keep_no_answer() -> None:
    for path, keep in (
        ("/", "no-cache"),
        ("/static/page.js", "no-cache"),
        ("/v1/subjects", "no-store"),
        ("/static", "no-store"),
    ):
        headers = call(SecurityHeadersMiddleware(greet), a_scope(path=path)).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' blob: data:",
            "media-src": "'self' blob:",
            "connect-src": "'self'",
            "form-action": "'none'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["permissions-policy"].startswith("camera=(self)")
        assert headers["cache-control"] == keep
        assert headers["x-app"] == "yes"


HOSTS = TrustedHostsMiddleware(greet, ["localhost", "127.0.0.1", "::1", "Door.Example."])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST:1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[::1]",
        "door.example",
        "door.example.:443",
    ],
)
def test_our_own_names_are_answered(host: str) -> None:
    assert _asked(HOSTS, ("host", host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "localhost:8000:1",
        "localhost@evil.example",
        "127.0.0.1.evil.example",
        "::1",
        "[::2]",
        "localhost/",
        "localhost:x",
        " localhost",
        "0.0.0.0",
        "localhost:8000 ",
        "localhost,evil.example",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(host: str) -> None:
    problem = _asked(HOSTS, ("host", host)).problem
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert "--trusted-host" in problem["hint"]


def test_no_host_or_two_are_refused() -> None:
    assert _asked(HOSTS).status == 400
    assert _asked(HOSTS, HOST, ("host", "localhost")).status == 400
    answer = call(RequestIdMiddleware(HOSTS), a_scope(headers=[("x-request-id", "r1")]))
    assert answer.problem["request_id"] == answer.headers["x-request-id"] == "r1"


@pytest.mark.parametrize("host", ["", "*", "a b", "localhost:8000", "[::1", "http://a", "a/b"])
def test_what_is_no_host_name_cannot_be_trusted(host: str) -> None:
    with pytest.raises(InputError, match="trusted host"):
        TrustedHostsMiddleware(greet, [host])


DESK = "https://desk.example:8443"
OWN = SameOriginMiddleware(greet)
SHARED = SameOriginMiddleware(greet, [DESK])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("origin", "http://localhost:8000")],
        [("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "none")],
        [("origin", "https://localhost:8000")],  # what ends the TLS is before us
    ],
)
def test_our_own_page_and_what_is_no_browser_pass(
    method: str, headers: list[tuple[str, str]]
) -> None:
    for app in (OWN, SHARED):
        answer = _asked(app, HOST, *headers, method=method)
        assert (answer.status, answer.body) == (200, b"/v1/models")
        assert "access-control-allow-origin" not in answer.headers
    assert _asked(SHARED, HOST, *headers).headers["vary"] == "Origin"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("origin", "")],
        [("origin", "http://localhost:3000")],
        [("origin", "http://localhost")],
        [("origin", "http://localhost:8000.evil.example")],
        [("origin", "http://evil.example/localhost:8000")],
        [("origin", "ftp://localhost:8000")],
        [("origin", DESK.upper())],
        [("origin", "http://desk.example:8443")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("sec-fetch-site", "something new")],
        [("origin", "http://localhost:8000"), ("sec-fetch-site", "cross-site")],
        [("origin", "http://localhost:8000"), ("origin", "https://evil.example")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
        [("origin", "https://evil.example"), ("access-control-request-method", "PUT")],
    ],
)
def test_other_sites_are_refused(method: str, headers: list[tuple[str, str]]) -> None:
    for app in (OWN, SHARED):
        answer = _asked(app, HOST, *headers, method=method)
        assert (answer.status, answer.problem["code"]) == (403, "forbidden")
        assert "--cors" in answer.problem["hint"]
        assert "access-control-allow-origin" not in answer.headers


def test_over_tls_a_page_without_it_is_another_site() -> None:
    for origin, status in (("http://localhost:8000", 403), ("https://localhost:8000", 200)):
        assert _asked(OWN, HOST, ("origin", origin), scheme="https").status == status


def test_a_link_on_another_site_opens_the_page_and_nothing_else() -> None:
    link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]
    assert _asked(OWN, HOST, *link, path="/").status == 200
    assert _asked(OWN, HOST, *link, path="/v1/subjects").status == 403
    assert _asked(OWN, HOST, *link, path="/", method="POST").status == 403
    assert _asked(OWN, HOST, *link, ("origin", "null"), path="/").status == 403
    assert _asked(OWN, HOST, ("sec-fetch-site", "cross-site"), path="/").status == 403


def test_a_named_origin_may_ask_and_read_the_answer() -> None:
    asked = [HOST, ("origin", DESK), ("sec-fetch-site", "cross-site")]
    answer = _asked(SecurityHeadersMiddleware(SHARED), *asked, method="PUT")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == DESK
    assert answer.headers["vary"] == "Origin"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert _asked(OWN, *asked).status == 403


def test_a_named_origins_preflight_is_answered_without_the_application() -> None:
    asked = [HOST, ("origin", DESK), ("access-control-request-method", "PUT")]
    answer = _asked(SHARED, *asked, method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == DESK
    assert "PUT" in answer.headers["access-control-allow-methods"]
    for header in ("Authorization", "Content-Type", "Idempotency-Key"):
        assert header in answer.headers["access-control-allow-headers"]
    assert _asked(SHARED, *asked[:2], method="OPTIONS").status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "",
        "https://",
        "desk.example",
        "https://desk.example/",
        "https://a b",
        "https://Desk.example",
        "https://desk.example:",
        "https://user@desk.example",
    ],
)
def test_what_is_no_origin_cannot_be_named(origin: str) -> None:
    with pytest.raises(InputError, match="origin"):
        SameOriginMiddleware(greet, [origin])
    SameOriginMiddleware(greet, ["http://[::1]:3000", "https://desk.example", "http://127.0.0.1:1"])


def test_what_is_no_request_passes_untouched() -> None:
    seen: list[str] = []

    async def lifespan(scope: Message, receive: object, send: object) -> None:
        assert scope == {"type": "lifespan"}
        seen.append(scope["type"])

    for app in (
        RequestIdMiddleware(lifespan),
        SecurityHeadersMiddleware(lifespan),
        TrustedHostsMiddleware(lifespan, []),
        SameOriginMiddleware(lifespan),
    ):
        asyncio.run(app({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"] * 4
