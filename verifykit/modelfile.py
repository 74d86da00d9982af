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

from verifykit._protobuf import bytes_field, read_fields
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
    inner = bytes_field(1, key.encode()) + bytes_field(2, value.encode())
    return bytes_field(_METADATA_FIELD, inner)


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
        numbers = [field.number for field in read_fields(data)]
    except ValueError:
        raise ModelIntegrityError(
            f"{shortened(path)}: this is not an ONNX file, or it is cut short; fetch or build it again"
        ) from None
    if _GRAPH_FIELD in numbers:
        raise ModelContractError(
            f"{shortened(path)}: an ONNX model without a verifykit specification, so its colour order, "
            "scaling and crop are unknown and will not be guessed; import it with verifykit's export package"
        )
    raise damaged


def metadata(data: bytes) -> dict[str, str]:
    """The entries of ``metadata_props`` by key."""
    entries = [
        {field.number: field.value for field in read_fields(field.value)}
        for field in read_fields(data)
        if field.number == _METADATA_FIELD and isinstance(field.value, bytes)
    ]
    return {_text(entry[1]): _text(entry.get(2, b"")) for entry in entries}


def _text(value: bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
