"""The specification of a model as a whole."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import sys
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from verifykit.errors import CalibrationError, ModelContractError, shown
from verifykit.spec.cohort import Cohort
from verifykit.spec.crop import CropSpec
from verifykit.spec.operating import Attack, Evidence, OperatingPoint, ScoreScale
from verifykit.spec.population import Population
from verifykit.spec.strict_json import build, canonical, plain
from verifykit.spec.values import InputSpec

SCHEMA = 5

Modality: TypeAlias = str
"""Name of a modality: ``"face"``, ``"signature"``, ``"plain"``, or one that was registered."""

MODALITIES_GROUP = "verifykit.modalities"
"""Entry point group of modules that register a modality when they are imported."""

MODALITIES: set[str] = {"face", "signature", "plain"}
"""Names of the modalities that a model file may state; see ``verifykit.modalities.register``."""

Fusion = Literal["max", "mean", "centroid", "spread"]


def require_modality(name: str, where: str) -> None:
    """Raise for an unknown modality, after importing the modalities that other distributions register.

    Raises:
        ModelContractError: No modality of that name is registered.
    """
    if name not in MODALITIES:
        for point in importlib.metadata.entry_points(group=MODALITIES_GROUP):
            point.load()
    if name not in MODALITIES:
        raise ModelContractError(
            f"{where}: {shown(name)} is not a known modality; known: {', '.join(sorted(MODALITIES))}; "
            "import the package that registers it"
        )


@dataclass(frozen=True)
class Provenance:
    """Where the model comes from.

    Attributes:
        source: Package and file of the weights, or the training run.
        source_sha256: Checksum of that file; of several files, of their checksums one after the other.
        training_data: The data sets it was trained on, and their terms.
        calibration_data: The data sets its operating points were measured on.
        citation: The paper or project to credit.
    """

    source: str
    source_sha256: str
    training_data: str
    calibration_data: str
    citation: str


@dataclass(frozen=True)
class ModelSpec:
    """Everything that the runtime must know about a model, as the model file states it.

    Attributes:
        name: Its name in the registry, or the file's own.
        modality: Name of its modality.
        input: Values fed to the network.
        crop: Geometry from image to crop.
        embedding_size: D, the length of an embedding.
        weights_sha256: Digest of the network's graph and weights. A network may join several encoders, each
            with a window of the crop; then the digest, and the golden embedding, cover all of them.
        golden_embedding: (D,) unit embedding of the golden image, reproduced at every load.
        licence: SPDX identifier; required.
        provenance: Where it comes from.
        operating_points: Calibrated thresholds, may be empty.
        default_fmr: The false match rate used when none is requested; None without calibration. It is
            a rate of ``default_attack`` and of no other.
        default_attack: The attack whose operating points the default uses.
        fusion: How scores against several templates of one subject become one.
        golden_tolerance: Least cosine to the golden embedding: 0.999, for int8 0.99.
        evidence: Log-likelihood ratios of scores; may be empty.
        cohort: Lowers the scores of look-alikes (docs/adr/0018); None for bare cosines.
        population: Of whom and of which conditions the rates of the operating points are, human-readable;
            None where nothing says so.
        populations: Further thresholds, for other people; requested by name, may be empty.
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
    evidence: tuple[Evidence, ...] = ()
    cohort: Cohort | None = None
    population: str | None = None
    populations: tuple[Population, ...] = ()
    digest: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        require_modality(self.modality, "spec.modality")
        if not self.licence.strip():
            raise ModelContractError(f"model {shown(self.name)}: licence is empty; it is required")
        if len(self.golden_embedding) != self.embedding_size:
            raise ModelContractError(
                f"model {shown(self.name)}: golden embedding has {len(self.golden_embedding)} values, "
                f"embedding_size is {self.embedding_size}"
            )
        if (self.crop.height_px, self.crop.width_px) != (self.input.height_px, self.input.width_px):
            raise ModelContractError(
                f"model {shown(self.name)}: crop is {self.crop.height_px}x{self.crop.width_px} px, "
                f"input is {self.input.height_px}x{self.input.width_px} px"
            )
        identity = {
            "weights": self.weights_sha256,
            "input": plain(self.input),
            "crop": plain(self.crop),
        }
        object.__setattr__(self, "digest", hashlib.sha256(canonical(identity)).hexdigest())

    def of_population(self, name: str) -> ModelSpec:
        """Return the same model with the thresholds of a population in place of its usual ones.

        Its digest is the same: galleries stay valid. It has no log-likelihood ratios, which were measured on
        the usual people.

        Args:
            name: A name of :attr:`populations`, such as ``"any"``.

        Raises:
            CalibrationError: The model has no population of that name; the message lists those it has.
        """
        found = next((each for each in self.populations if each.name == name), None)
        if found is None:
            known = ", ".join(shown(each.name) for each in self.populations) or "none"
            raise CalibrationError(
                f"model {shown(self.name)} has no thresholds for population {shown(name)}; it has: {known}. "
                "Request none of them for the usual ones, or measure your own (verifykit calibrate --band)"
            )
        return replace(
            self,
            operating_points=found.operating_points,
            evidence=(),
            default_fmr=found.default_fmr,
            default_attack=found.default_attack,
            population=found.description,
        )

    def operating_point(
        self,
        fmr: float | None = None,
        attack: Attack | None = None,
        references: int | None = 1,
    ) -> OperatingPoint:
        """Return the calibrated point for a false match rate and a number of references.

        Of the points with no more references than the subject has, those of the most references decide.
        Under mean fusion a point of fewer errs on the strict side: the mean over fewer non-mated scores
        spreads more widely, its tail reaches higher, and so does the threshold that holds the rate. If the
        most references are not calibrated down to ``fmr``, fewer are used there. Under the
        other fusions fewer would be too lenient (docs/adr/0008), and it is an error.

        Args:
            fmr: The requested rate, in (0, 1); None takes the model's default.
            attack: The kind of non-mated comparison; None takes the model's default.
            references: Number of references that the subject has, at least 1; None is any number, and takes
                the strictest point: of one reference under mean fusion, else of the most.

        Returns:
            The point of exactly that rate, or, between two points, the one with the next lower
            rate: its rate is never above the requested one.

        Raises:
            CalibrationError: The model has no operating points for this attack, none with so few
                references, none as low as ``fmr``, or no default rate for this attack.
            ValueError: ``fmr`` is not in (0, 1), or ``references`` is below 1.
        """
        attack = attack or self.default_attack
        usable = self._usable_points(attack, references)
        # A rate of skilled forgeries is no rate of random ones: the default is one of its own attack.
        default = self.default_fmr if attack == self.default_attack else None
        rate = default if fmr is None else fmr
        if rate is None:
            raise CalibrationError(
                f"model {shown(self.name)} has no default false match rate for attack {shown(attack)}: "
                "give fmr= or threshold="
            )
        if not 0.0 < rate < 1.0:
            raise ValueError(f"fmr must be in (0, 1), got {rate}")
        reached = [point for point in usable if point.fmr <= rate * (1 + 1e-9)]
        if not reached:
            lowest = min(usable, key=lambda point: point.fmr)
            needed = 3 / rate  # infinite for the smallest numbers
            least = f"{needed:.2g}" if needed > 1e15 else math.ceil(round(needed, 3))
            raise CalibrationError(
                f"model {shown(self.name)} is calibrated down to FMR {lowest.fmr:g} on "
                f"{lowest.non_mated_count} non-mated comparisons with {lowest.reference_count} "
                f"reference(s); FMR {rate:g} requires at least {least} of them: "
                "calibrate on more images, or request a higher rate"
            )
        return max(reached, key=lambda point: (point.reference_count, point.fmr))

    def score_scale(
        self, attack: Attack | None = None, references: int | None = 1
    ) -> ScoreScale | None:
        """Return the scale that converts scores to rates, for a number of references.

        Args:
            attack: The kind of non-mated comparison; None takes the model's default.
            references: As for :meth:`operating_point`.

        Returns:
            The scale of the most calibrated references that are not more than these (under mean
            fusion, for any number, of the fewest); None where there is none.
        """
        attack = attack or self.default_attack
        try:
            usable = self._usable_points(attack, references)
        except CalibrationError:
            return None
        count = max(point.reference_count for point in usable)
        return self.scale_of(attack, count)

    def scale_of(self, attack: Attack, reference_count: int) -> ScoreScale:
        """Return the scale of the points with exactly this attack and number of references.

        Args:
            attack: The kind of non-mated comparison.
            reference_count: Number of references; points of that number exist.
        """
        key = (attack, reference_count)
        return ScoreScale(
            tuple(p for p in self.operating_points if (p.attack, p.reference_count) == key),
            next((e for e in self.evidence if (e.attack, e.reference_count) == key), None),
        )

    def _usable_points(self, attack: Attack, references: int | None) -> list[OperatingPoint]:
        if references is not None and references < 1:
            raise ValueError(f"references must be at least 1, got {references}")
        points = [point for point in self.operating_points if point.attack == attack]
        if not points:
            known = sorted({point.attack for point in self.operating_points})
            others = (
                f"request attack={' or '.join(map(repr, known))} by its rate, " if known else ""
            )
            raise CalibrationError(
                f"model {shown(self.name)} is not calibrated for attack {shown(attack)}: {others}give "
                "threshold=, or calibrate it on your own images (verifykit calibrate)"
            )
        fewest = min(point.reference_count for point in points)
        if references is None:
            references = fewest if self.fusion == "mean" else sys.maxsize
        usable = [point for point in points if point.reference_count <= references]
        if not usable:
            raise CalibrationError(
                f"model {shown(self.name)} is calibrated for attack {shown(attack)} with {fewest} "
                f"references and more, not with {references}: verify against a subject with more, or give "
                "threshold="
            )
        if self.fusion != "mean":
            most = max(point.reference_count for point in usable)
            usable = [point for point in usable if point.reference_count == most]
        return usable

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, shortest floats; equal specs give equal bytes."""
        return canonical({"schema": SCHEMA, **plain(self)}).decode()

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Return the specification that :meth:`to_json` wrote, in this schema or an older one.

        Args:
            text: The JSON.

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
        if schema not in (*_UPGRADES, SCHEMA):
            raise ModelContractError(
                f"the model's specification has schema {shown(schema)}, this verifykit reads 1 to {SCHEMA}: "
                "install the verifykit that wrote it, or export the model again"
            )
        for older in range(schema, SCHEMA):
            _UPGRADES[older](body)
        if isinstance(name := body.get("modality"), str):
            require_modality(name, "spec.modality")
        return build(cls, body, "spec")


def _upgrade_from_1(body: dict[str, Any]) -> None:
    """Add the number of references; schema 1 had points of single references only."""
    for point in _points(body):
        if "reference_count" in point:
            raise ModelContractError("spec.operating_points: reference_count is not of schema 1")
        point["reference_count"] = 1


def _upgrade_from_2(body: dict[str, Any]) -> None:
    """Add empty intervals, FNMR, evidence and cohort, which schema 2 did not have."""
    for point in _points(body):
        for name in ("fmr_interval", "fnmr", "fnmr_interval"):
            if name in point:
                raise ModelContractError(f"spec.operating_points: {name} is not of schema 2")
            point[name] = None
    for name, empty in (("evidence", []), ("cohort", None)):
        if name in body:
            raise ModelContractError(f"spec: {name} is not of schema 2")
        body[name] = empty


def _upgrade_from_3(body: dict[str, Any]) -> None:
    """Add no population; refuse a cohort, whose thresholds were for scores divided by deviations."""
    if "population" in body:
        raise ModelContractError("spec: population is not of schema 3")
    body["population"] = None
    if body.get("cohort") is not None:
        raise ModelContractError(
            "spec.cohort is of schema 3, whose thresholds are for another kind of score: calibrate the model "
            "again (verifykit calibrate)"
        )


def _upgrade_from_4(body: dict[str, Any]) -> None:
    """Add no populations, which schema 4 did not have."""
    if "populations" in body:
        raise ModelContractError("spec: populations is not of schema 4")
    body["populations"] = []


def _points(body: dict[str, Any]) -> list[dict[str, Any]]:
    points = body.get("operating_points")
    return [p for p in points if isinstance(p, dict)] if isinstance(points, list) else []


_UPGRADES = {1: _upgrade_from_1, 2: _upgrade_from_2, 3: _upgrade_from_3, 4: _upgrade_from_4}
