"""The process's environment: the folder of verifykit's own files, and variables that dependencies read."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

from verifykit.errors import InputError

ORT_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_TRUE = frozenset(("1", "true", "yes", "on"))


# This module is imported with the package, before onnxruntime if the application imports that later.
_SET_TOO_LATE = (
    "onnxruntime" in sys.modules and os.environ.get(ORT_TELEMETRY, "").lower() not in _TRUE
)


def escape_unprintable() -> None:
    """Let a command print a name that the terminal cannot show, escaped, instead of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def disable_telemetry() -> None:
    """Set ``ORT_DISABLE_TELEMETRY=1``, whatever the environment says.

    ONNX Runtime 1.29 and later reads the variable once, when it is imported. Without it, the import writes
    a device id and an event database into the home folder, and a thread looks a collector up by DNS.
    """
    os.environ[ORT_TELEMETRY] = "1"


def telemetry_is_off() -> bool:
    """Return whether the variable was set before onnxruntime was imported."""
    return not _SET_TOO_LATE


def cache_folder() -> Path:
    """Return ``$VERIFYKIT_HOME``, or ``verifykit`` in the platform's cache folder of the user.

    Raises:
        InputError: This user has no home folder, and the variable is not set.
    """
    if home := os.environ.get("VERIFYKIT_HOME"):
        return Path(home).expanduser()
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise InputError(
            "the user of this process has no home folder, so there is no place for models: set "
            "VERIFYKIT_HOME to a folder that it can write"
        ) from error
    return Path(base) / "verifykit"


def keep_matplotlib_here() -> None:
    """Have matplotlib keep its list of fonts in verifykit's folder; ``MPLCONFIGDIR`` is left as it is.

    It makes folders in the home folder when it is imported, and writes the list at the first figure.
    """
    if "matplotlib" not in sys.modules:
        with contextlib.suppress(InputError):  # matplotlib then takes a temporary folder
            os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))


def import_problem(error: ImportError, missing: str, package: str = "a package") -> str:
    """Return ``missing`` if a package is not there; if it is there and broken, what failed.

    ``package`` is named where the error, as of a library that the loader misses, names none.
    """
    if isinstance(error, ModuleNotFoundError):
        return missing
    return (
        f"{error.name or package} is installed and cannot be imported ({type(error).__name__}: {error}): "
        "repair or reinstall it"
    )
