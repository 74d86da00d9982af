"""The libraries of the extra ``batch``, loaded when a run needs them and not before."""

from __future__ import annotations

import importlib
from typing import Any

from verifykit.errors import InputError

__all__ = ["distributed", "pyarrow", "pyarrow_parquet"]


def pyarrow(wanted_for: str) -> Any:
    """The module ``pyarrow``.

    Args:
        wanted_for: What cannot be read, written or done without it.

    Raises:
        InputError: It is not installed.
    """
    return _load("pyarrow", wanted_for)


def pyarrow_parquet(wanted_for: str) -> Any:
    """The module ``pyarrow.parquet``.

    Args:
        wanted_for: What cannot be read, written or done without it.

    Raises:
        InputError: It is not installed.
    """
    return _load("pyarrow.parquet", wanted_for)


def distributed(wanted_for: str) -> Any:
    """The module ``distributed``.

    Args:
        wanted_for: What cannot be read, written or done without it.

    Raises:
        InputError: It is not installed.
    """
    return _load("distributed", wanted_for)


def _load(name: str, wanted_for: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{wanted_for!r} needs {name.partition('.')[0]}, which is not installed: "
            'pip install "verifykit[batch]"'
        ) from error
