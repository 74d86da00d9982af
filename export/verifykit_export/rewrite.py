"""Rewrite an encoder of another project, and prove that it answers as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from verifykit.errors import ModelContractError, VerifyKitError
from verifykit.spec import InputSpec
from verifykit.types import Embeddings, Image
from verifykit_export.float32 import is_half
from verifykit_export.foreign import import_encoder
from verifykit_export.one_by_one import one_by_one
from verifykit_export.opsets import opset_of, with_supported_opset
from verifykit_export.original import Contract
from verifykit_export.parity import BATCH, Parity, embed_with_onnx, open_session, require_equal
from verifykit_export.standard_form import in_order, is_quantised, to_standard_form


@dataclass(frozen=True)
class Rewritten:
    """A network that was proved equal to a foreign one, and how it was made.

    Attributes:
        encoder: The network.
        parity: How far it is from the foreign one.
        quantised: Whether it computes on integers.
        half: Whether the foreign one has float16 weights.
        one_by_one: Whether it embeds several images one after the other.
    """

    encoder: onnx.ModelProto
    parity: Parity
    quantised: bool
    half: bool
    one_by_one: bool


def rewrite(
    foreign: onnx.ModelProto,
    contract: Contract,
    spec: InputSpec,
    crops: Sequence[Image],
    expected: Embeddings,
    name: str,
) -> Rewritten:
    """Return a network that gives the expected rows; raise ModelContractError or ExportError if none does."""
    quantised, half = is_quantised(foreign), is_half(foreign)
    model = _standard(foreign, contract, expected.shape[1])
    opset = opset_of(model)

    def freed() -> onnx.ModelProto:
        return import_encoder(model, name, opset=opset, quantised=quantised)

    def repeated() -> onnx.ModelProto:
        kept = import_encoder(model, name, opset=opset, quantised=quantised, free=False)
        return one_by_one(kept, name)

    first: Exception | None = None
    # A file of one image at a time often has that number in its constants; then it is not freed.
    for build in (freed, repeated) if contract.batch <= 1 else (freed,):
        try:
            encoder = build()
            parity = _compared(encoder, spec, crops, expected, half=half)
        except Exception as error:  # noqa: BLE001 - onnx and numpy each raise their own
            first = first or error
            continue
        return Rewritten(encoder, parity, quantised, half, build is repeated)
    if contract.batch > 1:
        raise ModelContractError(
            f"the file takes {contract.batch} images at a time and its batch cannot be freed: export it with "
            f"a free batch axis, or for one image ({first})"
        ) from first
    if isinstance(first, VerifyKitError):
        raise first
    raise ModelContractError(
        f"the network cannot be rewritten: {type(first).__name__}: {first}; export it with a free batch "
        "axis and the newest exporter"
    ) from first


def _standard(foreign: onnx.ModelProto, contract: Contract, size: int) -> onnx.ModelProto:
    try:
        model, opset = with_supported_opset(in_order(foreign))
        to_standard_form(model, contract, size)
    except ValueError as error:
        raise ModelContractError(str(error)) from error
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    return model


def _compared(
    encoder: onnx.ModelProto,
    spec: InputSpec,
    crops: Sequence[Image],
    expected: Embeddings,
    *,
    half: bool,
) -> Parity:
    session = open_session(encoder)
    found = embed_with_onnx(session, spec, crops)
    alone = embed_with_onnx(session, spec, crops[:BATCH], batch=1)
    return require_equal(expected, found, alone, half=half)
