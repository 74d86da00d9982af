"""The specification in a model file: :class:`ModelSpec` and its parts.

It is strict JSON inside the ``.onnx`` file. Unknown keys, missing keys and values of the
wrong type are a :class:`~verifykit.errors.ModelContractError`; nothing is guessed.
"""

from __future__ import annotations

from verifykit.spec.cohort import Cohort
from verifykit.spec.crop import CropSpec, DetectorSpec, FivePointCrop, PlainCrop, SignatureCrop
from verifykit.spec.model import Fusion, Modality, ModelSpec, Provenance
from verifykit.spec.operating import Attack, Evidence, OperatingPoint, ScoreScale
from verifykit.spec.population import BandRate, Population
from verifykit.spec.values import Color, InputSpec

__all__ = [
    "Attack",
    "BandRate",
    "Cohort",
    "Color",
    "CropSpec",
    "DetectorSpec",
    "Evidence",
    "FivePointCrop",
    "Fusion",
    "InputSpec",
    "Modality",
    "ModelSpec",
    "OperatingPoint",
    "PlainCrop",
    "Population",
    "Provenance",
    "ScoreScale",
    "SignatureCrop",
]
