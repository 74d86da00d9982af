"""The models that have a name: ``registry.toml``, read strictly.

A registered model is either a file that the package ships, or one that a builder makes on first use
from weights that another package carries. Both are pinned by two digests: of weights, input and
crop, and of the calibration. Another file is not that model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import ModelContractError, shown
from verifykit.spec import Modality, ModelSpec
from verifykit.spec.model import require_modality
from verifykit.spec.strict_json import build, canonical, plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class RegistryEntry:
    """What the registry states about one model.

    Attributes:
        name: The name that applications use.
        modality: What it compares.
        licence: SPDX expression of the weights.
        summary: One sentence, human-readable.
        spec_digest: :attr:`ModelSpec.digest` that the file must have.
        calibration_digest: :func:`calibration_digest` that the file must have.
        file: File name next to the registry, for a model that the package ships; else empty.
        builder: Name in the entry-point group ``verifykit.builders``, for a built one; else empty.
        carrier: The package that carries the weights for the builder; else empty.
        extra: The extra of verifykit that installs carrier and builder's needs; else empty.
    """

    name: str
    modality: Modality
    licence: str
    summary: str
    spec_digest: str
    calibration_digest: str
    file: str
    builder: str
    carrier: str
    extra: str

    def __post_init__(self) -> None:
        require_modality(self.modality, f"registry.{self.name}.modality")
        if bool(self.file) == bool(self.builder):
            raise ModelContractError(
                f"registry, model {shown(self.name)}: either file or builder, not both"
            )

    def disagreement(self, spec: ModelSpec) -> str | None:
        """Return how a file's specification differs from the registry; None if it does not."""
        pairs = {
            "modality": (spec.modality, self.modality),
            "licence": (spec.licence, self.licence),
            "spec digest": (spec.digest, self.spec_digest),
            "calibration digest": (calibration_digest(spec), self.calibration_digest),
        }
        for what, (found, registered) in pairs.items():
            if found != registered:
                return f"its {what} is {found}, registered for {shown(self.name)} is {registered}"
        return None


def calibration_digest(spec: ModelSpec) -> str:
    """SHA-256, hexadecimal, of what turns a score into a decision: operating points, evidence, fusion.

    ``ModelSpec.digest`` leaves these out, so that a new calibration keeps galleries valid; they are
    pinned apart, so that an older file in the cache does not decide by older thresholds. Without further
    populations it is what it was before there were any.
    """
    names: tuple[str, ...]
    names = ("operating_points", "evidence", "default_fmr", "default_attack", "fusion", "cohort")
    body = plain(spec)
    if spec.populations:
        names = (*names, "populations")
    return hashlib.sha256(canonical({name: body[name] for name in names})).hexdigest()


def model_folder() -> Path:
    """The folder of the registry and the shipped models, in an installed package or a checkout."""
    shipped = Path(__file__).resolve().parents[1] / "_models"
    return shipped if shipped.is_dir() else Path(__file__).resolve().parents[2] / "models"


@functools.cache
def registered(path: Path | None = None) -> Mapping[str, RegistryEntry]:
    """Name to entry, in the order of the registry.

    Args:
        path: Another registry than verifykit's own.

    Raises:
        ModelContractError: The registry has an unknown, missing or wrong key; the message names it.
    """
    body = tomllib.loads((path or model_folder() / "registry.toml").read_text(encoding="utf-8"))
    optional = {f.name: "" for f in dataclasses.fields(RegistryEntry)[6:]}
    return {
        name: build(RegistryEntry, {**optional, **values, "name": name}, f"registry.{name}")
        for name, values in body.items()
    }
