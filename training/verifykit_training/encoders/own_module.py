"""An encoder of the user's own: a function or class by import path, ``my.package:make``.

The function takes ``embedding_size`` and may take ``input_channels``; its further parameters are options of
the section ``[encoder]``. It returns a module from (N, C, H, W) to (N, D), whose rows are brought to unit
length here. The function's attribute ``input_statistics``, if it has one, is what the module expects of
its input: scale, mean and deviation of each channel, as in ``(pixel * scale - mean) / std``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from torch import Tensor, nn

from verifykit.errors import InputError, shortened, shown
from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import Published, require_no_imagenet
from verifykit_training.errors import first_line
from verifykit_training.import_path import import_named
from verifykit_training.options import option_types

GIVEN = ("name", "embedding_size", "weights", "input_channels")
OWN = Published(rename=lambda key: f"module.{key}")
_REQUIRED = "embedding_size"
_CENTRED = (1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def is_own(name: str) -> bool:
    """Return whether an encoder's name is an import path."""
    return ":" in name


def find_own(name: str) -> Callable[..., Any]:
    """Import the function or class that a name such as ``my.package:make`` names.

    Raises:
        InputError: It cannot be imported, is not callable or does not take ``embedding_size``.
    """
    found = import_named("encoder", name)
    if not callable(found):
        raise InputError(
            f"encoder {shown(name)} is of type {type(found).__name__}: name a function or a class that "
            "returns a torch module"
        )
    _require_signature(name, found)
    return found  # type: ignore[no-any-return]


def _require_signature(name: str, make: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"encoder {shown(name)} has no signature to check: {shortened(str(error))}"
        ) from error
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    names = {p.name for p in parameters} - set(positional)
    if positional or _REQUIRED not in names:
        raise InputError(
            f"encoder {shown(name)} must take {_REQUIRED} by name, as in make(*, {_REQUIRED}, "
            f"input_channels=3); its signature is {shown(str(inspect.signature(make)))}"
        )


def own_options(name: str) -> dict[str, Any]:
    """Return the options of an own encoder, each with its type; Any where the type cannot be checked."""
    make = find_own(name)
    try:
        types = option_types(make, GIVEN)
    except Exception as error:  # an annotation may name anything
        raise InputError(
            f"encoder {shown(name)}: its annotations cannot be read: {shortened(first_line(error))}"
        ) from error
    variadic = {
        p.name
        for p in inspect.signature(make).parameters.values()
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return {key: _checked(kind) for key, kind in types.items() if key not in variadic}


def _checked(kind: Any) -> Any:
    try:
        TypeAdapter(kind)
    except PydanticUserError:
        return Any
    return kind


def own_statistics(name: str) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Return the scale, mean and deviation of an own encoder's input; values of -1 to 1 by default."""
    stated = getattr(find_own(name), "input_statistics", _CENTRED)
    try:
        scale, mean, std = stated
        found = float(scale), tuple(map(float, mean)), tuple(map(float, std))
    except (TypeError, ValueError):
        found = 0.0, (), ()
    if len(found[1]) != 3 or len(found[2]) != 3 or found[0] <= 0 or min(found[2]) <= 0:
        raise InputError(
            f"encoder {shown(name)}: input_statistics is (scale, mean, std) with three means and three "
            f"positive deviations, got {shown(str(stated))}"
        )
    return found


class _Rows(nn.Module):
    """The user's module, its output checked."""

    def __init__(self, module: nn.Module, name: str, embedding_size: int) -> None:
        super().__init__()
        self.module = module
        self._name, self._size = name, embedding_size

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D), or InputError."""
        rows = self.module(images)
        if not isinstance(rows, Tensor):
            raise InputError(
                f"encoder {shown(self._name)} returned {type(rows).__name__}: one tensor (N, "
                f"{self._size}) is required"
            )
        if rows.ndim != 2 or rows.shape[1] != self._size or rows.shape[0] != images.shape[0]:
            raise InputError(
                f"encoder {shown(self._name)} returned {tuple(rows.shape)} for {images.shape[0]} images: "
                f"(N, {self._size}) is required, of embedding_size {self._size}"
            )
        if not rows.is_floating_point():
            raise InputError(f"encoder {shown(self._name)} returned {rows.dtype}, not floats")
        return rows


def build_own(
    name: str, *, embedding_size: int, weights: str, input_channels: int, **options: Any
) -> EmbeddingNetwork:
    """Build an own encoder; its whole is the backbone, and there is no head."""
    require_no_imagenet(name, weights)
    make = find_own(name)
    parameters = inspect.signature(make).parameters
    if "input_channels" in parameters:
        options["input_channels"] = input_channels
    elif input_channels != 3:
        raise InputError(
            f"encoder {shown(name)} does not take input_channels, so it is for 3 channels, not "
            f'{input_channels}: set encoder.color = "rgb"'
        )
    try:
        module = make(embedding_size=embedding_size, **options)
    except InputError:
        raise
    except Exception as error:  # whatever the function raises
        raise InputError(
            f"encoder {shown(name)} cannot be made: {shortened(first_line(error))}"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(
            f"encoder {shown(name)} returned {type(module).__name__}: a torch.nn.Module is required"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise InputError(f"encoder {shown(name)} has no parameter that learns")
    if any(parameter.dtype is not torch.float32 for parameter in module.parameters()):
        raise InputError(f"encoder {shown(name)} has parameters that are not float32")
    return EmbeddingNetwork(_Rows(module, name, embedding_size), nn.Identity())
