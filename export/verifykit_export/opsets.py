"""Bring a network to an operator set that verifykit's onnxruntime runs."""

from __future__ import annotations

import onnx
from onnx import defs, helper, version_converter

from verifykit.errors import ModelContractError
from verifykit_export.network import OPSET, subgraphs

# Of onnxruntime 1.20, the oldest that pyproject.toml allows.
NEWEST = 21

_ONNXRUNTIMES = {22: "1.21", 23: "1.22", 24: "1.23", 25: "1.24"}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators; 1 where the file states none."""
    return max(
        (item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1
    )


def advice(opset: int) -> str:
    """Return which onnxruntime runs an opset, to follow a message; empty if every allowed one does."""
    if opset <= NEWEST:
        return ""
    known = _ONNXRUNTIMES.get(opset)
    version = f"onnxruntime>={known}" if known else "the newest onnxruntime"
    return (
        f"; the file is of opset {opset}, which takes {version}: pip install --upgrade '{version}'"
    )


def with_supported_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return the model and an opset of 17 or above that it is valid in.

    From 17 to 21 the file's own is kept. A newer one becomes 21 if all operators and attributes are defined
    there, else it is kept, and the model takes a newer onnxruntime. Older files are converted.
    """
    opset = opset_of(model)
    if OPSET <= opset <= NEWEST:
        return model, opset
    if opset > NEWEST:
        return model, NEWEST if _is_valid(model, NEWEST) else opset
    if _unchanged(model, opset):
        return model, OPSET
    try:
        return version_converter.convert_version(model, OPSET), OPSET
    except Exception as error:  # onnx raises several
        raise ModelContractError(
            f"the file is of opset {opset} and cannot be converted to {OPSET}: {error}; export it with "
            f"opset {OPSET} or above"
        ) from error


def operators(graph: onnx.GraphProto) -> set[str]:
    """Return the operators of a graph and its subgraphs."""
    found = {node.op_type for node in graph.node}
    for node in graph.node:
        for inner in subgraphs(node):
            found |= operators(inner)
    return found


def _is_valid(model: onnx.ModelProto, opset: int) -> bool:
    if any(_since(name, opset) is None for name in operators(model.graph)):
        return False
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    del marked.opset_import[:]
    marked.opset_import.append(helper.make_opsetid("", opset))
    marked.ir_version = helper.find_min_ir_version_for(list(marked.opset_import))
    try:
        onnx.checker.check_model(marked)
    except onnx.checker.ValidationError:
        return False
    return True


def _unchanged(model: onnx.ModelProto, opset: int) -> bool:
    return all(_since(name, opset) == _since(name, OPSET) for name in operators(model.graph))


def _since(operator: str, opset: int) -> int | None:
    """Return the opset in which an operator got the definition that it has in another."""
    try:
        return int(defs.get_schema(operator, opset, "").since_version)
    except defs.SchemaError:
        return None
