"""Results as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

__all__ = ["as_json"]


def as_json(
    body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of ``application/json``, encoded in the thread that calls."""
    encoded = json.dumps(body, allow_nan=False).encode()
    return Response(encoded, status, dict(headers or {}), "application/json")
