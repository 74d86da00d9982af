"""The libraries of the extra ``batch``, loaded when a run needs them and not before."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from verifykit.errors import InputError


def batch_library(
    name: Literal["pyarrow", "pyarrow.parquet", "distributed"], wanted_for: str
) -> Any:
    """A module of the extra.

    Args:
        name: Which.
        wanted_for: What cannot be read, written or done without it.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{wanted_for!r} needs {name.partition('.')[0]}, which is not installed: "
            'pip install "verifykit-sdk[batch]"'
        ) from error
