"""Write model files (:mod:`verifykit.modelfile` reads them), with digest and golden embedding."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from verifykit._files import atomic_write
from verifykit.errors import ModelContractError, shown
from verifykit.modalities import golden_image, to_tensor
from verifykit.modelfile import (
    DETECTOR_KEY,
    SPEC_KEY,
    TRAINING_KEY,
    append_checksum,
    metadata_entry,
)
from verifykit.session import Session, unit_rows
from verifykit.spec import InputSpec, ModelSpec
from verifykit.types import Embeddings, Image


def weights_digest(model: onnx.ModelProto) -> str:
    """SHA-256 over a network's operators, their attributes and connections, and its constants.

    It does not depend on the version of onnx or protobuf, on the names of nodes, on the order of
    attributes and constants, or on metadata.
    """
    digest = hashlib.sha256()
    domains = sorted((item.domain or "ai.onnx", item.version) for item in model.opset_import)
    _feed(digest, ["opset", domains])
    _feed_graph(digest, model.graph)
    return digest.hexdigest()


def _feed_graph(digest: Any, graph: onnx.GraphProto) -> None:
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            _feed(digest, [kind, value.name, value.type.tensor_type.elem_type])
    for node in graph.node:
        attributes = sorted((item.name, _attribute(item)) for item in node.attribute)
        name = [node.domain or "ai.onnx", node.op_type]
        _feed(digest, ["node", name, list(node.input), list(node.output), attributes])
    for tensor in sorted(graph.initializer, key=lambda item: item.name):
        _feed(digest, ["constant", tensor.name, *_tensor(tensor)])


def _feed(digest: Any, record: list[Any]) -> None:
    digest.update(json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode() + b"\n")


def _attribute(item: onnx.AttributeProto) -> list[Any]:
    value = helper.get_attribute_value(item)
    if item.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS):
        floats = np.atleast_1d(np.asarray(value, dtype="<f4"))
        return ["float", floats.tobytes().hex()]
    if item.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS):
        return ["int", np.atleast_1d(value).tolist()]
    if item.type == onnx.AttributeProto.STRING:
        return ["text", value.decode()]
    if item.type == onnx.AttributeProto.STRINGS:
        return ["text", [part.decode() for part in value]]
    if item.type == onnx.AttributeProto.TENSOR:
        return ["tensor", *_tensor(value)]
    if item.type == onnx.AttributeProto.GRAPH:
        inner = hashlib.sha256()
        _feed_graph(inner, value)
        return ["graph", inner.hexdigest()]
    raise ValueError(f"attribute {shown(item.name)} is neither number, text, tensor nor graph")


def _tensor(tensor: onnx.TensorProto) -> list[Any]:
    """Type, shape and the digest of the values as little-endian bytes."""
    value = numpy_helper.to_array(tensor)
    little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    return [tensor.data_type, list(value.shape), hashlib.sha256(little.tobytes()).hexdigest()]


def write_model(
    path: Path,
    encoder: onnx.ModelProto,
    spec: ModelSpec,
    detector: onnx.ModelProto | None = None,
    *,
    training: str | None = None,
) -> None:
    """Write a model file, whole or not at all.

    Another process sees the old file, if there was one, or the new one; of two that write at once the
    last stays.

    Args:
        path: Where it goes; its folder exists.
        encoder: The network, all of its weights inside.
        spec: What the file says about itself.
        detector: The detector's network, for a five-point crop.
        training: From ``training_entry``: what the network does not hold and training needs.

    Raises:
        ModelContractError: The specification names other weights than those given, or a detector is
            missing or superfluous.
        OSError: The folder is missing, cannot be written or is full.
    """
    data = _serialised(encoder)
    _agree("encoder", weights_digest(encoder), spec.weights_sha256)
    stated = spec.crop.detector_spec
    if (stated is not None) != (detector is not None):
        raise ModelContractError(
            f"model {shown(spec.name)}: a five_point crop comes with a detector, others without; the crop "
            f"is {spec.crop.kind}, a detector was {'not ' if detector is None else ''}given"
        )
    if detector is not None and stated is not None:
        _agree("detector", weights_digest(detector), stated.weights_sha256)
        data += metadata_entry(DETECTOR_KEY, base64.b64encode(_serialised(detector)).decode())
    if training is not None:
        data += metadata_entry(TRAINING_KEY, training)
    atomic_write(path, append_checksum(data + metadata_entry(SPEC_KEY, spec.to_json())))


def _serialised(model: onnx.ModelProto) -> bytes:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    return bytes(bare.SerializeToString(deterministic=True))


def _agree(what: str, found: str, stated: str) -> None:
    if found != stated:
        raise ModelContractError(
            f"{what}: the specification states weights {stated}, the network has {found}"
        )


SWAPPED_COSINE = 0.99
"""From here on the check at load does not detect a swapped channel order."""


def golden_embedding(
    model: onnx.ModelProto, spec: InputSpec, *, may_ignore_color: bool = False
) -> tuple[float, ...]:
    """Run a network on the golden image through verifykit's own preprocessing and session."""
    session = Session(model.SerializeToString(), name="encoder", providers="cpu")
    golden = _embed(session, spec, golden_image(spec.height_px, spec.width_px))
    cosine = None if may_ignore_color else swapped_cosine(model, spec)
    if cosine is not None and not cosine < SWAPPED_COSINE:
        raise ModelContractError(
            f"the golden image with red and blue swapped gives cosine {cosine:.4f} to itself, not "
            f"below {SWAPPED_COSINE}: a swapped channel order would not be found at load"
        )
    return tuple(round(float(value), 7) for value in golden[0])


def swapped_cosine(model: onnx.ModelProto, spec: InputSpec) -> float | None:
    """Cosine between the golden image's embeddings with red and blue in order and swapped."""
    if spec.color == "grey":
        return None
    session = Session(model.SerializeToString(), name="encoder", providers="cpu")
    image = golden_image(spec.height_px, spec.width_px)
    return float(_embed(session, spec, image)[0] @ _embed(session, spec, image[..., ::-1])[0])


def _embed(session: Session, spec: InputSpec, image: Image) -> Embeddings:
    views = [image, image[:, ::-1]] if spec.mirror else [image]
    outputs = session.run(to_tensor(views, spec))
    size = outputs[0].shape[-1]
    rows = unit_rows(outputs, "encoder", len(views), size)
    return unit_rows([rows.sum(axis=0, keepdims=True)], "encoder", 1, size)
