"""Results of commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

__all__ = ["Invoke", "body"]

Invoke = Callable[..., Result]


def body(result: Result) -> dict[str, Any]:
    """Return the one JSON object on standard output."""
    (line,) = result.stdout.splitlines()
    loaded = json.loads(line)
    assert isinstance(loaded, dict)
    return loaded
