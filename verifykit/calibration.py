"""A calibration: thresholds and evidence for one model, as a file of its own.

A model file contains one; ``verifykit calibrate`` makes another from a user's own images. It is bound to
the model by the digest of weights, input and crop, and to the fusion.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifykit.errors import CalibrationError, ModelContractError, shortened, shortened_path, shown
from verifykit.spec import (
    Attack,
    Cohort,
    Evidence,
    Fusion,
    ModelSpec,
    OperatingPoint,
    Population,
)
from verifykit.spec.strict_json import build, plain

FORMAT_KEY = "verifykit_calibration"
FORMAT = 3


@dataclass(frozen=True)
class Calibration:
    """Operating points and evidence for one model, and the data they were measured on.

    Attributes:
        model: The model's name, for display.
        spec_digest: Digest of its weights, input and crop: the calibration is valid for no other model.
        fusion: How scores against several references became one.
        operating_points: Thresholds with their rates, counts and intervals.
        evidence: Log-likelihood ratios; may be empty.
        default_fmr: The false match rate used when none is requested; None if there is none.
        default_attack: The kind of non-mated comparison that this rate is about.
        data: Description of the data.
        data_digest: SHA-256 over the images' contents and subjects.
        subject_count: Subjects with at least one usable image.
        image_count: Usable images.
        failures: Images that gave no template, by reason code, as (reason, count).
        multi_face: What was done with several faces in an image.
        quality: Whether weak samples were refused: ``"strict"`` or ``"warn"``.
        created: Time of the measurement, ISO 8601 in UTC.
        verifykit_version: Version that measured.
        cohort: Lowers the scores of look-alikes; None for bare cosines.
        population: Of whom and of which conditions the rates are, human-readable; None if not said.
        populations: Further thresholds, for other people; requested by name, may be empty.
    """

    model: str
    spec_digest: str
    fusion: Fusion
    operating_points: tuple[OperatingPoint, ...]
    evidence: tuple[Evidence, ...]
    default_fmr: float | None
    default_attack: Attack
    data: str
    data_digest: str
    subject_count: int
    image_count: int
    failures: tuple[tuple[str, int], ...]
    multi_face: str
    quality: str
    created: str
    verifykit_version: str
    cohort: Cohort | None = None
    population: str | None = None
    populations: tuple[Population, ...] = ()

    def apply(self, spec: ModelSpec) -> ModelSpec:
        """Return the model's specification with this calibration in place of its own.

        Its digest is the same: galleries stay valid.

        Args:
            spec: The model.

        Raises:
            CalibrationError: It was made for another model, or for another fusion.
        """
        if spec.digest != self.spec_digest:
            raise CalibrationError(
                f"this calibration is of model {shown(self.model)} {self.spec_digest[:12]}, not of "
                f"{shown(spec.name)} {spec.digest[:12]}: the scores of two models have nothing in common; "
                "calibrate this model (verifykit calibrate)"
            )
        if self.cohort is not None and self.cohort.embedding_size != spec.embedding_size:
            raise CalibrationError(
                f"this calibration's cohort has {self.cohort.embedding_size} values an embedding, model "
                f"{shown(spec.name)} has {spec.embedding_size}: calibrate it again"
            )
        if spec.fusion != self.fusion:
            raise CalibrationError(
                f"this calibration is for fusion {shown(self.fusion)}, model {shown(spec.name)} fuses by "
                f"{shown(spec.fusion)}: calibrate it again"
            )
        return dataclasses.replace(
            spec,
            operating_points=self.operating_points,
            evidence=self.evidence,
            cohort=self.cohort,
            population=self.population,
            populations=self.populations,
            default_fmr=self.default_fmr,
            default_attack=self.default_attack,
            provenance=dataclasses.replace(spec.provenance, calibration_data=self.origin()),
        )

    def origin(self) -> str:
        """Return one sentence about the data, as a model card states it."""
        lost = sum(count for _, count in self.failures)
        return (
            f"{self.data}: {self.image_count} images of {self.subject_count} subjects, {lost} more gave no "
            f"template; multi_face {self.multi_face}, quality {self.quality}; data sha256 "
            f"{self.data_digest}; {self.created[:10]}"
        )

    def to_json(self) -> str:
        """Return indented JSON that ends with a line feed; equal calibrations give equal text."""
        body = {FORMAT_KEY: FORMAT, **plain(self)}
        return json.dumps(body, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "calibration") -> Calibration:
        """Return the calibration that :meth:`to_json` wrote.

        Args:
            text: The JSON.
            where: Name of the source in messages.

        Raises:
            CalibrationError: Not JSON, not a calibration, of a newer format, or a key is unknown, missing
                or of the wrong type; the message names it.
        """
        try:
            body: Any = json.loads(text)
        except ValueError as error:
            raise CalibrationError(f"{where} is not JSON: {shortened(error)}") from error
        if not isinstance(body, dict) or FORMAT_KEY not in body:
            raise CalibrationError(
                f"{where} is not a calibration: `verifykit calibrate` writes them"
            )
        found = body.pop(FORMAT_KEY)
        if found == 1 and body.get("cohort") is not None:
            raise CalibrationError(
                f"{where} is of format 1 and has a cohort, whose thresholds are for another kind of score: "
                "calibrate again (verifykit calibrate --cohort)"
            )
        if found not in (1, 2, FORMAT):
            raise CalibrationError(
                f"{where} has format {shown(found)}, this verifykit reads 1 to {FORMAT}: install the "
                "verifykit that wrote it, or calibrate again"
            )
        if found == 1:
            body.setdefault("population", None)
        if found < FORMAT:
            body.setdefault("populations", [])
        try:
            return build(cls, body, "calibration")
        except ModelContractError as error:
            raise CalibrationError(f"{where}: {error}") from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Calibration:
        """Return the calibration in a file.

        Args:
            path: A file that ``verifykit calibrate`` wrote.

        Raises:
            CalibrationError: It cannot be read, or is not a calibration; the message says why.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise CalibrationError(
                f"calibration {shown(str(path))} cannot be read: {why}"
            ) from shortened_path(error)
        return cls.from_json(text, f"calibration {shown(str(path))}")
