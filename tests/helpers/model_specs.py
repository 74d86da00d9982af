"""Specifications for tests without a model file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.spec import (
    DetectorSpec,
    FivePointCrop,
    InputSpec,
    ModelSpec,
    OperatingPoint,
    PlainCrop,
    Provenance,
    SignatureCrop,
)

DETECTOR = DetectorSpec("yunet", "d" * 64, "bgr", (640,), 0.7, 0.3, "MIT")
FACE_CROP = FivePointCrop(112, 112, ARCFACE_112_PX, DETECTOR)
FACE_INPUT = InputSpec(112, 112, "rgb", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
POINTS = (
    OperatingPoint(1e-2, 0.2, 3_000_000, 30_000),
    OperatingPoint(1e-4, 0.4, 3_000_000, 300),
    OperatingPoint(1e-6, 0.6, 3_000_000, 3),
)


def face_spec(**changes: Any) -> ModelSpec:
    spec = ModelSpec(
        name="test-face",
        modality="face",
        input=FACE_INPUT,
        crop=FACE_CROP,
        embedding_size=4,
        weights_sha256="a" * 64,
        golden_embedding=(1.0, 0.0, 0.0, 0.0),
        licence="Apache-2.0",
        provenance=Provenance("test", "b" * 64, "none", "none", "none"),
        operating_points=POINTS,
        default_fmr=1e-4,
    )
    return replace(spec, **changes)


def plain_spec(height_px: int = 8, width_px: int = 8, **changes: Any) -> ModelSpec:
    return face_spec(
        name="test-plain",
        modality="plain",
        crop=PlainCrop(height_px, width_px, "stretch"),
        input=replace(FACE_INPUT, height_px=height_px, width_px=width_px),
        **changes,
    )


def signature_spec(**changes: Any) -> ModelSpec:
    grey = InputSpec(96, 288, "grey", 1 / 255, (0.0,), (1.0,))
    return face_spec(
        name="test-signature",
        modality="signature",
        crop=SignatureCrop(96, 288),
        input=grey,
        fusion="spread",
        **changes,
    )


NEWER = {
    1: ("reference_count", "fmr_interval", "fnmr", "fnmr_interval"),
    2: ("fmr_interval", "fnmr", "fnmr_interval"),
    3: (),
}


def older_json(spec: ModelSpec, schema: int) -> str:
    """Return a specification as an older schema wrote it: without later keys."""
    body = json.loads(spec.to_json())
    assert (body.pop("population"), body.pop("populations")) == (None, [])
    if schema < 3:
        assert (body.pop("evidence"), body.pop("cohort")) == ([], None)
    for point in body["operating_points"]:
        for name in NEWER[schema]:
            del point[name]
    return json.dumps({**body, "schema": schema}, sort_keys=True, separators=(",", ":"))
