"""Option objects as flat fields: what the command line and the service derive their options from."""

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
    """One value of an option object.

    Attributes:
        name: Keyword of the object, or of the object nested in it.
        hint: Its type.
        default: Its default value.
        help: What it means, in one sentence.
        bounds: Limits of a number: ``gt``, ``ge``, ``lt``, ``le``.
    """

    name: str
    hint: Any
    default: Any
    help: str
    bounds: Mapping[str, Any]


def option_fields(
    kind: type, names: Iterable[str] | None = None, defaults: Mapping[str, Any] | None = None
) -> list[OptionField]:
    """Return the fields of an option dataclass, those of a nested one in its place.

    Args:
        kind: A dataclass whose fields have a default and the metadata ``help``.
        names: Which of them, in this order; None takes all.
        defaults: Other defaults than the dataclass has.
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
    kind: Callable[..., Options], values: Mapping[str, Any], spelled: Callable[[str], str] = str
) -> Options:
    """Return an option object from flat values; those that are missing keep their default.

    Args:
        kind: The dataclass.
        values: Values by the names of :func:`option_fields`.
        spelled: How an option is written where it was given, for messages.

    Raises:
        InputError: One of the values of a nested object without the others, or a value that the object
            refuses.
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
            listed = " and ".join(map(spelled, names))
            raise InputError(f"{listed} go together: give both, or {spelled('fmr')}")
        if given:
            arguments[name] = nested(**given)
    return kind(**arguments)


def _field(field: dataclasses.Field[Any], hint: Any, default: Any) -> OptionField:
    notes = field.metadata
    return OptionField(field.name, hint, default, notes["help"], notes.get("bounds", {}))


def _nested(hint: Any) -> type | None:
    for each in typing.get_args(hint):
        if isinstance(each, type) and dataclasses.is_dataclass(each):
            return each
    return None
