"""Check options against the signature of the function that takes them, names and types."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from verifykit.errors import InputError, shown

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


def option_types(takes: Callable[..., Any], own: Collection[str]) -> dict[str, Any]:
    """Return the options of a function by name, each with its type; ``own`` are not options."""
    function = takes.__init__ if inspect.isclass(takes) else takes
    hints = typing.get_type_hints(function)
    return {
        name: hints.get(name, Any)
        for name in inspect.signature(takes).parameters
        if name not in own
    }


def hint(name: str, known: Collection[str]) -> str:
    """Return what to say about an unknown name: the known one nearest to it, else all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"did you mean {shown(close[0])}?" if close else f"known are {', '.join(known) or 'none'}"
    )


def check_options(what: str, options: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise `InputError` for an option that is unknown or of another type than its parameter's."""
    for name, value in options.items():
        if name not in types:
            raise InputError(f"{what} has no option {shown(name)}; {hint(name, sorted(types))}")
        try:
            TypeAdapter(types[name], config=_STRICT).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise InputError(f"{what}: option {name} is {shown(value)}: {reason}") from None
