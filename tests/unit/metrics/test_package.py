"""The package exports every public function and class of its modules."""

from __future__ import annotations

import importlib
import inspect

import verifykit.metrics

MODULES = ("distributions", "intervals", "likelihood", "open_set", "rates")


def test_every_public_name_is_exported() -> None:
    names = []
    for module_name in MODULES:
        module = importlib.import_module(f"verifykit.metrics.{module_name}")
        names += [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == module.__name__
        ]
    assert len(names) > len(MODULES)
    assert set(names) <= set(verifykit.metrics.__all__)
    assert verifykit.metrics.__all__ == sorted(verifykit.metrics.__all__)
