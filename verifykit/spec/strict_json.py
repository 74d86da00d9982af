"""Convert frozen dataclasses to JSON and back, strictly: every key known, present and of its type."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from verifykit.errors import ModelContractError, shortened, shown

Part = TypeVar("Part")


def plain(value: Any, hint: Any = None) -> Any:
    """Return dataclasses as dicts (with their ``kind``), tuples as lists, floats always as floats.

    ``hint`` is the declared type: ``scale=1`` and ``scale=1.0`` must give the same bytes.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        names = [f.name for f in dataclasses.fields(value) if f.init]
        body = {name: plain(getattr(value, name), hints[name]) for name in names}
        kind = getattr(value, "kind", None)
        return {"kind": kind, **body} if kind else body
    if isinstance(value, tuple):
        inner = typing.get_args(hint) or (None,)
        return [plain(item, inner[0]) for item in value]
    if isinstance(value, int) and float in (hint, *typing.get_args(hint)):
        return float(value)
    return value


def canonical(body: Mapping[str, Any]) -> bytes:
    """Return JSON with sorted keys, no spaces, shortest floats: equal bodies give equal bytes."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def build(cls: type[Part], body: Any, where: str) -> Part:
    """Return a dataclass from parsed JSON; a base class with ``kinds`` is resolved by the body's ``kind``.

    Raises:
        ModelContractError: A key is unknown, missing or of the wrong type; the message names it.
    """
    if not isinstance(body, dict):
        raise ModelContractError(f"{where}: must be a JSON object, got {type(body).__name__}")
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    body = dict(body)
    if hasattr(cls, "kind"):
        body.pop("kind", None)
    unknown = sorted(set(body) - set(fields))
    if unknown:
        raise ModelContractError(f"{where}: unknown key(s) {shortened(', '.join(unknown))}")
    missing = sorted(set(fields) - set(body))
    if missing:
        raise ModelContractError(f"{where}: missing key(s) {', '.join(missing)}")
    return cls(**{name: _value(hints[name], body[name], f"{where}.{name}") for name in fields})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    # A base class with subclasses of different kinds lists them in `kinds`.
    kinds = getattr(hint, "kinds", None)
    if kinds:
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind not in kinds:
            raise ModelContractError(
                f"{where}: unknown kind {shown(kind)}; known: {', '.join(kinds)}"
            )
        return build(kinds[kind], value, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where)
    if origin is Literal:
        valid = value in arguments
    elif origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    elif origin is tuple:
        if isinstance(value, list):
            inner = arguments if arguments[-1] is not Ellipsis else (arguments[0],) * len(value)
            if len(inner) == len(value):
                pairs = enumerate(zip(inner, value, strict=True))
                return tuple(_value(kind, item, f"{where}[{i}]") for i, (kind, item) in pairs)
        valid = False
    elif hint is float:
        valid = isinstance(value, (int, float)) and not isinstance(value, bool)
        value = float(value) if valid else value
    else:
        valid = type(value) is hint
    if not valid:
        raise ModelContractError(f"{where}: {shown(value)} is not a valid {hint}")
    return value
