"""Embeddings of other people that scores are normalised by, as a calibration carries them."""

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
    """Embeddings of subjects who are neither enrolled nor compared.

    They are templates of real people, and are to be kept like them.

    Attributes:
        rows_base64: (C, D) little-endian float32, rows of unit length, in base64.
        embedding_size: D.
        nearest: K, how many of the C highest scores count, at least 2.
    """

    rows_base64: str
    embedding_size: int
    nearest: int

    def __post_init__(self) -> None:
        if not 2 <= self.nearest <= len(self.rows):
            raise ModelContractError(
                f"cohort: nearest is 2 to the number of rows, {len(self.rows)}, got {self.nearest}"
            )

    @classmethod
    def of(cls, rows: ArrayLike, nearest: int) -> Cohort:
        """A cohort of these embeddings.

        Args:
            rows: (C, D) float32, rows of unit length.
            nearest: K, 2 to C.

        Raises:
            ModelContractError: ``nearest`` is out of range.
        """
        wide = np.ascontiguousarray(rows, dtype="<f4")
        return cls(base64.b64encode(wide.tobytes()).decode(), int(wide.shape[1]), nearest)

    @cached_property
    def rows(self) -> NDArray[np.float32]:
        """(C, D) float32, rows of unit length.

        Raises:
            ModelContractError: They are not whole rows in base64.
        """
        try:
            values = np.frombuffer(base64.b64decode(self.rows_base64, validate=True), "<f4")
            return values.astype(np.float32).reshape(-1, self.embedding_size)
        except (binascii.Error, ValueError) as error:
            raise ModelContractError(
                f"cohort: rows_base64 is not base64 of rows of {self.embedding_size} float32: {error}"
            ) from error
