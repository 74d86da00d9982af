"""The runtime stands alone, imports go one way, and `import verifykit` stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
RUNTIME = CHECKOUT / "verifykit"

# What may be imported from outside, and in which rooms of the runtime ("" is all of them).
ALLOWED = {
    "numpy": "",
    "cv2": "",
    "PIL": "",
    "onnxruntime": "session",
    "threadpoolctl": "batch",
    "tomli": "models",  # what tomllib is called before Python 3.11
    "typer": "cli",
    "rich": "cli",
    "psycopg": "gallery",
    "cryptography": "gallery",
    "jinja2": "evaluation",
    "matplotlib": "evaluation",
    "pyarrow": "batch",
    "dask": "batch",
    "distributed": "batch",
    "fastapi": "server",
    "prometheus_client": "server",
    "pydantic": "server",
    "starlette": "server",
    "uvicorn": "server",
    "PyInstaller": "_pyinstaller",
}

IMPORT_ALL = """
import importlib, importlib.abc, pkgutil, sys

BLOCKED = {"torch", "torchvision", "onnx", "verifykit_training", "verifykit_export"}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked in this process")

sys.meta_path.insert(0, Blocker())
import verifykit
names = [module.name for module in pkgutil.walk_packages(verifykit.__path__, "verifykit.")]
for name in names:
    if not name.endswith("__main__") and "-" not in name:
        importlib.import_module(name)
        print(name)
"""

FIRST_IMPORT = """
import sys
before = set(sys.modules)
import verifykit
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def _python(code: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_every_runtime_module_imports_without_torch_onnx_training_and_export() -> None:
    imported = _python(IMPORT_ALL)
    modules = {
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
        for path in RUNTIME.rglob("*.py")
        if path.name != "__main__.py" and "-" not in path.name  # a hook of another program
    }
    assert set(imported) == modules - {"verifykit"}


def test_importing_verifykit_loads_no_heavy_library() -> None:
    loaded = set(_python(FIRST_IMPORT))
    assert "verifykit" in loaded
    assert not loaded & {"cv2", "onnxruntime", "PIL", "typer", "rich"}


def test_imports_go_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [program, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    "path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: str(path.relative_to(RUNTIME))
)
def test_the_runtime_imports_only_what_it_may(path: Path) -> None:
    room = path.relative_to(RUNTIME).with_suffix("").parts[0]
    for name in _imports(path):
        if name in sys.stdlib_module_names or name == "verifykit":
            continue
        assert name in ALLOWED, f"{path.name} imports {name}"
        assert ALLOWED[name] in ("", room), f"only verifykit/{ALLOWED[name]} may import {name}"
