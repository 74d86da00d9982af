"""The public surface: `__all__`, and docstrings that say what the signatures say."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import verifykit
import verifykit_export
import verifykit_training

OURS = ("verifykit", "verifykit_training", "verifykit_export")
ENTRY = re.compile(r"^ {4}(\*{0,2}\w+)(?: \([^)]*\))?:")


def _modules() -> Iterator[types.ModuleType]:
    for package in (verifykit, verifykit_training, verifykit_export):
        yield package
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                yield importlib.import_module(module.name)


def _public() -> Iterator[tuple[str, Any]]:
    """Every function, class and public method that some module's `__all__` names, once."""
    seen: set[int] = set()
    for module in _modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            is_ours = getattr(thing, "__module__", "").partition(".")[0] in OURS
            if id(thing) in seen or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            if not is_ours:
                continue
            seen.add(id(thing))
            yield f"{thing.__module__}.{thing.__qualname__}", thing
            if inspect.isclass(thing):
                yield from _methods(thing)


def _methods(thing: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(thing).items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        is_public = not name.startswith("_") or (name == "__init__" and function.__doc__)
        if inspect.isfunction(function) and is_public:
            yield f"{thing.__module__}.{function.__qualname__}", function


PUBLIC = dict(_public())
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}
DATACLASSES = {name: thing for name, thing in PUBLIC.items() if dataclasses.is_dataclass(thing)}


def _section(thing: object, title: str) -> list[str] | None:
    """Names that a Google-style section lists, or None without such a section."""
    doc = inspect.getdoc(thing) or ""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    if found is None:
        return None
    return [entry.group(1) for line in found.group(1).splitlines() if (entry := ENTRY.match(line))]


def test_all_is_the_public_surface() -> None:
    assert list(verifykit.__all__) == sorted(set(verifykit.__all__))
    for name in verifykit.__all__:
        assert getattr(verifykit, name) is not None
    present = {
        name
        for name, value in vars(verifykit).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert present - {"annotations"} <= set(verifykit.__all__)


def test_type_checkers_see_the_same_names() -> None:
    stub = ast.parse(Path(verifykit.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(map(str, seen)) == verifykit.__all__
    for name, path in seen.items():
        module, _, attribute = path.rpartition(".")
        assert getattr(verifykit, str(name)) is getattr(importlib.import_module(module), attribute)


def test_every_error_is_public() -> None:
    errors = {
        name
        for name, value in vars(verifykit.errors).items()
        if inspect.isclass(value) and not name.startswith("_")
    }
    assert "VerifyKitError" in errors
    assert errors <= set(verifykit.__all__)


@pytest.mark.parametrize("module", list(_modules()), ids=lambda module: module.__name__)
def test_every_module_has_a_docstring_and_names_that_exist(module: types.ModuleType) -> None:
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_in_the_docstring_are_those_of_the_signature(name: str) -> None:
    function: Callable[..., Any] = FUNCTIONS[name]
    documented = _section(function, "Args")
    parameters = inspect.signature(function).parameters.values()
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    real = [stars.get(parameter.kind, "") + parameter.name for parameter in parameters]
    if "." in function.__qualname__ and real[:1] in (["self"], ["cls"]):
        del real[0]
    assert inspect.getdoc(function), f"{name} has no docstring"
    if documented is not None:
        assert documented == real
    elif len(real) > 1 and _is_reachable(function):
        # A gallery's method may refer to the protocol's, where the arguments are explained.
        assert ":meth:`" in (function.__doc__ or ""), f"{name} documents none of {real}"


def _is_reachable(function: Callable[..., Any]) -> bool:
    """Whether an application reaches it from `import verifykit`."""
    return function.__qualname__.partition(".")[0] in verifykit.__all__


@pytest.mark.parametrize("name", DATACLASSES)
def test_attributes_in_the_docstring_are_the_fields(name: str) -> None:
    documented = _section(DATACLASSES[name], "Attributes")
    if documented is not None:
        fields = [
            f.name for f in dataclasses.fields(DATACLASSES[name]) if not f.name.startswith("_")
        ]
        assert documented == fields
