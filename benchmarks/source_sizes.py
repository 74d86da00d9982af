"""Files, lines, exported names, imports and functions of the product, counted without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# The packages are in these folders, or in folders of their own below them.
FOLDERS = ("verifykit", "training", "export")
LARGE = 60


@dataclass(frozen=True)
class Function:
    """A function and its lines of code, without decorators, signature and docstring."""

    file: str
    name: str
    lines: int


@dataclass
class Sizes:
    """What the sources of a tree add up to."""

    files: int = 0
    lines: int = 0
    exported: int = 0
    import_lines: int = 0
    functions: list[Function] = field(default_factory=list)

    @property
    def import_share(self) -> float:
        """Lines of import statements over all lines."""
        return self.import_lines / self.lines if self.lines else 0.0


def sources(checkout: Path) -> list[Path]:
    """Return the Python files of the product."""
    return sorted(path for folder in FOLDERS for path in (checkout / folder).rglob("*.py"))


def sizes(paths: Iterable[Path], checkout: Path) -> Sizes:
    """Count files, lines, exported names and import lines; measure every function."""
    found = Sizes()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        found.files += 1
        found.lines += len(text.splitlines())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.import_lines += (node.end_lineno or node.lineno) - node.lineno + 1
            elif isinstance(node, ast.Assign) and _is_all(node.targets):
                found.exported += len(getattr(node.value, "elts", ()))
        file = path.relative_to(checkout).as_posix()
        found.functions += [Function(file, *each) for each in functions(tree)]
    return found


def _is_all(targets: Sequence[ast.expr]) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets)


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield every function with its lines of code, without decorators, signature and docstring."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}."
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name[:-1], _body_lines(node)
        yield from functions(node, name)


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    starts = [body[0].lineno]
    if isinstance(body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        starts += [decorator.lineno for decorator in body[0].decorator_list]
    first = min(starts)
    return (function.end_lineno or first) - first + 1
