"""A network with noise in place of some weights, for gates that must refuse it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def spoilt_model(model: onnx.ModelProto, dimensions: int) -> onnx.ModelProto:
    """Return a copy with noise in every weight of so many dimensions."""
    ruined = onnx.ModelProto()
    ruined.CopyFrom(model)
    noise = np.random.default_rng(0)
    for tensor in ruined.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == dimensions:
            wrong = noise.normal(size=value.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))
    return ruined
