"""Let a network that was exported for one size take others."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import shape_inference

from verifykit.errors import shown
from verifykit_export.network import Network


def free_dimensions(network: Network, names: Mapping[int, str]) -> None:
    """Make axes of the single input free, and every shape that follows from them.

    ``Reshape`` to a fixed number of images copies the number from its input instead.
    """
    if len(network.inputs) != 1:
        raise ValueError(
            f"exactly one input is required, got {shown([item.name for item in network.inputs])}"
        )
    dims = network.inputs[0].type.tensor_type.shape.dim
    if max(names) >= len(dims):
        raise ValueError(
            f"input {shown(network.inputs[0].name)} has {len(dims)} axes, required are {names}"
        )
    if 0 in names and dims[0].dim_value:
        _copy_batch(network, dims[0].dim_value)
    for axis, name in names.items():
        dims[axis].dim_param = name
    for output in network.outputs:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()
    shapes = _shapes(network)
    for output in network.outputs:
        shape = output.type.tensor_type.shape
        shape.CopyFrom(shapes[output.name])
        for axis, dim in enumerate(shape.dim):
            if not dim.dim_value and dim.dim_param not in names.values():
                dim.dim_param = f"{output.name}_{axis}"


def _copy_batch(network: Network, batch: int) -> None:
    shapes = _shapes(network, computed=True)
    for node in network.nodes:
        sizes = network.constant(node, 1) if node.op_type == "Reshape" else None
        if sizes is None or sizes.size == 0 or sizes[0] != batch:
            continue
        # torch's exporter writes allowzero, under which 0 is a size and does not copy.
        zero = [item for item in node.attribute if item.name == "allowzero" and item.i]
        if zero and 0 in sizes:
            continue
        inferred = shapes.get(node.input[0])
        if inferred is not None and inferred.dim and inferred.dim[0].dim_value == batch:
            copied = sizes.copy()
            copied[0] = 0
            for item in zero:
                node.attribute.remove(item)
            node.input[1] = network.add_constant(node.input[1], copied)


def _shapes(network: Network, *, computed: bool = False) -> dict[str, onnx.TensorShapeProto]:
    """Return the shapes that can be inferred; ``computed`` follows those that nodes compute, too."""
    model = network.to_model("shapes")
    graph = shape_inference.infer_shapes(model, data_prop=computed).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {item.name: item.type.tensor_type.shape for item in values}
