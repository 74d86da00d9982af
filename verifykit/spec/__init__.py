"""What a model file says about itself: :class:`ModelSpec` and its parts.

The specification is strict JSON inside the ``.onnx`` file. Unknown keys, missing keys and values of the
wrong type are a :class:`~verifykit.errors.ModelContractError`; nothing is guessed.
"""

from __future__ import annotations

from verifykit.spec.crop import CropSpec, DetectorSpec, FivePointCrop, PlainCrop, SignatureCrop
from verifykit.spec.model import (
    Attack,
    Fusion,
    Modality,
    ModelSpec,
    OperatingPoint,
    Provenance,
)
from verifykit.spec.values import Color, InputSpec

__all__ = [
    "Attack",
    "Color",
    "CropSpec",
    "DetectorSpec",
    "FivePointCrop",
    "Fusion",
    "InputSpec",
    "Modality",
    "ModelSpec",
    "OperatingPoint",
    "PlainCrop",
    "Provenance",
    "SignatureCrop",
]
