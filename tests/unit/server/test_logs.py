"""Log lines: JSON, one a request, and nothing in them about whom."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime, timezone
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.unit.server.asgi_calls import a_scope, broken, call, greet
from verifykit.server.middleware import AccessLogMiddleware, RequestIdMiddleware
from verifykit.server.observability import JsonFormatter, configure_logging

NAMES = ("verifykit", "uvicorn", "uvicorn.access")


@pytest.fixture
def stream() -> io.StringIO:
    """Where logs go."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    return stream


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _application() -> ASGIApp:
    router = APIRouter(prefix="/v1/subjects")

    @router.put("/{subject_id}")
    async def enrol(subject_id: str, request: Request) -> str:
        request.state.key_id = "0123"
        return str(len(await request.body()))

    @router.post("/{subject_id}/verify")
    def verify(subject_id: str) -> str:
        raise LookupError(f"{subject_id} is not here")

    app = FastAPI()
    app.include_router(router)
    app.mount("/static", StaticFiles(directory="."), name="static")
    return RequestIdMiddleware(AccessLogMiddleware(app))


def test_a_request_is_one_line_with_its_template_and_its_key(stream: io.StringIO) -> None:
    scope = a_scope(
        "PUT",
        "/v1/subjects/alice.secret",
        [("host", "localhost"), ("x-request-id", "r1"), ("authorization", "Bearer vk_0123_hidden")],
        query_string=b"metadata=hidden",
    )
    answer = call(_application(), scope, [b"pixels", b"hidden"])
    assert answer.status == 200
    (line,) = _lines(stream)
    duration_ms = line.pop("duration_ms")
    moment = datetime.fromisoformat(line.pop("time"))
    assert 0 < duration_ms < 60_000
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "verifykit.server",
        "message": "request",
        "request_id": "r1",
        "method": "PUT",
        "route": "/v1/subjects/{subject_id}",
        "status": 200,
        "key_id": "0123",
        "request_bytes": 12,
        "response_bytes": len(answer.body),
    }
    for secret in ("alice", "hidden", "pixels"):
        assert secret not in stream.getvalue()


def test_what_raises_is_an_error_with_its_places_and_without_its_message(
    stream: io.StringIO,
) -> None:
    with pytest.raises(LookupError):
        call(_application(), a_scope("POST", "/v1/subjects/alice.secret/verify"))
    (line,) = _lines(stream)
    assert (line["level"], line["status"], line["key_id"]) == ("error", 500, None)
    assert line["route"] == "/v1/subjects/{subject_id}/verify"
    (exception,) = line["exception"]
    assert exception["class"] == "LookupError"
    assert exception["trace"][-1].endswith(" verify")
    assert "test_logs.py" in exception["trace"][-1]
    assert "alice" not in stream.getvalue()


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/alice.secret", "unknown"),
        ("/v1/subjects", "unknown"),
        ("/static/alice.secret", "/static/{file}"),
    ],
)
def test_a_path_that_nobody_routes_is_not_written_down(
    stream: io.StringIO, path: str, route: str
) -> None:
    assert call(_application(), a_scope(path=path)).status == 404
    (line,) = _lines(stream)
    assert (line["route"], line["status"], line["level"]) == (route, 404, "info")
    assert "alice" not in stream.getvalue()


def test_who_goes_before_the_answer_has_no_status(stream: io.StringIO) -> None:
    async def gone(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(ValueError, match="not enough values"):  # the call expects an answer
        call(AccessLogMiddleware(gone), a_scope())
    assert _lines(stream)[0]["status"] is None


def _formatted(error: BaseException) -> dict[str, Any]:
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "", 1, "failed", (), info)
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def _raised_from(cause: Exception | None) -> BaseException:
    def fail() -> None:
        try:
            {}["alice"]
        except KeyError:
            raise OSError("alice") from cause

    with pytest.raises(OSError, match="alice") as caught:
        fail()
    return caught.value


def test_causes_are_named_and_those_that_were_hidden_are_not() -> None:
    caught = [_raised_from(cause) for cause in (ValueError("alice"), None)]
    assert [one["class"] for one in _formatted(caught[0])["exception"]] == ["OSError", "ValueError"]
    assert [one["class"] for one in _formatted(caught[1])["exception"]] == ["OSError"]
    caught[0].__cause__ = caught[1]
    caught[1].__cause__ = caught[0]  # a ring ends
    assert len(_formatted(caught[0])["exception"]) == 2
    assert "alice" not in json.dumps([_formatted(error) for error in caught])


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_whatever_is_logged_is_one_line_of_json(
    name: str, message: str, fields: dict[str, Any]
) -> None:
    record = logging.LogRecord(name, logging.INFO, "", 1, "%s", (message,), None)
    record.fields = fields
    text = JsonFormatter().format(record)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    expected = {"level": "info", "logger": name, "message": message, **fields}
    assert json.loads(text).items() >= expected.items()


def test_uvicorns_records_are_lines_as_well_and_its_access_log_is_off(stream: io.StringIO) -> None:
    configure_logging(stream=stream)  # again: no line comes twice
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("GET /v1/subjects/alice")
    logging.getLogger("verifykit.server").debug("hidden")
    with pytest.raises(LookupError):
        call(AccessLogMiddleware(broken))
    call(AccessLogMiddleware(greet))
    assert [line["message"] for line in _lines(stream)] == [
        "Started server process [7]",
        "request",
        "request",
    ]
