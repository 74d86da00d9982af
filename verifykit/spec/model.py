"""What a model file says about itself as a whole."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from verifykit.errors import CalibrationError, ModelContractError
from verifykit.spec.crop import CropSpec
from verifykit.spec.strict_json import build, canonical, plain
from verifykit.spec.values import InputSpec

__all__ = ["Attack", "Fusion", "Modality", "ModelSpec", "OperatingPoint", "Provenance"]

SCHEMA = 2

Modality = Literal["face", "signature", "plain"]
Attack = Literal["random_forgery", "skilled_forgery"]
Fusion = Literal["max", "mean", "centroid", "spread"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and the false match rate that it was measured to stand for.

    Attributes:
        fmr: False match rate, in (0, 1).
        threshold: Cosine similarity; match is ``score >= threshold``.
        non_mated_count: Non-mated comparisons that it stands on, at least ``3 / fmr``.
        false_match_count: Of those, how many reached the threshold.
        attack: ``"random_forgery"`` is a sample of some other subject (ISO/IEC 19795-1: zero effort),
            ``"skilled_forgery"`` an imitation.
        reference_count: With how many references of a subject it was measured, at least 1. The model's
            fusion makes one score of theirs, and the same threshold means another rate for another
            number of them.
    """

    fmr: float
    threshold: float
    non_mated_count: int
    false_match_count: int
    attack: Attack = "random_forgery"
    reference_count: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.fmr < 1.0:
            raise ModelContractError(f"operating point: fmr must be in (0, 1), got {self.fmr}")
        if not math.isfinite(self.threshold):
            raise ModelContractError(f"operating point: threshold {self.threshold} is not finite")
        if self.reference_count < 1:
            raise ModelContractError(
                f"operating point: reference_count must be at least 1, got {self.reference_count}"
            )
        # The rule of three, with room for the rounding of 3 / 1e-6.
        if self.non_mated_count < 3.0 / self.fmr * (1 - 1e-9):
            raise ModelContractError(
                f"operating point: FMR {self.fmr:g} needs {math.ceil(3 / self.fmr)} non-mated "
                f"comparisons, it has {self.non_mated_count}"
            )


@dataclass(frozen=True)
class Provenance:
    """Where the model comes from.

    Attributes:
        source: Carrier and file, or the training run.
        source_sha256: Checksum of that file.
        training_data: The sets it was trained on, and their terms.
        calibration_data: The sets its operating points were measured on.
        citation: The paper or project to credit.
    """

    source: str
    source_sha256: str
    training_data: str
    calibration_data: str
    citation: str


@dataclass(frozen=True)
class ModelSpec:
    """Everything the runtime must know about a model, as the model file states it.

    Attributes:
        name: Its name in the registry, or the file's own.
        modality: What it compares.
        input: Values fed to the network.
        crop: Geometry from image to crop.
        embedding_size: D, the length of an embedding.
        weights_sha256: Digest of the network's graph and weights.
        golden_embedding: (D,) unit embedding of the golden image, reproduced at every load.
        licence: SPDX identifier; required.
        provenance: Where it comes from.
        operating_points: Calibrated thresholds, may be empty.
        default_fmr: The false match rate used when none is asked for; None without calibration. It is
            a rate of ``default_attack`` and of no other.
        default_attack: Which operating points the default takes.
        fusion: How scores against several templates of one subject become one.
        golden_tolerance: Least cosine to the golden embedding: 0.999, for int8 0.99.
        digest: SHA-256 of weights, input and crop, in hexadecimal; templates are bound to it.
    """

    name: str
    modality: Modality
    input: InputSpec
    crop: CropSpec
    embedding_size: int
    weights_sha256: str
    golden_embedding: tuple[float, ...]
    licence: str
    provenance: Provenance
    operating_points: tuple[OperatingPoint, ...] = ()
    default_fmr: float | None = None
    default_attack: Attack = "random_forgery"
    fusion: Fusion = "max"
    golden_tolerance: float = 0.999
    digest: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        if not self.licence.strip():
            raise ModelContractError(f"model {self.name!r}: licence is empty; it is required")
        if len(self.golden_embedding) != self.embedding_size:
            raise ModelContractError(
                f"model {self.name!r}: golden embedding has {len(self.golden_embedding)} values, "
                f"embedding_size is {self.embedding_size}"
            )
        if (self.crop.height_px, self.crop.width_px) != (self.input.height_px, self.input.width_px):
            raise ModelContractError(
                f"model {self.name!r}: crop is {self.crop.height_px}x{self.crop.width_px} px, "
                f"input is {self.input.height_px}x{self.input.width_px} px"
            )
        identity = {
            "weights": self.weights_sha256,
            "input": plain(self.input),
            "crop": plain(self.crop),
        }
        object.__setattr__(self, "digest", hashlib.sha256(canonical(identity)).hexdigest())

    def operating_point(
        self,
        fmr: float | None = None,
        attack: Attack | None = None,
        references: int | None = 1,
    ) -> OperatingPoint:
        """The calibrated point for a false match rate and a number of references.

        Of the points with no more references than the subject has, those of the most references decide.
        Under mean fusion a point of fewer errs on the strict side: the mean over fewer non-mated scores
        spreads more widely, its tail reaches higher, and so does the threshold that holds the rate. So
        there, where the most references are not calibrated down to ``fmr``, fewer are taken. Under the
        other fusions fewer would be too lenient (docs/adr/0008), and it is an error.

        Args:
            fmr: The rate asked for, in (0, 1); None takes the model's default.
            attack: Which non-mated comparisons are meant; None takes the model's default.
            references: How many references the subject has, at least 1; None is any number, and takes the
                strictest point: of one reference under mean fusion, else of the most.

        Returns:
            The point of exactly that rate, or, between two points, the one with the next lower
            rate: it accepts no more than was asked for.

        Raises:
            CalibrationError: The model has no operating points for this attack, none with so few
                references, none as low as ``fmr``, or no default rate for this attack.
            ValueError: ``fmr`` is not in (0, 1), or ``references`` is below 1.
        """
        if references is not None and references < 1:
            raise ValueError(f"references must be at least 1, got {references}")
        attack = attack or self.default_attack
        points = [point for point in self.operating_points if point.attack == attack]
        if not points:
            raise CalibrationError(
                f"model {self.name!r} is not calibrated for attack {attack!r}: give threshold=, or "
                "calibrate it on your own pictures"
            )
        fewest = min(point.reference_count for point in points)
        if references is None:
            references = fewest if self.fusion == "mean" else sys.maxsize
        usable = [point for point in points if point.reference_count <= references]
        if not usable:
            raise CalibrationError(
                f"model {self.name!r} is calibrated for attack {attack!r} with {fewest} references and "
                f"more, not with {references}: verify against a subject with more, or give threshold="
            )
        if self.fusion != "mean":
            most = max(point.reference_count for point in usable)
            usable = [point for point in usable if point.reference_count == most]
        # The default is a rate of the default attack: 1 in 20 skilled forgeries is not 1 in 20 strangers.
        default = self.default_fmr if attack == self.default_attack else None
        wanted = default if fmr is None else fmr
        if wanted is None:
            raise CalibrationError(
                f"model {self.name!r} has no default false match rate for attack {attack!r}: give fmr= "
                "or threshold="
            )
        if not 0.0 < wanted < 1.0:
            raise ValueError(f"fmr must be in (0, 1), got {wanted}")
        reached = [point for point in usable if point.fmr <= wanted * (1 + 1e-9)]
        if not reached:
            lowest = min(usable, key=lambda point: point.fmr)
            raise CalibrationError(
                f"model {self.name!r} is calibrated down to FMR {lowest.fmr:g} on "
                f"{lowest.non_mated_count} non-mated comparisons with {lowest.reference_count} "
                f"reference(s); FMR {wanted:g} takes at least {math.ceil(3 / wanted)}"
            )
        return max(reached, key=lambda point: (point.reference_count, point.fmr))

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, shortest floats; equal specs give equal bytes."""
        return canonical({"schema": SCHEMA, **plain(self)}).decode()

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse what :meth:`to_json` wrote, in this schema or an older one.

        Raises:
            ModelContractError: Not JSON, another schema number, or a key that is unknown, missing or
                of the wrong type; the message names it.
        """
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ModelContractError(f"the model's specification is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise ModelContractError("the model's specification is not a JSON object")
        schema = body.pop("schema", None)
        if schema == 1:
            _upgrade_from_1(body)
        elif schema != SCHEMA:
            raise ModelContractError(
                f"the model's specification has schema {schema!r}, this verifykit reads 1 to {SCHEMA}: "
                "install the verifykit that wrote it, or export the model again"
            )
        return build(cls, body, "spec")


def _upgrade_from_1(body: dict[str, Any]) -> None:
    """Schema 1 knew single pairs only, and did not say so."""
    points = body.get("operating_points")
    for point in points if isinstance(points, list) else ():
        if isinstance(point, dict):
            if "reference_count" in point:
                raise ModelContractError(
                    "spec.operating_points: reference_count is not of schema 1"
                )
            point["reference_count"] = 1
