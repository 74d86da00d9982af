"""What training raises on purpose, beside the runtime's own errors."""

from __future__ import annotations

from verifykit.errors import InputError, VerifyKitError


class TrainingError(VerifyKitError):
    """A run cannot begin, go on or be continued; the message says why and what to do."""


class ConfigError(TrainingError, ValueError):
    """The configuration holds an unknown key or a value that is not allowed."""


class DataError(InputError):
    """The training data are not laid out as a folder for each subject or as a CSV that says so."""
