"""The rounding of fine-tuning is that of the exported int8 file."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import numpy as np
import onnx
import torch

from tests.unit.training.drawing import drawn
from verifykit.modalities import to_tensor
from verifykit.spec import InputSpec
from verifykit_export.precision import to_int8
from verifykit_export.torch_export import to_onnx
from verifykit_training.encoders import build_encoder
from verifykit_training.quantisation import FakeQuantisation

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = InputSpec(32, 32, "rgb", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _scales(model: onnx.ModelProto) -> list[float]:
    """The steps of the activations of an int8 file."""
    values = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    return [
        float(values[node.input[1]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in values
    ]


@pytest.mark.parametrize("name", ["cnn5", "efficientnet_lite0", "resnet18"])
def test_activations_are_rounded_in_the_steps_of_the_int8_file(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, embedding_size=16, weights="none")
    with torch.no_grad():
        # Statistics of real inputs: at a random start the last layers are almost silent.
        encoder.train()
        for number in range(20):
            images = [drawn(subject, number) for subject in range(8)]
            encoder(torch.from_numpy(to_tensor(images, SPEC)))
    encoder.eval()
    crops = [drawn(9, 0)]
    model = to_int8(to_onnx(encoder, SPEC, 16), SPEC, crops)
    quantisation = FakeQuantisation(encoder, (3, 32, 32))
    with torch.no_grad(), quantisation.applied(observe=True):
        encoder(torch.from_numpy(to_tensor(crops, SPEC)))
    low, high = quantisation.ranges.double().numpy().T
    # A new resnet's branches begin at zero, which has no step; onnxruntime writes 1.
    ours, theirs = ((high - low) / 255)[high > low], np.array(_scales(model))
    theirs = theirs[theirs != 1.0]
    # The file's ranges were measured without rounding, which moves those of later layers a little.
    for one, others in ((ours, theirs), (theirs, ours)):
        nearest = np.abs(one[:, None] / others[None] - 1.0).min(axis=1)
        assert np.quantile(nearest, 0.9) < 0.1, (name, np.sort(nearest))
