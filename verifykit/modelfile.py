"""The bytes of a model file: an ONNX model, then appended metadata, the last of it a checksum.

A protobuf message may be continued by appending fields, so what follows the encoder's own bytes is still
one valid ONNX model to every reader::

    encoder graph ‖ verifykit.detector (base64) ‖ verifykit.training (JSON) ‖ verifykit.spec (JSON)
    ‖ verifykit.sha256

The detector and what a further training needs are not in every file.

The last entry has a fixed length and holds the SHA-256 of all bytes before it, so that a flipped byte
anywhere is found without an ONNX parser.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import (
    ModelContractError,
    ModelIntegrityError,
    ModelNotFoundError,
    shortened,
    shortened_path,
    shown,
)
from verifykit.spec import ModelSpec

SPEC_KEY = "verifykit.spec"
DETECTOR_KEY = "verifykit.detector"
TRAINING_KEY = "verifykit.training"
CHECKSUM_KEY = "verifykit.sha256"

_GRAPH_FIELD = 7  # ModelProto.graph, onnx.proto
_METADATA_FIELD = 14  # ModelProto.metadata_props
_LENGTH_DELIMITED = 2
_FIXED_LENGTHS = {1: 8, 5: 4}


@dataclass(frozen=True)
class ModelFile:
    """A model file that was read and whose checksum agreed.

    Attributes:
        path: Where it was read from.
        data: All of its bytes; an ONNX model.
        spec: What it says about itself.
        detector: The detector's own ONNX bytes; None for crops that need none.
    """

    path: Path
    data: bytes
    spec: ModelSpec
    detector: bytes | None


def metadata_entry(key: str, value: str) -> bytes:
    """One ``metadata_props`` entry as protobuf bytes, ready to be appended to a model."""
    inner = _field(1, key.encode()) + _field(2, value.encode())
    return _field(_METADATA_FIELD, inner)


def append_checksum(data: bytes) -> bytes:
    """The model's bytes, closed with the entry that :func:`read` checks."""
    return data + metadata_entry(CHECKSUM_KEY, hashlib.sha256(data).hexdigest())


def with_spec(file: ModelFile, spec: ModelSpec) -> bytes:
    """The model's bytes with another specification of the same weights, input and crop."""
    if spec.digest != file.spec.digest:
        raise ModelContractError(
            f"{shortened(file.path)}: the specification is of model {spec.digest[:12]}, the file of "
            f"{file.spec.digest[:12]}: only what is not part of the digest can be exchanged"
        )
    bare = file.data[: -len(metadata_entry(CHECKSUM_KEY, "0" * 64))]
    old = metadata_entry(SPEC_KEY, metadata(file.data)[SPEC_KEY])
    return append_checksum(bare.removesuffix(old) + metadata_entry(SPEC_KEY, spec.to_json()))


def read(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file, check its checksum and parse its specification."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(
            f"cannot read model file {shown(str(path))}: {error.strerror or error}; give a registered name "
            "(verifykit models list) or the path of a verifykit model file"
        ) from shortened_path(error)
    _check(path, data)
    entries = metadata(data)
    if SPEC_KEY not in entries:
        raise ModelContractError(
            f"{shortened(path)}: the model has a checksum but no {SPEC_KEY}; export it again"
        )
    spec = ModelSpec.from_json(entries[SPEC_KEY])
    detector = None
    if spec.crop.detector_spec is not None:
        try:
            detector = base64.b64decode(entries[DETECTOR_KEY], validate=True)
        except (KeyError, binascii.Error) as error:
            raise ModelContractError(
                f"{shortened(path)}: the crop needs a detector, but {DETECTOR_KEY} is missing or not base64; "
                "export it again"
            ) from error
    return ModelFile(path, data, spec, detector)


def _check(path: Path, data: bytes) -> None:
    trailer_size = len(metadata_entry(CHECKSUM_KEY, "0" * 64))
    body, trailer = data[:-trailer_size], data[-trailer_size:]
    digest = hashlib.sha256(body).hexdigest()
    if trailer == metadata_entry(CHECKSUM_KEY, digest):
        return
    damaged = ModelIntegrityError(
        f"{shortened(path)}: the file is damaged or was changed after it was written (its checksum does not "
        "agree); fetch or build it again"
    )
    if metadata_entry(CHECKSUM_KEY, "")[2:20] in trailer or SPEC_KEY.encode() in data:
        raise damaged
    try:
        fields = _fields(data)
    except ValueError:
        raise ModelIntegrityError(
            f"{shortened(path)}: this is not an ONNX file, or it is cut short; fetch or build it again"
        ) from None
    if any(number == _GRAPH_FIELD for number, _ in fields):
        raise ModelContractError(
            f"{shortened(path)}: an ONNX model without a verifykit specification, so its colour order, "
            "scaling and crop are unknown and will not be guessed; import it with verifykit's export package"
        )
    raise damaged


def metadata(data: bytes) -> dict[str, str]:
    """The entries of ``metadata_props`` by key."""
    entries = [dict(_fields(value)) for number, value in _fields(data) if number == _METADATA_FIELD]
    return {entry[1].decode(): entry.get(2, b"").decode() for entry in entries}


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message, one level deep; others are passed over."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("field number 0")
        if wire == _LENGTH_DELIMITED:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise ValueError("a field reaches beyond the end")
            fields.append((number, data[at : at + size]))
            at += size
        elif wire == 0:
            _, at = _read_varint(data, at)
        elif wire in _FIXED_LENGTHS:
            at += _FIXED_LENGTHS[wire]
        else:
            raise ValueError(f"wire type {wire}")
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
