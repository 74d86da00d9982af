"""Centres of other people's embeddings, by which the scores of look-alikes are lowered."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import ModelContractError


@dataclass(frozen=True)
class Cohort:
    """Mean embeddings of groups of people who are neither enrolled nor compared.

    The penalty of an embedding is ``max(m - typical, 0)``, m the mean of its ``nearest`` highest cosines to
    the centres; half of both sides' penalties is taken from the score of a comparison (docs/adr/0018).

    Attributes:
        centres_base64: (C, D) little-endian float32, rows of unit length, in base64.
        embedding_size: D.
        nearest: K, the number of highest cosines that count, 1 to C.
        typical: The mean cosine up to which there is no penalty, in [-1, 1].
    """

    centres_base64: str
    embedding_size: int
    nearest: int
    typical: float

    def __post_init__(self) -> None:
        if not 1 <= self.nearest <= len(self.centres):
            raise ModelContractError(
                f"cohort: nearest must be 1 to the number of centres, {len(self.centres)}, got {self.nearest}"
            )
        if not -1.0 <= self.typical <= 1.0:
            raise ModelContractError(
                f"cohort: typical is a mean cosine in [-1, 1], got {self.typical}"
            )

    @classmethod
    def of(cls, centres: ArrayLike, nearest: int, typical: float) -> Cohort:
        """Return the cohort of given centres.

        Args:
            centres: (C, D) float32, rows of unit length.
            nearest: K, 1 to C.
            typical: The mean cosine up to which there is no penalty, in [-1, 1].

        Raises:
            ModelContractError: ``nearest`` or ``typical`` is out of range.
        """
        wide = np.ascontiguousarray(centres, dtype="<f4")
        encoded = base64.b64encode(wide.tobytes()).decode()
        return cls(encoded, int(wide.shape[1]), nearest, typical)

    @cached_property
    def centres(self) -> NDArray[np.float32]:
        """Return the centres, (C, D) float32, rows of unit length.

        Raises:
            ModelContractError: The base64 does not decode to rows of D values.
        """
        try:
            values = np.frombuffer(base64.b64decode(self.centres_base64, validate=True), "<f4")
            return values.astype(np.float32).reshape(-1, self.embedding_size)
        except (binascii.Error, ValueError) as error:
            raise ModelContractError(
                f"cohort: centres_base64 is not base64 of rows of {self.embedding_size} float32: {error}"
            ) from error
