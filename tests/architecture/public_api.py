"""The public names of `verifykit` as text, the same whichever module and Python version they come from."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

PACKAGE = "verifykit"
MEANINGFUL = frozenset(
    (
        "__bool__",
        "__call__",
        "__contains__",
        "__enter__",
        "__exit__",
        "__getitem__",
        "__iter__",
        "__len__",
    )
)

_SET_BY_INIT = object()


def describe(module: types.ModuleType) -> Iterator[str]:
    """Yield the lines of every name in `__all__`."""
    for name in sorted(module.__all__):
        thing = getattr(module, name)
        if inspect.isclass(thing):
            yield f"{_kind(thing)} {name}{_bases(thing)}"
            yield from (f"    {line}" for line in _class_lines(thing))
        elif inspect.isfunction(thing):
            yield f"function {name}{signature(thing)}"
        else:
            value = "" if name == "__version__" else f" = {thing!r}"
            yield f"{type(thing).__name__} {name}{value}"


def signature(function: Any) -> str:
    """Return the signature with the annotations as the source has them."""
    found = inspect.signature(function)
    parts: list[str] = []
    kinds = [parameter.kind for parameter in found.parameters.values()]
    for index, parameter in enumerate(found.parameters.values()):
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not (
            set(kinds[:index]) & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.KEYWORD_ONLY}
        ):
            parts.append("*")
        parts.append(_parameter(parameter))
        is_last_positional_only = parameter.kind is inspect.Parameter.POSITIONAL_ONLY and kinds[
            index + 1 : index + 2
        ] != [inspect.Parameter.POSITIONAL_ONLY]
        if is_last_positional_only:
            parts.append("/")
    return f"({', '.join(parts)}) -> {_annotation(found.return_annotation) or 'None'}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    text = stars.get(parameter.kind, "") + parameter.name
    annotation = _annotation(parameter.annotation)
    if annotation:
        text += f": {annotation}"
    if parameter.default is not inspect.Parameter.empty:
        text += f" = {_default(parameter.default)}"
    return text


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation)


def _default(value: Any) -> str:
    text = repr(value)
    return f"<{type(value).__name__}>" if " at 0x" in text else text


def _kind(thing: type) -> str:
    if issubclass(thing, BaseException):
        return "error"
    if getattr(thing, "_is_protocol", False):
        return "protocol"
    if dataclasses.is_dataclass(thing):
        options = thing.__dataclass_params__  # type: ignore[attr-defined]
        return "frozen dataclass" if options.frozen else "dataclass"
    return "class"


def _bases(thing: type) -> str:
    """Return the bases of an error; those of another class are no part of the API."""
    if not issubclass(thing, BaseException):
        return ""
    return f"({', '.join(base.__name__ for base in thing.__bases__)})"


def _own(thing: type) -> list[type]:
    """Return the classes of this package that `thing` is made of, the most general first."""
    return [each for each in reversed(thing.__mro__) if each.__module__.split(".")[0] == PACKAGE]


def _class_lines(thing: type) -> Iterator[str]:
    members: dict[str, Any] = {}
    annotations: dict[str, Any] = {}
    for each in _own(thing):
        members |= vars(each)
        annotations |= inspect.get_annotations(each)
        for name in _set_by_init(each):
            members.setdefault(name, _SET_BY_INIT)
    if inspect.isfunction(members.get("__init__")) and not getattr(thing, "_is_protocol", False):
        yield f"__init__{signature(members['__init__'])}"
    fields = (
        {field.name for field in dataclasses.fields(thing)}
        if dataclasses.is_dataclass(thing)
        else set()
    )
    for name in sorted((members.keys() | annotations.keys()) - fields):
        if name in MEANINGFUL or not name.startswith("_"):
            yield _member(name, members, annotations)


def _set_by_init(thing: type) -> set[str]:
    """Return the names of the attributes that the class's own `__init__` sets."""
    function = vars(thing).get("__init__")
    if function is None or "<" in function.__code__.co_filename:  # a dataclass's is in no file
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def _member(name: str, members: dict[str, Any], annotations: dict[str, Any]) -> str:
    member = members.get(name)
    if isinstance(member, property | functools.cached_property):
        getter: Any = member.fget if isinstance(member, property) else member.func
        returned = inspect.signature(getter).return_annotation
        return f"property {name}: {_annotation(returned)}"
    if isinstance(member, classmethod | staticmethod):
        return f"{type(member).__name__} {name}{signature(member.__func__)}"
    if inspect.isfunction(member):
        return f"method {name}{signature(member)}"
    annotation = f": {annotations[name]}" if name in annotations else ""
    is_constant = name in members and member is not _SET_BY_INIT
    value = f" = {_default(member)}" if is_constant else ""
    return f"attribute {name}{annotation}{value}"
