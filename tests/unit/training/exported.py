"""Networks as after training, and what their exported files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from verifykit_training.encoders.weights_in_model import restored, training_entry


def varied(network: nn.Module) -> nn.Module:
    """Return the network with normalisation as after training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.1)
            nn.init.normal_(module.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def assert_weights_come_back(name: str, network: nn.Module, model: Any) -> None:
    """Restore the weights of a network from its folded export, an ``onnx.ModelProto``."""
    from onnx import numpy_helper

    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    weights = {k: v for k, v in network.state_dict().items() if v.ndim > 1}
    folded = sum(not np.array_equal(constants[k], v.numpy()) for k, v in weights.items())
    assert folded > len(weights) / 2 or name == "cnn5"  # it pools before its batch norms
    entry = training_entry(name, network.state_dict(), constants)
    back, _ = restored(Path("m.onnx"), entry, constants)
    assert back.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(back[key], value, atol=1e-6, rtol=1e-6)
    # Only factors and small tensors are stored a second time.
    assert len(entry) < 0.25 * sum(4 * v.numel() for v in weights.values())
