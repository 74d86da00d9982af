"""An 8-bit copy of the rows of an index, which rules out most of them before a float32 is read.

A row ``x`` is stored as integers ``X`` in [-127, 127], a scale ``s``, and the length of what they leave,
``r = x - s X``; the probe ``p`` as ``P``, ``t`` and ``q = p - t P``. The integer product ``X.P`` is exact,
and

    x.p = sX.p + r.p = sX.tP + sX.q + r.p

so that, by the Cauchy-Schwarz inequality and ``|sX| <= |x| + |r|``,

    |x.p - s t X.P| <= (|x| + |r|) |q| + |r| |p| = |r| (|p| + |q|) + |x| |q|.

The right side needs no assumption about how the integers were chosen, as ``r`` and ``q`` are measured:
they are computed in float64, in which ``s X`` is exact, and their lengths are rounded up by a part in
2^20, far more than the D 2^-53 that summation may lose. For a row without large values, ``|r|`` is about
``max|x| sqrt(D / 12) / 127``: 0.006 for the 128 values of a face.

What is evaluated in float32 has at most ten roundings, each of at most 2^-24 times
``(|x| + |r|) (|p| + |q|)``. With ``|x| <= 4``, ``|p| = 1`` and ``|r| <= |x| min(1, sqrt(D) / 254)``, and
so for ``q``, they are below ``4 (D + 16) 2^-24`` together. The index' margin has that to spare: it is
``4 (2 D + 16) 2^-24``, of which the error of its float32 product takes ``4 D 2^-24``. So a row whose
``s t X.P``, error and margin together are below a cut has a float32 product below it, and would not have
been nominated by the float32 product either.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import VerifyKitError
from verifykit.session import IntegerProduct

_HIGHEST = 127
_OFFSET = 128  # the probe's integers are unsigned in the product
_LARGEST_SIZE = 1 << 16  # 255 * 127 * 65536 is below 2^31
_SMALLEST_SCALE = 1e-30  # its reciprocal is finite, and what is smaller counts as residue
_ROUNDED_UP = 1.0 + 2.0**-20
_PART_ROWS = 512  # float64 copies stay in the cache
_BLOCK_ROWS = 64  # onnxruntime's product is fastest for blocks that are read in one piece
_CACHED_PRODUCTS = 1 << 17

_Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Quantised:
    """Rows as integers.

    Attributes:
        values: (N, D) int8, X.
        scales: (N,) s.
        residues: (N,) at least |x - s X|.
        lengths: (N,) at least |x|.
    """

    values: NDArray[np.int8]
    scales: _Floats
    residues: _Floats
    lengths: _Floats


def quantised(rows: _Floats) -> Quantised:
    """Return rows (N, D) as integers, with the lengths of what is left of them."""
    highest = np.abs(rows).max(axis=1, initial=0.0)
    scales = (highest / np.float32(_HIGHEST)).astype(np.float32)
    scales[scales < _SMALLEST_SCALE] = 0.0
    inverse = np.divide(1.0, scales, where=scales > 0.0, out=np.zeros_like(scales))
    values = np.rint(rows * inverse[:, None])
    np.clip(values, -_HIGHEST, _HIGHEST, out=values)
    wide = rows.astype(np.float64)
    left = wide - values * scales[:, None].astype(np.float64)
    return Quantised(values.astype(np.int8), scales, _lengths(left), _lengths(wide))


def _lengths(wide: NDArray[np.float64]) -> _Floats:
    lengths: _Floats = (np.sqrt(np.einsum("nd,nd->n", wide, wide)) * _ROUNDED_UP).astype(np.float32)
    return lengths


class CoarseChunk:
    """The 8-bit copy of one chunk of rows: D + 16 bytes a row.

    A view reads the columns that were there when it was taken; later ones are written next to them.
    """

    def __init__(self, rows: int, embedding_size: int) -> None:
        self.values = np.zeros((-(-rows // _BLOCK_ROWS), embedding_size, _BLOCK_ROWS), np.int8)
        self.offsets = np.zeros(rows, np.int32)
        self.scales = np.zeros(rows, np.float32)
        self.residues = np.zeros(rows, np.float32)
        self.lengths = np.zeros(rows, np.float32)
        # Never lowered, so that what they bound is bounded for every view.
        self.longest, self.largest_residue = 0.0, 0.0

    def write(self, start: int, rows: _Floats) -> None:
        """Take rows at a place."""
        for first in range(0, len(rows), _PART_ROWS):
            part = quantised(rows[first : first + _PART_ROWS])
            here = slice(start + first, start + first + len(part.scales))
            self._write_values(start + first, part.values)
            self.offsets[here] = part.values.sum(axis=1, dtype=np.int32) * _OFFSET
            self.scales[here], self.residues[here] = part.scales, part.residues
            self.lengths[here] = part.lengths
            self.longest = max(self.longest, float(part.lengths.max()))
            self.largest_residue = max(self.largest_residue, float(part.residues.max()))

    def _write_values(self, start: int, values: NDArray[np.int8]) -> None:
        done = 0
        while done < len(values):
            block, column = divmod(start + done, _BLOCK_ROWS)
            taken = min(len(values) - done, _BLOCK_ROWS - column)
            self.values[block, :, column : column + taken] = values[done : done + taken].T
            done += taken

    def move(self, to: int, source: CoarseChunk, place: int) -> None:
        """Take the row at a place of another chunk."""
        (block, column), (origin, there) = divmod(to, _BLOCK_ROWS), divmod(place, _BLOCK_ROWS)
        self.values[block, :, column] = source.values[origin, :, there]
        for mine, theirs in zip(self.columns(), source.columns(), strict=True):
            mine[to] = theirs[place]
        self.longest = max(self.longest, source.longest)
        self.largest_residue = max(self.largest_residue, source.largest_residue)

    def erase(self, start: int) -> None:
        """Overwrite the rows from a place on."""
        block, column = divmod(start, _BLOCK_ROWS)
        self.values[block, :, column:] = 0
        self.values[block + 1 :] = 0
        for values in self.columns():
            values[start:] = 0

    def copy(self) -> CoarseChunk:
        """Return a chunk of the same rows that shares no memory."""
        twin = CoarseChunk(0, 0)
        twin.values = self.values.copy()
        twin.offsets, twin.scales = self.offsets.copy(), self.scales.copy()
        twin.residues, twin.lengths = self.residues.copy(), self.lengths.copy()
        twin.longest, twin.largest_residue = self.longest, self.largest_residue
        return twin

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return what is stored of each row in addition to its integers."""
        return self.offsets, self.scales, self.residues, self.lengths


class CoarseProbes:
    """Probes (N, D) that are compared with chunks of integers."""

    def __init__(self, probes: _Floats, product: IntegerProduct, margin: float) -> None:
        own = quantised(probes)
        self._product, self._margin = product, margin
        self._values = (own.values.astype(np.int16) + _OFFSET).astype(np.uint8)
        self._scales = own.scales[:, None]
        self._residues = own.residues.astype(np.float64)
        self._lengths = own.lengths.astype(np.float64) + self._residues

    def rows_at_once(self) -> int:
        """Return for how many rows the products stay in the cache, a multiple of a block."""
        return max(1, _CACHED_PRODUCTS // len(self._values) // _BLOCK_ROWS) * _BLOCK_ROWS

    def products(self, chunk: CoarseChunk, here: slice) -> _Floats:
        """Return (N, R) products of the integers, scaled: near those of the rows.

        The slice begins at a multiple of a block.
        """
        blocks = slice(here.start // _BLOCK_ROWS, -(-here.stop // _BLOCK_ROWS))
        found = self._product.run(self._values, chunk.values[blocks]).transpose(1, 0, 2)
        whole = found.reshape(len(self._values), -1)[:, : here.stop - here.start]
        whole -= chunk.offsets[here]
        scaled: _Floats = whole.astype(np.float32)
        scaled *= chunk.scales[here]
        scaled *= self._scales
        return scaled

    def largest_errors(self, chunk: CoarseChunk) -> NDArray[np.float64]:
        """Return (N,): no product of the chunk is further from the float32 product of its row."""
        errors: NDArray[np.float64] = (
            chunk.largest_residue * self._lengths + chunk.longest * self._residues + self._margin
        )
        return errors

    def upper(
        self, n: int, products: _Floats, chunk: CoarseChunk, here: slice
    ) -> NDArray[np.float64]:
        """Return what the float32 products of probe n are at most, row by row."""
        upper: NDArray[np.float64] = (
            products
            + chunk.residues[here] * self._lengths[n]
            + chunk.lengths[here] * self._residues[n]
            + self._margin
        )
        return upper


@functools.cache
def integer_product(embedding_size: int) -> IntegerProduct | None:
    """Return the exact product of 8-bit integers for rows of a size; None where there is none.

    It needs onnxruntime. Processors without instructions for 8-bit products may add two of them with
    saturation: the largest integers are tried, and a product that is not exact is not used.
    """
    if not 0 < embedding_size <= _LARGEST_SIZE:
        return None
    signs = np.where(np.arange(_BLOCK_ROWS) % 3, _HIGHEST, -_HIGHEST).astype(np.int8)
    blocks = np.ascontiguousarray(np.broadcast_to(signs, (2, embedding_size, _BLOCK_ROWS)))
    expected = signs.astype(np.int64) * (_HIGHEST + _OFFSET) * embedding_size
    try:
        product = IntegerProduct()
        for count in (1, 2, 7):
            probes = np.full((count, embedding_size), _HIGHEST + _OFFSET, np.uint8)
            if not (product.run(probes, blocks) == expected).all():
                return None
    except VerifyKitError:
        return None
    return product
