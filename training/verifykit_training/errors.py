"""Errors of training."""

from __future__ import annotations

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
