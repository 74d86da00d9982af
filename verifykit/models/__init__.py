"""From a name to a model file: registry, cache, checksum, licence.

A model is requested by a registered name (``"face"``) or by the path of a model file. A registered
name wins over a file or folder of the same name; write ``./face`` to mean that.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from verifykit._environment import cache_folder
from verifykit.errors import ModelIntegrityError, ModelNotFoundError, shortened, shown
from verifykit.modelfile import ModelFile, read
from verifykit.models.cache import BUILDERS, cached_path, load_built, rebuild
from verifykit.models.card import render_card
from verifykit.models.registry import RegistryEntry, calibration_digest, model_folder, registered

__all__ = [
    "BUILDERS",
    "ModelStatus",
    "RegistryEntry",
    "cache_folder",
    "calibration_digest",
    "card",
    "list_models",
    "load",
    "pull",
    "registered",
    "render_card",
    "resolve",
    "verify",
]


@dataclass(frozen=True)
class ModelStatus:
    """A registered model on this machine.

    Attributes:
        entry: What the registry states about it.
        path: Where its file is, or will be stored.
        present: Whether a file is there; it is checked only when it is loaded.
    """

    entry: RegistryEntry
    path: Path
    present: bool


def load(name_or_path: str | os.PathLike[str]) -> ModelFile:
    """Read a model: its checksum is checked, and a registered one is the one that was registered.

    A registered model that is built, and not yet in the cache, is built now; a line of the logger
    ``verifykit.models`` says so.

    Args:
        name_or_path: A registered name, or the path of a model file.

    Raises:
        ModelNotFoundError: No such name or file, or it cannot be built here; the message says what
            to install, and how to do without a network.
        ModelIntegrityError: The bytes are damaged, or are another model than the registered one.
        ModelContractError: The file has no valid specification.
    """
    entry = _entry(name_or_path)
    if entry is None:
        return read(name_or_path)
    return load_built(entry) if entry.builder else _shipped(entry)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the path of a model's file, checked and if necessary built as by :func:`load`.

    Raises:
        ModelError: As :func:`load`.
    """
    return load(name_or_path).path


def pull(name: str, *, again: bool = False) -> Path:
    """Make a registered model ready for use without a network, and return its path.

    Args:
        name: A registered name.
        again: Build it even if a good one is in the cache.

    Raises:
        ModelError: As :func:`load`; also for a path, which is not pulled from anywhere.
    """
    entry = _entry(name)
    if entry is None:
        raise ModelNotFoundError(
            f"{shown(str(name))} is a path; only registered models are pulled: {_known()}"
        )
    return rebuild(entry).path if again and entry.builder else load(name).path


def verify(name_or_path: str | os.PathLike[str]) -> ModelFile:
    """Check a model's file as it is; nothing is built and nothing is replaced.

    Raises:
        ModelNotFoundError: There is no file.
        ModelIntegrityError: The bytes are damaged, or are another model than the registered one.
        ModelContractError: The file has no valid specification.
    """
    entry = _entry(name_or_path)
    if entry is None:
        return read(name_or_path)
    if entry.file:
        return _shipped(entry)
    path = cached_path(entry)
    if not path.exists():
        raise ModelNotFoundError(
            f"model {shown(entry.name)} is not built yet: verifykit models pull {entry.name}"
        )
    return _agreeing(entry, read(path))


def list_models() -> tuple[ModelStatus, ...]:
    """List the registered models, and whether their files are on this machine."""
    entries = [(entry, _path(entry)) for entry in registered().values()]
    return tuple(ModelStatus(entry, path, path.is_file()) for entry, path in entries)


def card(name_or_path: str | os.PathLike[str]) -> str:
    """Return the model card as Markdown, generated from the model's own specification.

    Raises:
        ModelError: As :func:`load`.
    """
    return render_card(load(name_or_path).spec)


def _entry(name_or_path: str | os.PathLike[str]) -> RegistryEntry | None:
    """Return the registered model of this name; None for a path."""
    if not isinstance(name_or_path, str):
        return None
    if entry := registered().get(name_or_path):
        return entry
    looks_like_a_path = {"/", os.sep} & set(name_or_path) or name_or_path.endswith(".onnx")
    if looks_like_a_path or os.path.isfile(name_or_path):  # noqa: PTH113 - never raises
        return None
    close = difflib.get_close_matches(name_or_path.lower(), registered(), n=1)
    hint = f"did you mean {shown(close[0])}? " if close else ""
    raise ModelNotFoundError(
        f"no model is named {shown(name_or_path)}: {hint}{_known()}; or give the path of a model file"
    )


def _known() -> str:
    return f"registered are {', '.join(registered()) or 'none'}"


def _path(entry: RegistryEntry) -> Path:
    return model_folder() / entry.file if entry.file else cached_path(entry)


def _shipped(entry: RegistryEntry) -> ModelFile:
    return _agreeing(entry, read(_path(entry)))


def _agreeing(entry: RegistryEntry, model: ModelFile) -> ModelFile:
    if problem := entry.disagreement(model.spec):
        raise ModelIntegrityError(f"{shortened(model.path)} is not the registered model: {problem}")
    return model
