"""How a verb ends: its result on standard output, or its error on standard error, and its status."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import typer

from verifykit.errors import AcquisitionError, VerifyKitError

__all__ = ["ERROR", "INTERRUPTED", "MATCH", "NO_MATCH", "emit", "outcome"]

MATCH = 0
NO_MATCH = 1
ERROR = 2
INTERRUPTED = 130


def emit(body: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a verb's result.

    Args:
        body: What ``--json`` prints, as one object on one line.
        text: What people read.
        as_json: Which of the two.
    """
    typer.echo(json.dumps(body, allow_nan=False) if as_json else text)


@contextmanager
def outcome(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Run a verb's body: whatever goes wrong becomes one message and an exit status, no traceback.

    Args:
        as_json: Also print ``{"error": ...}`` on standard output, so that it always holds an object.
        debug: Show the traceback before the message.

    Raises:
        typer.Exit: With the status.
    """
    try:
        yield
        sys.stdout.flush()
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        typer.echo("verifykit: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    # The last line of defence: a traceback is no message.
    except Exception as error:  # noqa: BLE001
        if debug:
            traceback.print_exc()
        _report(error, as_json=as_json)
        raise typer.Exit(ERROR) from None


def _report(error: Exception, *, as_json: bool) -> None:
    name, reason = type(error).__name__, getattr(error, "reason", None)
    code = f" ({reason})" if isinstance(error, AcquisitionError) else ""
    typer.echo(f"verifykit: {name}{code}: {_message(error)}", err=True)
    body = {"name": name, "reason": reason if code else None, "message": _message(error)}
    if as_json:
        # Not a second error, when the first one was that nobody reads or that the disk is full.
        with suppress(OSError):
            typer.echo(json.dumps({"error": body}))


def _message(error: Exception) -> str:
    if isinstance(error, VerifyKitError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    return f"{error}; this was not expected, --debug shows where it happened"
