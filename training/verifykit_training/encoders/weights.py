"""Weights from a file, checked key by key."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from verifykit.errors import InputError, ModelIntegrityError, ModelNotFoundError, shortened
from verifykit_training.errors import first_line

_SHOWN = 8


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a ``.pth`` or ``.safetensors`` file; nothing in it is executed.

    Args:
        path: The file.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelIntegrityError: The file holds something else than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(
            f"there is no weights file {shortened(path)}; give the path of one, or write "
            'weights = "none" for a random start'
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ModelIntegrityError(
            f"{shortened(path)} is not a file of weights: {first_line(error)}"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelIntegrityError(
            f"{shortened(path)} does not map names to tensors: a state dict is required, as torchvision "
            "publishes them, not a whole model or a training checkpoint"
        )
    return dict(state)


def one_channel(weight: Tensor, input_channels: int) -> Tensor:
    """The first convolution for another number of channels than three.

    One grey channel replaces three equal ones, so its filter is the sum of the three.

    Raises:
        InputError: Neither 3 nor 1 channels.
    """
    if input_channels == weight.shape[1]:
        return weight
    if input_channels != 1:
        raise InputError(
            f"pretrained weights are for 3 channels, and can be made to fit 1, not {input_channels}"
        )
    return weight.sum(dim=1, keepdim=True)


def load_backbone(
    backbone: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    classifier: str,
    rename: Callable[[str], str] = lambda key: key,
) -> None:
    """Load every tensor of the backbone, and say exactly which keys or shapes do not fit.

    Args:
        backbone: The module to fill.
        state: Name to tensor.
        source: Where it comes from, for the error.
        classifier: Prefix (after renaming) of the last layer, which is left out if it is there.
        rename: Maps the file's names to the backbone's.

    Raises:
        ModelIntegrityError: Keys are missing or unknown, or a shape differs.
    """
    given = {rename(key): value for key, value in state.items()}
    given = {key: value for key, value in given.items() if not key.startswith(classifier)}
    own = backbone.state_dict()
    # Files older than torch 0.4.1 have no such counter, and nothing reads it while momentum is set.
    missing = [k for k in own if k not in given and not k.endswith("num_batches_tracked")]
    unknown = [key for key in given if key not in own]
    differing = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in given
        if key in own and given[key].shape != own[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
        for what, keys in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", differing),
        )
        if keys
    ]
    if problems:
        raise ModelIntegrityError(
            f"the weights of {shortened(source)} do not fit: {'; '.join(problems)}"
        )
    backbone.load_state_dict(given, strict=False)


def load_own_weights(backbone: nn.Module, weights: str, *, name: str) -> None:
    """Weights of an encoder that no published ones exist for.

    Args:
        backbone: The module to fill.
        weights: ``"none"`` leaves the random start; else the path of a file with the backbone's own keys.
        name: The encoder's, for the error.

    Raises:
        ModelNotFoundError: ``"imagenet"``, or there is no such file.
        ModelIntegrityError: Keys are missing or unknown, or a shape differs.
    """
    if weights == "imagenet":
        raise ModelNotFoundError(
            f'{name} has no ImageNet weights; write weights = "none" for a random start, or give the '
            "path of a file"
        )
    if weights != "none":
        load_backbone(backbone, read_weights(weights), source=weights, classifier="fc.")
