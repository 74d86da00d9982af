"""A tiny model, its registry entries and its builder."""

from __future__ import annotations

from tests.helpers.model_specs import plain_spec
from verifykit.modelfile import SPEC_KEY, append_checksum, metadata_entry
from verifykit.spec import ModelSpec

SPEC = plain_spec()
REGISTRY = """
[{name}]
modality = "plain"
licence = "Apache-2.0"
summary = "For tests."
spec_digest = "{spec_digest}"
calibration_digest = "{calibration_digest}"
"""
BUILT = 'builder = "tiny"\ncarrier = "carrier==1.0"\nextra = "tiny"\n'
BUILDER = """
    from pathlib import Path
    def build(target):
        target.write_bytes(Path(__file__).with_name("product.onnx").read_bytes())
"""


def model_bytes(spec: ModelSpec = SPEC) -> bytes:
    return append_checksum(metadata_entry(SPEC_KEY, spec.to_json()))
