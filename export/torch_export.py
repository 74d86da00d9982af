"""A network in torch to ONNX, and what came out read back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import helper
from torch import nn

from export.errors import ExportError
from export.network import Network
from export.passes import drop_dead, drop_identities, fold_batch_norm, fold_constants
from verifykit.spec import InputSpec

__all__ = ["TORCH_OPSET", "require_contract", "to_onnx"]

# The lowest that torch's exporter writes; ONNX Runtime knows it since 1.14.
TORCH_OPSET = 18

_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


def to_onnx(
    encoder: nn.Module, spec: InputSpec, embedding_size: int, *, opset: int = TORCH_OPSET
) -> onnx.ModelProto:
    """Export an encoder with everything in it, the rows' normalisation to unit length too, in float32.

    Args:
        encoder: (N, C, H, W) float32 to (N, D) unit rows, in eval mode, on the CPU.
        spec: Its input.
        embedding_size: D.
        opset: The operator set that is asked for.

    Returns:
        One model, all weights inside, nothing in it about the machine that it was made on.

    Raises:
        ExportError: The exporter failed, or returned another opset, input or output than was asked for.
    """
    example = torch.zeros(2, spec.channels, spec.height_px, spec.width_px)
    batch = torch.export.Dim("batch")
    with _quiet():
        try:
            program = torch.onnx.export(
                encoder,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["input"],
                output_names=["embedding"],
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
        except Exception as error:  # torch has no common one
            raise ExportError(f"torch's ONNX exporter failed: {error}") from error
    assert program is not None  # noqa: S101 - returned with dynamo=True
    model = program.model_proto
    require_contract(model, spec, embedding_size, opset)
    network = Network.from_model(model)
    for node in network.nodes:
        # The exporter notes the source lines, with the paths of this machine.
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*network.inputs, *network.outputs):
        del value.metadata_props[:]
    fold_constants(network)
    drop_identities(network)
    fold_batch_norm(network)
    drop_dead(network)
    ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    clean = network.to_model("encoder", opset=opset, ir_version=ir_version)
    require_contract(clean, spec, embedding_size, opset)
    return clean


def require_contract(
    model: onnx.ModelProto, spec: InputSpec, embedding_size: int, opset: int
) -> None:
    """Read back from a model what was asked of its exporter.

    Args:
        model: The exporter's answer.
        spec: The input that was asked for, of any number of images.
        embedding_size: D that was asked for.
        opset: The operator set that was asked for.

    Raises:
        ExportError: Something else came back.
    """
    found = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if found != [opset]:
        raise ExportError(
            f"opset {opset} was asked for, torch's exporter wrote {', '.join(map(str, found))}: ask for "
            "one that it writes"
        )
    wanted = {
        "input": [spec.channels, spec.height_px, spec.width_px],
        "embedding": [embedding_size],
    }
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].HasField("dim_value") or not dims[0].dim_param:
            raise ExportError(
                f"{value.name!r}: the number of images is not free in the exported file"
            )
        sizes = [dim.dim_value for dim in dims[1:]]
        if sizes != wanted.get(value.name):
            raise ExportError(
                f"{value.name!r}: wanted (N, {wanted.get(value.name)}), the exported file has {sizes}"
            )
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in model.graph.initializer):
        raise ExportError("the exporter put weights into a second file")


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter only logs is read back from the file, and refused there."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
