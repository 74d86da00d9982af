"""Rows of numbered subjects in memory, in chunks that grow and shrink without being rebuilt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SlotRows"]

_CHUNK_VALUES = 1 << 20  # at most 4 MB of float32 a chunk
_CHUNK_ROWS = 8192  # and with 256 probes at most 8 MB of products

_Rows = NDArray[np.float32]
_Slots = NDArray[np.int64]


class SlotRows:
    """Rows, each with the number (slot) of the subject that it belongs to.

    Rows lie in chunks of a fixed size. Appending writes behind the last row and copies nothing;
    removing moves the last rows into the holes, in copies of the chunks concerned. What :meth:`used`
    returned before is therefore never disturbed. Calls must not overlap.

    Args:
        embedding_size: D.
    """

    def __init__(self, embedding_size: int) -> None:
        self.embedding_size = embedding_size
        self.chunk_rows = min(_CHUNK_ROWS, max(64, _CHUNK_VALUES // embedding_size))
        self._chunks: list[_Rows] = []
        self._slots: list[_Slots] = []
        self._count = 0

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    def append(self, slots: _Slots, rows: _Rows) -> None:
        """Add rows; a slot may have any number of them.

        Args:
            slots: (R,) int64, whose row it is.
            rows: (R, D) float32.
        """
        done = 0
        while done < len(rows):
            chunk, offset = divmod(self._count, self.chunk_rows)
            if chunk == len(self._chunks):
                self._chunks.append(np.empty((self.chunk_rows, self.embedding_size), np.float32))
                self._slots.append(np.empty(self.chunk_rows, np.int64))
            taken = min(len(rows) - done, self.chunk_rows - offset)
            self._chunks[chunk][offset : offset + taken] = rows[done : done + taken]
            self._slots[chunk][offset : offset + taken] = slots[done : done + taken]
            self._count += taken
            done += taken

    def remove(self, slot: int) -> int:
        """Take all rows of a slot out, and return how many there were."""
        found = [
            np.flatnonzero(slots == slot) + i * self.chunk_rows
            for i, (_, slots) in enumerate(self.used())
        ]
        gone = np.concatenate(found) if found else np.empty(0, np.int64)
        left = self._count - len(gone)
        holes = gone[gone < left]
        movers = np.setdiff1d(np.arange(left, self._count), gone, assume_unique=True)
        last = left // self.chunk_rows
        self._own({*(holes // self.chunk_rows).tolist(), last})
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            (to, at), (of, place) = divmod(hole, self.chunk_rows), divmod(mover, self.chunk_rows)
            self._chunks[to][at] = self._chunks[of][place]
            self._slots[to][at] = self._slots[of][place]
        self._count = left
        keep = -(-left // self.chunk_rows)
        del self._chunks[keep:], self._slots[keep:]
        if left % self.chunk_rows:
            self._chunks[last][left % self.chunk_rows :] = 0.0
        return len(gone)

    def used(self) -> list[tuple[_Rows, _Slots]]:
        """Of each chunk what is filled: (R, D) float32 and (R,) int64."""
        lengths = [
            min(self.chunk_rows, self._count - i * self.chunk_rows)
            for i in range(len(self._chunks))
        ]
        return [
            (rows[:length], slots[:length])
            for rows, slots, length in zip(self._chunks, self._slots, lengths, strict=True)
        ]

    def _own(self, chunks: set[int]) -> None:
        for i in chunks:
            if i < len(self._chunks):
                self._chunks[i] = self._chunks[i].copy()
                self._slots[i] = self._slots[i].copy()
