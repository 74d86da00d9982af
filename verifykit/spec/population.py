"""Further thresholds of a model, for other people than those of its usual ones."""

from __future__ import annotations

from dataclasses import dataclass

from verifykit.errors import ModelContractError, shown
from verifykit.spec.operating import Attack, OperatingPoint


@dataclass(frozen=True)
class BandRate:
    """How often different people of one band match at two thresholds for the same requested rate.

    Attributes:
        band: Which people, human-readable: both of a pair are of the band.
        fmr: The requested rate, in (0, 1).
        subject_count: People of the band who were compared.
        non_mated_count: Their comparisons.
        usual: Their false match rate at the model's usual threshold; None if it has none for this rate.
        usual_interval: Its 95 % interval over subjects; None if ``usual`` is.
        found: Their false match rate at the population's threshold.
        found_interval: Its 95 % interval over subjects.
    """

    band: str
    fmr: float
    subject_count: int
    non_mated_count: int
    usual: float | None
    usual_interval: tuple[float, float] | None
    found: float
    found_interval: tuple[float, float]


@dataclass(frozen=True)
class Population:
    """Operating points that hold for other people than the usual ones.

    Attributes:
        name: What a caller requests it by, such as ``"any"``.
        description: Of whom and of which conditions the rates are; decisions state it.
        operating_points: Thresholds, at least one; the counts and intervals are those of the band that
            decided, the FNMR is that of all mated comparisons.
        usual_fnmr: For each of these points the FNMR at the usual threshold of the same rate, on the same
            comparisons: the difference is the price; None if not measured.
        default_fmr: The false match rate used when none is requested; None if there is none.
        default_attack: The kind of non-mated comparison that this rate is about.
        bands: What was measured by band at these thresholds and at the usual ones; may be empty.
        bands_data: On whom the rates of ``bands`` were measured, human-readable.
        notes: Sentences about what was left out or joined, and why.
    """

    name: str
    description: str
    operating_points: tuple[OperatingPoint, ...]
    usual_fnmr: tuple[float | None, ...]
    default_fmr: float | None
    default_attack: Attack
    bands: tuple[BandRate, ...] = ()
    bands_data: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.operating_points:
            raise ModelContractError("population: it needs a name and an operating point")
        if len(self.usual_fnmr) != len(self.operating_points):
            raise ModelContractError(
                f"population {shown(self.name)}: usual_fnmr has {len(self.usual_fnmr)} values for "
                f"{len(self.operating_points)} operating points"
            )
