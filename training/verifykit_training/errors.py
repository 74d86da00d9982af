"""Errors of training."""

from __future__ import annotations

from verifykit.errors import InputError, VerifyKitError


class TrainingError(VerifyKitError):
    """A run cannot start or continue; the message says why and what to do."""


class ConfigError(TrainingError, ValueError):
    """The configuration holds an unknown key or a value that is not allowed."""


class DataError(InputError):
    """The training data are not laid out as a folder for each subject or as a CSV that says so."""
