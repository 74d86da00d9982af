"""Import what a configuration names as ``my.package:make``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from verifykit.errors import InputError, shortened, shown
from verifykit_training.errors import first_line


def import_named(what: str, name: str) -> Any:
    """Import the object of an import path; ``what`` begins the messages."""
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise InputError(f"{what} {shown(name)} is no import path: write it as my.package:make")
    # A command has the folder of its program in its path, and not the one where it was started.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the module raises
        raise InputError(
            f"{what} {shown(name)} cannot be imported from {shown(here)}: {shortened(first_line(error))}"
        ) from error
    return found
