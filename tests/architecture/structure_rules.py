"""Rules about sources: each takes files, and returns how often each offends, by ``path what``."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.source_sizes import LARGE, functions

Offences = dict[str, int]
Files = Iterable[Path]

PRODUCT = "verifykit|verifykit_training|verifykit_export|training|export"
_PRODUCT_NAME = re.compile(rf"(?:{PRODUCT})(?:\.\w+)+")
_PRIVATE = re.compile(r"_(?!_)\w*[a-zA-Z]\w*")
_BY_NAME = frozenset(("setattr", "getattr", "delattr", "hasattr", "object"))


def long_functions(files: Files, root: Path) -> Offences:
    """Return the functions of more than 60 lines, not counting decorators, signature and docstring."""
    found: Offences = {}
    for name, tree in _parsed(files, root):
        for function, lines in functions(tree):
            if lines > LARGE:
                key = f"{name} {function}"
                found[key] = max(lines, found.get(key, 0))
    return found


def sqlite_connections(files: Files, root: Path) -> Offences:
    """Return uses of `sqlite3.connect` outside ``verifykit/_sqlite.py``."""
    return _counted(files, root, "verifykit/_sqlite.py", _uses({("sqlite3", "connect")}))


def file_writes(files: Files, root: Path) -> Offences:
    """Return temporary and replaced files outside ``verifykit/_files.py``."""
    uses = _uses({("tempfile", "mkstemp"), ("tempfile", "NamedTemporaryFile"), ("os", "replace")})

    def writes(tree: ast.AST) -> Iterator[str]:
        yield from uses(tree)
        for node in ast.walk(tree):
            # `Path.replace` has one argument, `str.replace` two, `dataclasses.replace` keywords.
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "replace"
                and len(node.args) == 1
                and not node.keywords
            ):
                yield "Path.replace"

    return _counted(files, root, "verifykit/_files.py", writes)


def gallery_checks(files: Files, root: Path) -> Offences:
    """Return checks for the class of a gallery outside ``verifykit/gallery/``."""
    return _counted(files, root, "verifykit/gallery/", _class_checks(gallery_classes(files, root)))


def gallery_classes(files: Files, root: Path) -> set[str]:
    """Return the names of the classes that are galleries, without the protocols."""
    return {
        node.name
        for _, tree in _parsed(files, root)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and node.name.endswith("Gallery")
        and not any("Protocol" in _names(base) for base in node.bases)
    }


def crop_checks(files: Files, root: Path) -> Offences:
    """Return checks for the class of a crop specification outside ``verifykit/modalities/``."""
    return _counted(files, root, "verifykit/modalities/", _class_checks(crop_classes(files, root)))


def crop_classes(files: Files, root: Path) -> set[str]:
    """Return the names of the crop specifications in ``verifykit/spec/``, and of their union."""
    return {"CropSpec"} | {
        node.name
        for name, tree in _parsed(files, root)
        if name.startswith("verifykit/spec/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Crop")
    }


def private_names(tests: Files, product: Files, root: Path) -> Offences:
    """Return the private names of the product that tests use and do not define themselves."""
    private = {name for _, tree in _parsed(product, root) for name in _defined(tree)}
    modules = {part for path in product for part in (path.stem, path.parent.name)}
    found: Counter[str] = Counter()
    for name, tree in _parsed(tests, root):
        used = Counter(each for each in _private_imports(tree) if each not in modules)
        named = private - _defined(tree) - modules
        used.update(each for each in _private_uses(tree) if each in named)
        found.update({f"{name} {each}": count for each, count in used.items()})
    return dict(found)


def _defined(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines: functions, classes, variables and attributes."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr if _names(node.value) <= {"self", "cls"} else "")
    return {name for name in names if _PRIVATE.fullmatch(name)}


def _private_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and re.match(rf"({PRODUCT})\b", node.module or ""):
            yield from (each.name for each in node.names if _PRIVATE.fullmatch(each.name))


def _private_uses(tree: ast.AST) -> Iterator[str]:
    """Yield attributes, and the names in strings that are looked up or replaced."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _PRODUCT_NAME.fullmatch(node.value):
                yield from node.value.split(".")[1:]
        elif isinstance(node, ast.Call) and _names(node.func) & _BY_NAME:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def _uses(functions: set[tuple[str, str]]) -> Callable[[ast.AST], Iterator[str]]:
    """Find functions of modules, as `module.function` or imported from the module."""

    def uses(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            pairs: list[tuple[str, str]] = []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                pairs = [(node.value.id, node.attr)]
            elif isinstance(node, ast.ImportFrom):
                pairs = [(node.module or "", each.name) for each in node.names]
            yield from (".".join(pair) for pair in pairs if pair in functions)

    return uses


def _class_checks(classes: set[str]) -> Callable[[ast.AST], Iterator[str]]:
    """Find `isinstance`, `issubclass`, `type(…) is` and `case` with one of the classes."""

    def checks(tree: ast.AST) -> Iterator[str]:
        groups = {
            target.id: _names(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value, ast.Tuple | ast.BinOp)
        }
        for node in ast.walk(tree):
            asked: list[ast.expr] = []
            if isinstance(node, ast.Call) and _names(node.func) & {"isinstance", "issubclass"}:
                asked = node.args[1:]
            elif isinstance(node, ast.Compare) and _names(node.left) >= {"type"}:
                asked = node.comparators
            elif isinstance(node, ast.MatchClass):
                asked = [node.cls]
            for name in {name for each in asked for name in _names(each)}:
                yield from sorted({name, *groups.get(name, ())} & classes)

    return checks


def _names(node: ast.AST) -> set[str]:
    """Return every name within, and the last part of dotted ones."""
    return {
        each.id if isinstance(each, ast.Name) else each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Name | ast.Attribute)
    }


def _counted(
    files: Files, root: Path, home: str, find: Callable[[ast.AST], Iterator[str]]
) -> Offences:
    found: Counter[str] = Counter()
    for name, tree in _parsed(files, root):
        if not name.startswith(home):
            found.update(f"{name} {what}" for what in find(tree))
    return dict(found)


def _parsed(files: Files, root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in files:
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
