"""Reasons to refuse a signature: none found, not whole, or too small to compare.

Each limit is where no signature of the development data is refused (``python -m benchmarks.legibility``)
and images of anything else are; docs/explanation/quality.md shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from verifykit.modalities.base import FoundSample, SampleCheck
from verifykit.modalities.signature.ink import Ink


@dataclass(frozen=True)
class SignatureLimits:
    """Limits of a usable signature; ``dataclasses.replace`` changes them.

    Attributes:
        max_ink_share: Share of the ink's box that is ink, in [0, 1]; more is not handwriting.
        max_winding: Length of the strokes over the longer side of the box; more is a photograph or a
            page of text.
        max_stray_share: Share of the paper that is dark without being ink, in [0, 1]; more is not paper.
        min_winding: As ``max_winding``; less is a straight line.
        min_ink_length: Length of the strokes in their own mean widths; less is a dot or a dash.
        min_side_px: Longer side of the ink's box in the image's pixels.
        max_cut_share: Share of the ink that is on the image's border, in [0, 1].
    """

    max_ink_share: float = 0.35
    max_winding: float = 9.0
    max_stray_share: float = 0.03
    min_winding: float = 1.2
    min_ink_length: float = 40.0
    min_side_px: float = 90.0
    max_cut_share: float = 0.02


class SignatureQuality(SampleCheck):
    """Check for one signature, whole and large enough to compare."""

    name = "signature_quality"
    reasons: ClassVar[Mapping[str, str]] = {
        "too_dense": "Show one signature on plain paper and nothing else.",
        "too_little_ink": "Write the whole signature: there is too little ink.",
        "too_small": "Scan at a higher resolution, or write larger.",
        "clipped": "Move to the middle: a part is outside the image.",
    }

    def __init__(self, limits: SignatureLimits | None = None) -> None:
        self.limits = limits or SignatureLimits()

    def measure(self, sample: FoundSample) -> dict[str, float]:
        """Return what :func:`measure_signature` measures."""
        return measure_signature(sample.finding.evidence)

    def judge(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        """Return the reason codes of :func:`signature_reasons`."""
        return signature_reasons(measures, self.limits)


def measure_signature(ink: Ink) -> dict[str, float]:
    """Return measures of the ink of a signature; all 0 without ink.

    They are ``contrast`` (median darkness of the strokes against their paper, 0..255), ``side_px`` (longer
    side of their box in the image's pixels), ``stroke_px`` (mean width in the same pixels), ``ink_share`` (of
    the box, 0..1), ``ink_length`` (in stroke widths), ``winding`` (length over the longer side),
    ``cut_share`` (of the ink on the image's border, 0..1) and ``stray_share`` (of the paper that is dark
    without being ink, 0..1).
    """
    if ink.box_px is None:
        measures = "contrast side_px stroke_px ink_share ink_length winding cut_share stray_share"
        return dict.fromkeys(measures.split(), 0.0)
    left, top, right, bottom = ink.box_px
    area = float(ink.mask.sum())
    width = max(ink.stroke_px, 1.0)
    side = max(right - left, bottom - top)
    return {
        "contrast": ink.contrast,
        "side_px": side / ink.scale,
        "stroke_px": ink.stroke_px / ink.scale,
        "ink_share": area / ((right - left) * (bottom - top)),
        "ink_length": area / width**2,
        "winding": area / width / side,
        "cut_share": ink.cut_share,
        "stray_share": ink.stray_share,
    }


def signature_reasons(measures: Mapping[str, float], limits: SignatureLimits) -> tuple[str, ...]:
    """Return the reason codes that apply to a signature, in a fixed order; empty for a good one.

    Without ink it is ``blank`` alone.
    """
    if measures["side_px"] == 0.0:
        return ("blank",)
    applies = {
        "too_dense": measures["ink_share"] > limits.max_ink_share
        or measures["winding"] > limits.max_winding
        or measures["stray_share"] > limits.max_stray_share,
        "too_little_ink": measures["ink_length"] < limits.min_ink_length
        or measures["winding"] < limits.min_winding,
        "too_small": measures["side_px"] < limits.min_side_px,
        "clipped": measures["cut_share"] > limits.max_cut_share,
    }
    return tuple(code for code, applied in applies.items() if applied)
