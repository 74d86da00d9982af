"""Output of commands: results on standard output, errors on standard error, and the exit status.

Also a progress bar on standard error, if that is a terminal.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import typer

from verifykit.errors import AcquisitionError, VerifyKitError, shortened, shown

MATCH = 0
NO_MATCH = 1
ERROR = 2
INCOMPLETE = 3
"""Done, but images, videos, pages or frames that were given were not looked at; the summary names them."""
INTERRUPTED = 130


def emit(body: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a command's result: ``body`` as one JSON object on one line, or ``text``."""
    typer.echo(json.dumps(body, allow_nan=False) if as_json else text)


def require_complete(overlooked: int) -> None:
    """End with status 3 if images, videos, pages or frames were not looked at."""
    if overlooked:
        typer.echo(
            f"verifykit: done, but not looked at: {overlooked} image(s), video(s) or part(s) of them; the "
            "summary names them",
            err=True,
        )
        raise typer.Exit(INCOMPLETE)


@contextmanager
def outcome(
    *, as_json: bool, debug: bool, options: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a command's body: turn any error into one message and an exit status, without a traceback.

    With ``as_json`` it also prints ``{"error": ...}`` on standard output, which thus always has an object;
    with ``debug`` the traceback precedes the message. ``options`` gives the option of each keyword that a
    message of the library may advise.

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
    # The last resort: a traceback is not a message.
    except Exception as error:  # noqa: BLE001
        if debug:
            traceback.print_exc()
        _report(error, options or {}, as_json=as_json)
        raise typer.Exit(ERROR) from None


def _report(error: Exception, options: Mapping[str, str], *, as_json: bool) -> None:
    name, reason = type(error).__name__, getattr(error, "reason", None)
    code = f" ({reason})" if isinstance(error, AcquisitionError) else ""
    message = _message(error)
    if isinstance(error, VerifyKitError):
        message = as_options(message, options)
    typer.echo(f"verifykit: {name}{code}: {message}", err=True)
    body = {"name": name, "reason": reason if code else None, "message": message}
    if as_json:
        # No second error if the first one was a closed pipe or a full disk.
        with suppress(OSError):
            typer.echo(json.dumps({"error": body}))


# A keyword with its value or values; not within a quoted or longer text, which is an input.
_KEYWORD = re.compile(r"(?<![\w'\"/.=-])([a-z_]+)=('\w*'(?: or '\w*')*|[\w.+-]*)")


def as_options(message: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with ``quality='warn'`` written as ``--quality warn``."""

    def written(found: re.Match[str]) -> str:
        if found[1] not in options:
            return found[0]
        value = "" if found[2] in {"True", "False"} else found[2].replace("'", "")
        return f"{options[found[1]]} {value}".rstrip()

    return _KEYWORD.sub(written, message)


def _message(error: Exception) -> str:
    if isinstance(error, VerifyKitError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {shown(error.filename)}" if error.filename else error.strerror
    return f"{shortened(error)}; this was not expected, --debug shows where it happened"


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many images are done, how fast, and the remaining time.

    Yields a function that takes the number of images done and the number of all.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if (
        not console.is_terminal
    ):  # rich before 14 prints an empty line there, even when it is disabled
        yield lambda *_: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, rate="")

        def on_image(done: int, count: int) -> None:
            speed = bar.tasks[task].speed  # None until there are two readings
            rate = f"{speed:.1f}/s" if speed else ""
            bar.update(task, completed=done, total=count, rate=rate)

        yield on_image
