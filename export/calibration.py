"""Operating points as they are kept beside a builder: measured once, by a command, then data."""

from __future__ import annotations

import json
from dataclasses import dataclass

from verifykit.errors import ModelContractError
from verifykit.spec import Fusion, OperatingPoint
from verifykit.spec.strict_json import build

__all__ = ["Calibration"]


@dataclass(frozen=True)
class Calibration:
    """What turns a model's scores into decisions.

    Attributes:
        data: The sets that the points were measured on, for people.
        operating_points: May be empty.
        default_fmr: The false match rate used when none is asked for; None without points.
        fusion: How several scores become one.
    """

    data: str
    operating_points: tuple[OperatingPoint, ...]
    default_fmr: float | None
    fusion: Fusion

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Parse the JSON of a calibration.

        Raises:
            ModelContractError: Not JSON, or a key is unknown, missing or of the wrong type.
        """
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ModelContractError(f"the calibration is not JSON: {error}") from error
        return build(cls, body, "calibration")
