"""The commands of a program as text: what `--help` says, whatever the versions of typer and rich."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union

import pytest
import typer
from typer.main import get_command


def application(main: Any) -> typer.Typer:
    """Return the application that a program's `main` runs."""
    found: list[typer.Typer] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["program"])
        patch.setattr(typer.Typer, "__call__", lambda self, *_, **__: found.append(self))
        main()
    return found[0]


def describe(program: str, main: Any) -> Iterator[str]:
    """Yield the lines of every command and its parameters."""
    yield from _lines(program, get_command(application(main)))


def _lines(path: str, command: Any) -> Iterator[str]:
    yield path
    for line in inspect.cleandoc(command.help or "").splitlines():
        yield f"    {line}".rstrip()
    function = inspect.unwrap(command.callback) if command.callback else None
    hints = typing.get_type_hints(function) if function else {}
    for parameter in command.params:
        if parameter.name != "help":
            yield from _parameter(parameter, hints.get(parameter.name))
    yield ""
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _lines(f"{path} {name}", inner)


def _parameter(parameter: Any, hint: Any) -> Iterator[str]:
    names = "|".join([*parameter.opts, *parameter.secondary_opts])
    notes = [f"{parameter.param_type_name} {names}", f"type={_type(hint)}"]
    for bound in ("min", "max"):
        limit = getattr(parameter, bound, getattr(getattr(parameter, "type", None), bound, None))
        if limit is not None:
            notes.append(f"{bound}={limit}")
    default = _default(parameter.default)
    notes += [f"default={default}"] if default else []
    notes += [
        word
        for word, holds in (
            ("required", parameter.required),
            ("multiple", getattr(parameter, "multiple", False) or parameter.nargs == -1),
            ("hidden", getattr(parameter, "hidden", False)),
        )
        if holds
    ]
    notes += [f"envvar={parameter.envvar}"] if parameter.envvar else []
    notes += [f"metavar={parameter.metavar}"] if parameter.metavar else []
    yield "  " + " ".join(notes)
    yield f"      {' '.join((getattr(parameter, 'help', None) or '').split())}".rstrip()


def _default(value: Any) -> str:
    """Return the default, empty without one: click has had None, () and a sentinel for that."""
    if (
        value is None
        or value == ()
        or value == []
        or type(value).__name__ in ("Sentinel", "object")
    ):
        return ""
    return f"<{value.__name__}>" if callable(value) else str(value)


def _type(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return "|".join(_type(each) for each in inner if each is not type(None))
    if origin is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    if origin is not None:
        return f"{origin.__name__}[{','.join(map(_type, inner))}]"
    return getattr(hint, "__name__", str(hint))
