"""Subject ids in paths: one segment, percent-encoded, whatever it holds."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["EncodedSubjects"]

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
