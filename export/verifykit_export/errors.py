"""Errors of export."""

from __future__ import annotations

from verifykit.errors import VerifyKitError


class ExportError(VerifyKitError):
    """A model was not written: it does not do what the network it comes from does, or too much worse."""
