"""Errors in the use of commands, without the long arguments that they quote."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from verifykit.errors import shortened


class Commands(TyperGroup):
    """A group of commands whose messages about wrong arguments show at most 80 characters of one."""

    _has_long_arguments = False

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Parse the arguments of the group."""
        self._has_long_arguments = any(argument != shortened(argument) for argument in args)
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except Exception as error:
            self._shorten(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command, and run it."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            self._shorten(error)
            raise

    def _shorten(self, error: Exception) -> None:
        # By its method: Typer has its own copy of Click in some versions.
        if self._has_long_arguments and hasattr(error, "format_message"):
            error.message = shortened(error.message)  # type: ignore[attr-defined]
