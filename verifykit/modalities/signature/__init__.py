"""Signatures: ink found on paper, centred on a canvas, checked for quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from verifykit.errors import AcquisitionError
from verifykit.modalities.base import Capture, Detector, Finding, Modality, SampleCheck
from verifykit.modalities.signature.crop import crop_signature
from verifykit.modalities.signature.ink import find_ink
from verifykit.modalities.signature.quality import SignatureLimits, SignatureQuality
from verifykit.spec import CropSpec, SignatureCrop
from verifykit.types import Image

__all__ = ["SignatureLimits", "SignatureModality", "SignatureQuality"]


class SignatureModality(Modality):
    """Handwritten signatures on paper or on a pen canvas."""

    name = "signature"
    label = "Signatures"
    noun = "signature"
    plural = "signatures"
    crop_spec = SignatureCrop
    capture: ClassVar[Capture] = "pen"
    reference_count = 5
    reasons: ClassVar[Mapping[str, str]] = {
        "blank": "Write with a dark pen on light paper: no ink was found.",
    }
    checks: ClassVar[tuple[SampleCheck, ...]] = (SignatureQuality(),)

    def find(self, image: Image, spec: CropSpec, detector: Detector | None) -> list[Finding]:
        """Return the ink of the one signature in an image."""
        assert isinstance(spec, SignatureCrop)  # noqa: S101 - by the registry
        ink = find_ink(image, spec)
        if ink.box_px is None:
            raise AcquisitionError(
                f"no ink was found in this image of {image.shape[0]}x{image.shape[1]} px: nothing on it is "
                f"darker than its paper by {spec.min_contrast:g} of 255; scan it again with more contrast",
                reason="blank",
            )
        return [Finding(evidence=ink)]

    def crop(self, image: Image, spec: CropSpec, finding: Finding) -> Image:
        """Return the ink, centred on the canvas."""
        assert isinstance(spec, SignatureCrop)  # noqa: S101 - by the registry
        ink = find_ink(image, spec) if finding.evidence is None else finding.evidence
        return crop_signature(ink, spec)
