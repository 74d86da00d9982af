"""Embeddings of other people by which scores are normalised, as stored in a calibration."""

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

    They are templates of real people, and must be protected as such.

    Attributes:
        rows_base64: (C, D) little-endian float32, rows of unit length, in base64.
        embedding_size: D.
        nearest: K, the number of highest scores that count, 2 to C.
    """

    rows_base64: str
    embedding_size: int
    nearest: int

    def __post_init__(self) -> None:
        if not 2 <= self.nearest <= len(self.rows):
            raise ModelContractError(
                f"cohort: nearest must be 2 to the number of rows, {len(self.rows)}, got {self.nearest}"
            )

    @classmethod
    def of(cls, rows: ArrayLike, nearest: int) -> Cohort:
        """Return the cohort of given embeddings.

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
        """Return the embeddings, (C, D) float32, rows of unit length.

        Raises:
            ModelContractError: The base64 does not decode to rows of D values.
        """
        try:
            values = np.frombuffer(base64.b64decode(self.rows_base64, validate=True), "<f4")
            return values.astype(np.float32).reshape(-1, self.embedding_size)
        except (binascii.Error, ValueError) as error:
            raise ModelContractError(
                f"cohort: rows_base64 is not base64 of rows of {self.embedding_size} float32: {error}"
            ) from error
