"""Files of a run that must be whole or not there: checkpoints and weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.errors import TrainingError

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint", "save_weights", "write_whole"]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the file before it stays until this one is on the disk.

    Args:
        path: Where to.
        state: Tensors, numbers, strings, and lists and dicts of them.
    """
    write_whole(path, lambda part: torch.save(state, part))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is executed.

    Args:
        path: What :func:`save_checkpoint` wrote.

    Raises:
        TrainingError: It is not there, or is no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"there is no checkpoint {path}: nothing to resume") from error
    except Exception as error:  # torch raises many kinds on a damaged file
        raise TrainingError(f"{path} is no checkpoint that can be read: {error}") from error
    return dict(state)


def save_weights(path: Path, encoder: nn.Module) -> None:
    """Write an encoder's weights and buffers as safetensors.

    Args:
        path: Where to.
        encoder: The module.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    write_whole(path, lambda part: save_file(state, part))


def load_weights(path: Path, encoder: nn.Module) -> None:
    """Load weights that :func:`save_weights` wrote, key by key.

    Args:
        path: The file.
        encoder: The same network.

    Raises:
        TrainingError: The file is not there or damaged, or holds other keys or shapes.
    """
    try:
        encoder.load_state_dict(load_file(path), strict=True)
    except Exception as error:  # safetensors and torch have no common one
        raise TrainingError(f"{path} does not fit the encoder, or is damaged: {error}") from error


def write_whole(path: Path, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a file beside ``path``, bring it to the disk, and put it in place.

    Args:
        path: Where to.
        write: Given the name of the file to fill.
    """
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        write(part)
        with open(part, "rb") as file:  # noqa: PTH123 - a name from tempfile
            os.fsync(file.fileno())
        Path(part).chmod(0o644)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
