"""Write the one file that is a model; :mod:`verifykit.modelfile` reads it."""

from __future__ import annotations

import base64
from pathlib import Path

import onnx

from export.digest import weights_digest
from verifykit.errors import ModelContractError
from verifykit.modelfile import DETECTOR_KEY, SPEC_KEY, append_checksum, metadata_entry
from verifykit.spec import FivePointCrop, ModelSpec
from verifykit.writing import write_whole

__all__ = ["write_model"]


def write_model(
    path: Path, encoder: onnx.ModelProto, spec: ModelSpec, detector: onnx.ModelProto | None = None
) -> None:
    """Write a model file, whole or not at all.

    Another process sees the old file, if there was one, or the new one; of two that write at once the
    last stays.

    Args:
        path: Where it goes; its folder exists.
        encoder: The network, all of its weights inside.
        spec: What the file says about itself.
        detector: The detector's network, for a five-point crop.

    Raises:
        ModelContractError: The specification names other weights than those given, or a detector is
            missing or not wanted.
        OSError: The folder is missing, cannot be written or is full.
    """
    data = _serialised(encoder)
    _agree("encoder", weights_digest(encoder), spec.weights_sha256)
    if isinstance(spec.crop, FivePointCrop) != (detector is not None):
        raise ModelContractError(
            f"model {spec.name!r}: a five_point crop comes with a detector, others without; the crop "
            f"is {spec.crop.kind}, a detector was {'not ' if detector is None else ''}given"
        )
    if detector is not None and isinstance(spec.crop, FivePointCrop):
        _agree("detector", weights_digest(detector), spec.crop.detector.weights_sha256)
        data += metadata_entry(DETECTOR_KEY, base64.b64encode(_serialised(detector)).decode())
    write_whole(path, append_checksum(data + metadata_entry(SPEC_KEY, spec.to_json())))


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
