"""Errors of training."""

from __future__ import annotations

import sys
import warnings

from verifykit.errors import InputError, VerifyKitError, shortened


class TrainingError(VerifyKitError):
    """A run cannot start or continue; the message says why and what to do."""


class ConfigError(TrainingError, ValueError):
    """The configuration holds an unknown key or a value that is not allowed."""


class DataError(InputError):
    """The training data are not laid out as a folder for each subject or as a CSV that says so."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, shortened, or the name of its kind."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0].rstrip(". ")) if lines else type(error).__name__


def system_error_text(error: OSError) -> str:
    """Return what a command prints of an error of the system: the shortened path, and the reason."""
    where = f"{shortened(error.filename)}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def show_warnings_in_one_line() -> None:
    """Print warnings of libraries on standard error without the path of their source."""
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **_further: object) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)  # noqa: T201
