"""What a model file says about training, so that a network can be trained further from it.

The exporter folds batch norms into the convolutions before them: an initialiser has the name of its weight,
and is the weight times a factor for each output. The file's metadata therefore hold those factors and the
tensors that are gone (batch norms; whatever a factor does not give back), as safetensors in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from verifykit import modelfile
from verifykit.errors import ModelIntegrityError, ModelNotFoundError, shortened

_SCHEMA = 1
_FACTOR, _TENSOR = "factor:", "tensor:"
_TOLERANCE = 1e-6


def training_entry(
    encoder: str, state: Mapping[str, Tensor], initialisers: Mapping[str, NDArray[Any]]
) -> str:
    """Return the metadata entry from which, with a file's initialisers, a state dict can be made again."""
    kept: dict[str, Tensor] = {}
    for key, value in state.items():
        weight = value.detach().cpu().contiguous()
        factor = _factor(weight.numpy(), initialisers.get(key)) if weight.ndim > 1 else None
        if factor is None:
            kept[_TENSOR + key] = weight
        else:
            kept[_FACTOR + key] = torch.from_numpy(factor)
    tensors = base64.b64encode(save_tensors(kept)).decode()
    return json.dumps({"schema": _SCHEMA, "encoder": encoder, "tensors": tensors})


def _factor(weight: NDArray[Any], folded: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """Return the (outputs,) factor from weight to initialiser; None if it does not give the weight back."""
    if folded is None or folded.shape != weight.shape or weight.dtype != np.float32:
        return None
    rows, images = (part.reshape(len(weight), -1).astype(np.float64) for part in (weight, folded))
    squares = (rows * rows).sum(axis=1)
    if not squares.all():
        return None
    factor = ((rows * images).sum(axis=1) / squares).astype(np.float32)
    if not np.all(factor):
        return None
    error = np.abs(images / factor[:, None].astype(np.float64) - rows).max()
    return factor if error <= _TOLERANCE * np.abs(rows).max() else None


def read_model_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict of the network that a model file was exported from, and notes on it.

    Raises:
        ModelNotFoundError: The package onnx is not installed.
        ModelIntegrityError: A file of another origin, of several networks or of an earlier version, or
            in int8.
    """
    file = modelfile.read(path)
    text = modelfile.metadata(file.data).get(modelfile.TRAINING_KEY)
    if text is None:
        raise ModelIntegrityError(
            f"{shortened(path)} does not have the tensors that training needs: it was combined from several "
            "networks, imported from another project, or exported by an earlier version; give the "
            "folder of its run, or export it again"
        )
    state, is_reduced = restored(path, text, _initialisers(file.data))
    note = f"{shortened(path)} is in float16: its weights are rounded"
    return state, (note,) if is_reduced else ()


def restored(
    path: Path, text: str, found: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, Tensor], bool]:
    """Return the state dict of which :func:`training_entry` made an entry, and whether it is rounded."""
    state: dict[str, Tensor] = {}
    is_reduced = False
    for name, value in _tensors(path, text).items():
        if name.startswith(_TENSOR):
            state[name.removeprefix(_TENSOR)] = value
            continue
        key = name.removeprefix(_FACTOR)
        if key not in found:
            raise ModelIntegrityError(
                f"{shortened(path)} is quantised, so it does not have the weights {shortened(key)}: give the "
                "folder of its run, or a float32 or float16 file of it"
            )
        is_reduced |= found[key].dtype != np.float32
        folded = torch.from_numpy(found[key].astype(np.float32))
        state[key] = folded / value.reshape(-1, *[1] * (folded.ndim - 1))
    return state, is_reduced


def _tensors(path: Path, text: str) -> dict[str, Tensor]:
    try:
        body = json.loads(text)
        schema = int(body["schema"])
        found: dict[str, Tensor] = load_tensors(base64.b64decode(body["tensors"], validate=True))
    except Exception as error:  # safetensors, json and base64 have no common one
        raise ModelIntegrityError(
            f"{shortened(path)}: {modelfile.TRAINING_KEY} is damaged"
        ) from error
    if schema > _SCHEMA:
        raise ModelIntegrityError(
            f"{shortened(path)}: {modelfile.TRAINING_KEY} is of schema {schema}, written by a later version: "
            "update verifykit-sdk"
        )
    return found


def _initialisers(data: bytes) -> dict[str, NDArray[Any]]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ModelNotFoundError(
            "weights from an .onnx file need the package onnx: pip install 'verifykit-sdk[export]'"
        ) from error
    graph = onnx.load_model_from_string(data).graph
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}
