"""Flatten option objects into fields, from which the options of commands are derived."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from verifykit.errors import InputError

Options = TypeVar("Options")


@dataclass(frozen=True)
class OptionField:
    """One value of an option object: its keyword, type, default, a sentence of help, and bounds."""

    name: str
    hint: Any
    default: Any
    help: str
    bounds: Mapping[str, Any]


def option_fields(
    kind: type, names: Iterable[str] | None = None, defaults: Mapping[str, Any] | None = None
) -> list[OptionField]:
    """Return the fields of an option dataclass; a nested dataclass is replaced by its fields.

    ``names`` selects and orders them, None takes all; ``defaults`` overrides defaults of the dataclass.
    """
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    found: list[OptionField] = []
    for name in fields if names is None else names:
        nested = _nested(hints[name])
        if nested is not None:
            inner = typing.get_type_hints(nested)
            found += [
                _field(each, inner[each.name] | None, None) for each in dataclasses.fields(nested)
            ]
            continue
        default = (defaults or {}).get(name, fields[name].default)
        found.append(_field(fields[name], hints[name], default))
    return found


def build_options(
    kind: Callable[..., Options], values: Mapping[str, Any], option_name: Callable[[str], str] = str
) -> Options:
    """Return an option object from flat values; missing ones keep their default.

    ``option_name`` gives the name of an option as the caller wrote it, for messages.

    Raises:
        InputError: A nested object is given in part, or the object refuses a value.
    """
    hints = typing.get_type_hints(kind)
    arguments = {name: values[name] for name in hints if name in values}
    for name, hint in hints.items():
        nested = _nested(hint)
        if nested is None:
            continue
        names = [each.name for each in dataclasses.fields(nested)]
        given = {each: values[each] for each in names if values.get(each) is not None}
        if given and len(given) < len(names):
            listed = " and ".join(map(option_name, names))
            raise InputError(f"{listed} go together: give both, or {option_name('fmr')}")
        if given:
            arguments[name] = nested(**given)
    return kind(**arguments)


def _field(field: dataclasses.Field[Any], hint: Any, default: Any) -> OptionField:
    notes = field.metadata
    return OptionField(field.name, hint, default, notes["help"], notes.get("bounds", {}))


def _nested(hint: Any) -> type | None:
    """Return the dataclass within an optional type; None without one."""
    for each in typing.get_args(hint):
        if isinstance(each, type) and dataclasses.is_dataclass(each):
            return each
    return None
