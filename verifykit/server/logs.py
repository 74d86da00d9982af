"""Logs as JSON lines: what was asked and how it went, and nothing about whom.

No picture, embedding, score, subject id, query string or token comes into a line: the path is its route's
template, and of an exception there is the class and the place, but not the message.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifykit.server.problems import request_id_of

__all__ = ["AccessLog", "JsonFormatter", "configure_logging", "route_template"]

_log = logging.getLogger("verifykit.server")


class AccessLog:
    """An ASGI middleware that writes one line for each request, when it is over.

    Args:
        app: What is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and say so."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status: int | None = None  # None in the line: the client went before there was an answer
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


def route_template(scope: Scope) -> str:
    """The path as the routes write it, such as ``/v1/subjects/{subject_id}``: never what was asked for.

    Args:
        scope: Of a request that was answered, as its route is found on the way.
    """
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return template
    return "/static/{file}" if scope["path"].startswith("/static/") else "unknown"


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, and the record's ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = list(_chain(record.exc_info[1]))
        return json.dumps(line, default=str)


def _chain(error: BaseException) -> Iterator[dict[str, Any]]:
    """An exception and what caused it; no messages, as they name subjects."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield {
            "class": type(following).__name__,
            "trace": list(_places(following.__traceback__)),
        }
        following = following.__cause__ or (
            None if following.__suppress_context__ else following.__context__
        )


def _places(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}"
        traceback = traceback.tb_next


def configure_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send verifykit's and uvicorn's records to one stream as JSON lines; again replaces the first time.

    uvicorn must be run with ``log_config=None``. Its own access log is off, for it holds paths.

    Args:
        level: From which level on.
        stream: Where to; standard error if not given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("verifykit", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("uvicorn.access").disabled = True
