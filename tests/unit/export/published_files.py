"""Files in the form in which publishers of face encoders give them, with random weights.

The networks, and the names of AdaFace's tensors, are written here from the publishers' code as it is public:
insightface's ``arcface_torch`` and its ``torch2onnx.py``, AdaFace's ``net.py`` and ``adaonnx.py``. The
IResNet itself is that of verifykit_training, whose tensors are compared with insightface's by other tests.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.unit.training.exported import varied
from verifykit_training.encoders import build_encoder

SIZE_PX = 112


def export(network: nn.Module, path: Path, **names: Any) -> Path:
    """Write a network as torch's old exporter does, opset 11, for one image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, SIZE_PX, SIZE_PX),),
            path,
            opset_version=11,
            dynamo=False,
            **names,
        )
    return path


def iresnet(name: str = "iresnet18") -> nn.Module:
    """Return an IResNet as insightface trains it: its rows are not of unit length."""
    torch.manual_seed(0)
    made = varied(build_encoder(name, embedding_size=512, weights="none"))
    return nn.Sequential(made.get_submodule("backbone"), made.get_submodule("head")).eval()


def write_insightface(path: Path, network: nn.Module, output: str = "683") -> Path:
    """Write a file as insightface's: the batch of the input is called None, that of the output is 1."""
    export(network, path, input_names=["input.1"], output_names=["rows"])
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "None"
    # Names of numbers alone are of an older torch.
    model.graph.output[0].name = output
    for node in model.graph.node:
        node.output[:] = [output if name == "rows" else name for name in node.output]
    onnx.save(model, path)
    return path


def write_mxnet(path: Path, source: Path) -> Path:
    """Write the network of a file as MXNet's exporter does: ``data`` to ``fc1``, pixels scaled inside."""
    graph = onnx.load(source).graph
    nodes = list(graph.node)
    for node in nodes:
        node.input[:] = ["_mulscalar0" if name == "input.1" else name for name in node.input]
        node.output[:] = ["fc1" if name == graph.output[0].name else name for name in node.output]
    scalars = {"scalar_op1": 127.5, "scalar_op2": 0.0078125}
    weights = [
        *graph.initializer,
        *(
            numpy_helper.from_array(np.array([value], np.float32), name)
            for name, value in scalars.items()
        ),
    ]
    nodes[:0] = [
        helper.make_node("Sub", ["data", "scalar_op1"], ["_minusscalar0"], name="_minusscalar0"),
        helper.make_node(
            "Mul", ["_minusscalar0", "scalar_op2"], ["_mulscalar0"], name="_mulscalar0"
        ),
    ]
    tensor = helper.make_tensor_value_info
    inputs = [tensor("data", TensorProto.FLOAT, [1, 3, SIZE_PX, SIZE_PX])]
    inputs += [tensor(item.name, TensorProto.FLOAT, item.dims) for item in weights]
    made = helper.make_graph(
        nodes,
        "mxnet_converted_model",
        inputs,
        [tensor("fc1", TensorProto.FLOAT, [1, 512])],
        weights,
    )
    opset = helper.make_opsetid("", 8)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=3), path)
    return path


class AdaFaceBlock(nn.Module):
    """``BasicBlockIR``: a pool of one pixel where the width stays, else a convolution."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        if before == after:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(before, after, (1, 1), stride, bias=False), nn.BatchNorm2d(after)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, after, (3, 3), (1, 1), 1, bias=False),
            nn.BatchNorm2d(after),
            nn.PReLU(after),
            nn.Conv2d(after, after, (3, 3), stride, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add both ways."""
        return self.res_layer(x) + self.shortcut_layer(x)  # type: ignore[no-any-return]


class AdaFace(nn.Module):
    """``Backbone``: its answer is a row of unit length, and the length that it had."""

    def __init__(self, stages: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, (3, 3), 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512, affine=False),
        )
        blocks, before = [], 64
        for width, count in zip((64, 128, 256, 512), stages, strict=True):
            for number in range(count):
                blocks.append(AdaFaceBlock(before, width, 1 if number else 2))
                before = width
        self.body = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows and their lengths."""
        x = self.output_layer(self.body(self.input_layer(x)))
        norm = torch.norm(x, 2, 1, True)
        return torch.div(x, norm), norm


def adaface() -> AdaFace:
    """Return an AdaFace IR-18 as after training."""
    torch.manual_seed(1)
    network = AdaFace()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.4)
    return network.eval()


class Callback:
    """What PyTorch Lightning pickles beside tensors: an object of its own."""

    def __init__(self) -> None:
        self.best_score = 0.9


def write_adaface(path: Path, state: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint as PyTorch Lightning does: the network below ``model.``, the head beside it."""
    head = {"head.kernel": torch.zeros(512, 3), "head.t": torch.zeros(1)}
    model = {f"model.{name}": value for name, value in state.items()}
    body = {
        "epoch": 25,
        "pytorch-lightning_version": "1.3.0",
        "state_dict": {**model, **head},
        "callbacks": {Callback: {"best": torch.tensor(0.9), "made": Callback()}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
        "hyper_parameters": {"arch": "ir_18", "paths": [Path("data")]},
    }
    torch.save(body, path)
    return path


def tiny(
    size_px: int, *, outputs: int = 1, values: int = 512, inputs: int = 1, seed: int = 0
) -> bytes:
    """Return a network that is small, and of the form of one in insightface's archives."""
    tensor = helper.make_tensor_value_info
    rows = [f"out{n}" for n in range(outputs)]
    weights = np.random.default_rng(seed).standard_normal((3, values)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input.1"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", "w"], [row]) for row in rows),
    ]
    if inputs > 1:
        nodes.insert(0, helper.make_node("Add", ["source", "source"], ["twice"]))
    images = [tensor("input.1", TensorProto.FLOAT, ["None", 3, size_px or "?", size_px or "?"])]
    images += [tensor("source", TensorProto.FLOAT, [1, 512])] * (inputs - 1)
    graph = helper.make_graph(
        nodes,
        "torch-jit-export",
        images,
        [tensor(row, TensorProto.FLOAT, [1, values]) for row in rows],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    return bytes(model.SerializeToString())


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def buffalo(recognition: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the members of an archive like ``buffalo_l.zip``, with given recognition networks."""
    return {
        "det_10g.onnx": tiny(0, outputs=9, values=4),
        "genderage.onnx": tiny(96, values=3),
        "2d106det.onnx": tiny(192, values=212),
        "1k3d68.onnx": tiny(192, values=3309),
        **recognition,
    }
