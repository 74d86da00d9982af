"""What publishers of face encoders state about their files, by name: an import needs no other options.

Another one is another entry of :data:`PRESETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from verifykit.errors import InputError, ModelContractError, VerifyKitError, shortened, shown
from verifykit.spec import Fusion
from verifykit_export.adaface import read_adaface
from verifykit_export.network import reads
from verifykit_export.original import Contract, read_contract

_BYTE = (127.5,) * 3


@dataclass(frozen=True)
class Preset:
    """What a publisher's files do not say themselves.

    Attributes:
        title: Whose files they are.
        color: Order of the channels that the encoder was trained with.
        licence_hint: What the publisher states about the licence of the weights, as sentences.
        source: Where the files come from.
        training_data: What they were trained on.
        citation: The paper or project to credit.
        file_names: Of the recognition network, in the publisher's archives.
        mean: One value a channel, of pixels 0..255.
        std: One value a channel.
        scaled_by_mxnet: Files of MXNet, which subtract and multiply themselves, are among them.
        read_checkpoint: Returns the network of a checkpoint of torch; None where there are none.
        modality: What it compares.
        crop: What part of an image it sees.
        size_px: Height and width of the crop.
        embedding_size: D.
        fusion: How scores of several references become one.
    """

    title: str
    color: Literal["rgb", "bgr"]
    licence_hint: str
    source: str
    training_data: str
    citation: str
    file_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = _BYTE
    std: tuple[float, ...] = _BYTE
    scaled_by_mxnet: bool = False
    read_checkpoint: Callable[[Path], onnx.ModelProto] | None = None
    modality: str = "face"
    crop: Literal["five_point", "plain"] = "five_point"
    size_px: int = 112
    embedding_size: int = 512
    fusion: Fusion = "mean"  # docs/adr/0007


PRESETS: Mapping[str, Preset] = {
    "arcface": Preset(
        title="ArcFace, as insightface publishes it",
        color="rgb",
        licence_hint=(
            "insightface states that its pretrained models are for non-commercial research only, whatever "
            "the licence of its code: --licence LicenseRef-insightface-non-commercial, or the name of your "
            "own agreement with its authors"
        ),
        source="insightface",
        training_data=(
            "the file does not say; insightface names WebFace600K, Glint360K and MS1M, collections of web "
            "images for non-commercial research"
        ),
        citation=(
            "Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019; "
            "insightface"
        ),
        file_names=("w600k_r50.onnx", "w600k_mbf.onnx", "glintr100.onnx"),
        scaled_by_mxnet=True,
    ),
    "auraface": Preset(
        title="AuraFace of fal",
        color="rgb",
        licence_hint=(
            "fal publishes AuraFace-v1 under Apache-2.0; the detectors and landmark models next to it are "
            "insightface's, for non-commercial research only, and are not imported: --licence Apache-2.0"
        ),
        source="fal/AuraFace-v1",
        training_data="the file does not say; fal names commercially and publicly available data",
        citation="fal, AuraFace-v1; Deng et al., ArcFace, CVPR 2019",
        file_names=("glintr100.onnx",),
    ),
    "adaface": Preset(
        title="AdaFace of its authors",
        color="bgr",
        licence_hint=(
            "AdaFace's code is under MIT; its authors state no licence for the weights, which were trained "
            "on web images for research, and refer to Michigan State University for commercial use: "
            "--licence LicenseRef-adaface-weights, or the name of your own agreement"
        ),
        source="mk-minchul/AdaFace",
        training_data=(
            "the file's name says: CASIA-WebFace, VGGFace2, MS1MV2, MS1MV3, WebFace4M or WebFace12M, "
            "collections of web images for research"
        ),
        citation=(
            "Kim, Jain and Liu, AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022"
        ),
        read_checkpoint=read_adaface,
    ),
}
"""Name to preset."""


def preset_of(name: str) -> Preset:
    """Return a preset; raise InputError if there is none of that name."""
    if name not in PRESETS:
        raise InputError(f"--preset {shown(name)} is unknown: one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def completed(preset: Preset | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an import, those of a preset included.

    Args:
        preset: Whose values are used; None takes the given ones alone.
        given: Options by name; None for those that were not given.

    Raises:
        InputError: An option is missing, or contradicts the preset.
    """
    if preset is None:
        if missing := [name for name, value in given.items() if value is None]:
            raise InputError(
                f"{', '.join(f'--{name}' for name in missing)} must be given: the file does not say; or give "
                f"--preset ({', '.join(sorted(PRESETS))})"
            )
        return dict(given)
    own = {
        "modality": preset.modality,
        "color": preset.color,
        "mean": preset.mean,
        "std": preset.std,
        "scale": 1.0,
        "crop": preset.crop,
    }
    for name, value in own.items():
        if given.get(name) not in (None, value):
            raise InputError(
                f"--{name} {given[name]} was given, the preset has {value}: leave out one of them"
            )
    if given.get("licence") is None:
        raise InputError(
            f"--licence must be given, the terms of the weights. {preset.licence_hint}"
        )
    texts = {"source": preset.source, "licence": ""}
    return {**own, **{name: given.get(name) or text for name, text in texts.items()}}


def recognition_output(model: onnx.ModelProto, preset: Preset, output: str | None) -> str | None:
    """Return the output that is the embedding, as requested or by its size; None for the only one.

    AdaFace's network returns the length of a row next to it.
    """
    outputs = model.graph.output
    if output is not None or len(outputs) == 1:
        return output
    sized = [item.name for item in outputs if _dims(item)[-1:] == [preset.embedding_size]]
    return sized[0] if len(sized) == 1 else None


def is_recognition(model: onnx.ModelProto, preset: Preset) -> bool:
    """Return whether a network has the form of a preset's encoders."""
    try:
        contract = read_contract(model, "nchw", recognition_output(model, preset, None))
        require_form(model, contract, preset)
    except VerifyKitError:
        return False
    return True


def require_form(model: onnx.ModelProto, contract: Contract, preset: Preset) -> None:
    """Raise ModelContractError unless a network has the form of a preset's encoders."""
    side = preset.size_px
    image = (contract.channels, contract.height, contract.width)
    if any(found not in (0, stated) for found, stated in zip(image, (3, side, side), strict=True)):
        raise ModelContractError(
            f"encoders of {preset.title} take (N, 3, {side}, {side}), this network takes "
            f"(N, {', '.join(map(str, image))})"
        )
    chosen = next(item for item in model.graph.output if item.name == contract.output)
    dims = _dims(chosen)
    if dims and (len(dims) != 2 or dims[1] not in (0, preset.embedding_size)):
        raise ModelContractError(
            f"encoders of {preset.title} return (N, {preset.embedding_size}), output "
            f"{shown(chosen.name)} of this network has the shape {dims}"
        )


def scales_itself(model: onnx.ModelProto, contract: Contract) -> bool:
    """Return whether a network subtracts from its input and multiplies it, before anything else.

    insightface decides by the same two nodes, from MXNet, whether its own mean and deviation are used.
    """
    tensor, found = contract.input, set[str]()
    while True:
        readers = [node for node in model.graph.node if tensor in reads(node)]
        if len(readers) != 1 or readers[0].op_type not in ("Sub", "Mul", "Identity"):
            return {"Sub", "Mul"} <= found
        found.add(readers[0].op_type)
        tensor = readers[0].output[0]


def described(model: onnx.ModelProto) -> str:
    """Return a network's inputs and outputs in short, to choose one of several by."""
    made = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in made]
    shapes = ["x".join(str(dim or "?") for dim in _dims(item)) for item in inputs]
    return f"input {shortened(', '.join(shapes))}, {len(model.graph.output)} output(s)"


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
