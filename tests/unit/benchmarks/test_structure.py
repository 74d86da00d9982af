from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from benchmarks.source_sizes import sizes, sources
from benchmarks.structure import Recorder, record

FIRST = '''"""A module."""

from os import (
    path,
    sep,
)

__all__ = ["first", "second"]


@staticmethod
def first():
    """Return nothing.

    In several lines.
    """
    x = 1

    return x


class Something:
    def method(self):
        def inner():
            pass
        return inner
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Today's folder of the runtime, and one of a package in a folder of its own."""
    for name, text in (
        ("verifykit/first.py", FIRST),
        ("training/verifykit_training/second.py", "import os\n"),
        ("tests/test_first.py", "import os\n"),
        ("verifykit/notes.txt", "import os\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_sources_of_the_product_are_counted(checkout: Path) -> None:
    found = sizes(sources(checkout), checkout)
    assert (found.files, found.lines) == (2, len(FIRST.splitlines()) + 1)
    assert (found.exported, found.import_lines) == (2, 5)
    assert found.import_share == pytest.approx(5 / found.lines)


def test_functions_are_measured_without_decorator_and_docstring(checkout: Path) -> None:
    found = sizes(sources(checkout), checkout)
    lines = {each.name: (each.file, each.lines) for each in found.functions}
    assert lines == {
        "first": ("verifykit/first.py", 3),
        "Something.method": ("verifykit/first.py", 3),
        "Something.method.inner": ("verifykit/first.py", 1),
    }


def _function(path: Path, text: str, **names: object) -> Callable[[], object]:
    """The function `call` of a module whose file has this path; the file need not exist."""
    module = SimpleNamespace()
    exec(compile(text, str(path), "exec"), names, vars(module))
    function: Callable[[], object] = module.call
    return function


def test_calls_that_cross_files_are_counted(tmp_path: Path) -> None:
    inner = _function(tmp_path / "package/inner.py", "def call():\n    pass\n")
    between = _function(tmp_path / "other.py", "def call():\n    inner()\n", inner=inner)
    text = "def own():\n    pass\ndef call():\n    own()\n    between()\n    between()\n"
    outer = _function(tmp_path / "package/outer.py", text, between=between)
    outer.__globals__["own"] = _function(tmp_path / "package/outer.py", "def call():\n    pass\n")
    found = record(Recorder(tmp_path / "package"), outer)
    assert found.files == {"outer.py", "inner.py"}
    # outer, own and inner twice; to inner and back, twice; the warm-up is not counted.
    assert (found.calls, found.moves, found.depth) == (4, 4, 2)


def test_calls_in_other_threads_are_counted(tmp_path: Path) -> None:
    inner = _function(tmp_path / "package/inner.py", "def call():\n    pass\n")

    def in_a_thread() -> None:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    found = record(Recorder(tmp_path / "package"), in_a_thread)
    assert (found.files, found.calls, found.moves, found.depth) == ({"inner.py"}, 1, 0, 1)
