"""Exact search in memory: every row is compared, in tiles, with a float32 matrix product.

The product only nominates: its last bits depend on the batch and on the machine. Rows whose product is
within its error bound of being among the best are scored again by
:func:`~verifykit.scoring.paired_scores`, which gives the same bits for a probe alone or among others.
So ranking and scores are exact and stable, and ties are broken by subject id.

In large galleries an 8-bit copy of the rows, a quarter of the size, rules out those whose product cannot
matter, and only the others are read: see :mod:`verifykit.gallery.coarse`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from verifykit._cpus import available_cpus, kept_pool
from verifykit.gallery.coarse import CoarseChunk, CoarseProbes, integer_product
from verifykit.scoring import LONGEST_ROW, paired_scores, unit_rows

_CHUNK_VALUES = 1 << 20  # at most 4 MB of float32 a chunk
CHUNK_ROWS = 8192  # and with 256 probes at most 8 MB of products

COARSE_FROM_VALUES = 1 << 21  # 8 MB of float32: fewer are read in less time than it saves

Found = TypeVar("Found")

_Rows = NDArray[np.float32]
_Slots = NDArray[np.int64]


class RowStore:
    """Rows, each with the number (slot) of the subject that it belongs to.

    Rows are stored in chunks of a fixed size. Appending writes behind the last row and copies nothing;
    removing moves the last rows into the holes, in copies of the chunks concerned. What :meth:`used`
    returned before is therefore never disturbed. Calls must not overlap.
    """

    def __init__(self, embedding_size: int) -> None:
        self.embedding_size = embedding_size
        self.chunk_rows = min(CHUNK_ROWS, max(64, _CHUNK_VALUES // embedding_size))
        self._chunks: list[_Rows] = []
        self._slots: list[_Slots] = []
        self._coarse: list[CoarseChunk] = []  # of all chunks, or of none
        self._has_coarse = False
        self._count = 0

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    def append(self, slots: _Slots, rows: _Rows) -> None:
        """Add rows; a slot may have any number of them."""
        done = 0
        while done < len(rows):
            chunk, offset = divmod(self._count, self.chunk_rows)
            if chunk == len(self._chunks):
                self._chunks.append(np.empty((self.chunk_rows, self.embedding_size), np.float32))
                self._slots.append(np.empty(self.chunk_rows, np.int64))
                if self._has_coarse:
                    self._coarse.append(CoarseChunk(self.chunk_rows, self.embedding_size))
            taken = min(len(rows) - done, self.chunk_rows - offset)
            self._chunks[chunk][offset : offset + taken] = rows[done : done + taken]
            self._slots[chunk][offset : offset + taken] = slots[done : done + taken]
            if self._has_coarse:
                self._coarse[chunk].write(offset, rows[done : done + taken])
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
            if self._has_coarse:
                self._coarse[to].move(at, self._coarse[of], place)
        self._count = left
        keep = -(-left // self.chunk_rows)
        del self._chunks[keep:], self._slots[keep:], self._coarse[keep:]
        if left % self.chunk_rows:
            self._chunks[last][left % self.chunk_rows :] = 0.0
            if self._has_coarse:
                self._coarse[last].erase(left % self.chunk_rows)
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

    def coarse(self) -> tuple[CoarseChunk, ...]:
        """Return the 8-bit copy of every chunk; none while there are few rows, or no exact product."""
        if not self._has_coarse and self._count * self.embedding_size >= COARSE_FROM_VALUES:
            self._has_coarse = integer_product(self.embedding_size) is not None
            if self._has_coarse:
                self._coarse = list(_in_threads(self._quantise, range(len(self._chunks))))
        return tuple(self._coarse)

    def _quantise(self, chunk: int) -> CoarseChunk:
        coarse = CoarseChunk(self.chunk_rows, self.embedding_size)
        coarse.write(0, self._chunks[chunk][: self._count - chunk * self.chunk_rows])
        return coarse

    def _own(self, chunks: set[int]) -> None:
        for i in chunks:
            if i < len(self._chunks):
                self._chunks[i] = self._chunks[i].copy()
                self._slots[i] = self._slots[i].copy()
                if self._has_coarse:
                    self._coarse[i] = self._coarse[i].copy()


_PROBE_TILE = 256
_FEW_PROBES = 2
_ONE_THREAD_VALUES = 1 << 18  # OpenBLAS begins other threads for 460,800 values and more
_LOOKS_AN_OFFER = 8  # a row read for one probe of many costs as much as a product of some hundred
CHUNKS_A_WORKER = 4  # fewer are scanned before a second thread has begun


class ExactIndex:
    """Rows of subjects, growing and shrinking without being rebuilt.

    A :meth:`view` taken before a change is never disturbed by it. Calls that change the index, and
    ``view``, must not overlap: the gallery holds its lock. Searching a view needs no lock.
    """

    def __init__(self, embedding_size: int) -> None:
        self._rows = RowStore(embedding_size)
        self._slot_of: dict[str, int] = {}
        self._ids: list[str] = []

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def append(self, subject_ids: Sequence[str], rows: _Rows) -> None:
        """Add rows; a subject may have any number of them."""
        self._rows.append(self._slots_for(subject_ids), rows)

    def remove(self, subject_id: str) -> int:
        """Take all rows of a subject out, and return how many there were."""
        slot = self._slot_of.pop(subject_id, None)
        if slot is None:
            return 0
        # A copy, as views still read the old list; the place is not used again, for the same reason.
        self._ids = self._ids.copy()
        self._ids[slot] = ""
        return self._rows.remove(slot)

    def view(self) -> IndexView:
        """The rows as they are now, for searching."""
        return IndexView.of(self._rows, self._ids)

    def _slots_for(self, subject_ids: Sequence[str]) -> _Slots:
        """The place of each subject in the list of ids; new subjects get the next ones."""
        new = [s for s in dict.fromkeys(subject_ids) if s not in self._slot_of]
        self._slot_of.update(
            zip(new, range(len(self._ids), len(self._ids) + len(new)), strict=True)
        )
        self._ids.extend(new)
        found = map(self._slot_of.__getitem__, subject_ids)
        return np.fromiter(found, dtype=np.int64, count=len(subject_ids))


@dataclass(frozen=True, eq=False)
class IndexView:
    """An index at one moment.

    Attributes:
        embedding_size: D.
        chunk_rows: Rows of every chunk but the last.
        chunks: (R, D) float32 each.
        slots: (R,) each: the place of the row's subject in ``ids``.
        ids: Subject ids.
        coarse: The 8-bit copy of each chunk, or nothing.
    """

    embedding_size: int
    chunk_rows: int
    chunks: tuple[_Rows, ...]
    slots: tuple[_Slots, ...]
    ids: Sequence[str]
    coarse: tuple[CoarseChunk, ...] = ()

    @classmethod
    def of(cls, rows: RowStore, ids: Sequence[str]) -> IndexView:
        """The rows as they are now."""
        used = rows.used()
        return cls(
            rows.embedding_size,
            rows.chunk_rows,
            tuple(chunk for chunk, _ in used),
            tuple(slots for _, slots in used),
            ids,
            rows.coarse(),
        )

    def search(self, probes: _Rows, limit: int, threshold: float) -> list[list[tuple[str, float]]]:
        """The best subjects of each probe; a subject's score is that of its best row.

        Memory is bounded by one tile and, for each probe, the rows that may be among its best.
        """
        results: list[list[tuple[str, float]]] = []
        for start in range(0, len(probes), _PROBE_TILE):
            tile = unit_rows(probes[start : start + _PROBE_TILE])
            parts = self._nominate(tile, limit, threshold)
            results += [
                self._rank(probe, chosen, limit, threshold)
                for probe, *chosen in zip(tile, *parts, strict=True)
            ]
        return results

    @cached_property
    def _slot_of(self) -> dict[str, int]:
        return {subject_id: slot for slot, subject_id in enumerate(self.ids) if subject_id}

    def rows_of(self, subject_id: str) -> _Rows | None:
        """Return the rows of a subject, (R, D); None for an unknown one."""
        slot = self._slot_of.get(subject_id)
        if slot is None:
            return None
        lowest, highest = self._slot_bounds
        near = np.flatnonzero((lowest <= slot) & (slot <= highest)).tolist()
        parts = [self.chunks[i][self.slots[i] == slot] for i in near]
        return np.concatenate(parts) if parts else None

    @cached_property
    def _slot_bounds(self) -> tuple[_Slots, _Slots]:
        """Return the lowest and the highest slot of each chunk: most subjects are in one."""
        lowest = np.array([slots.min() for slots in self.slots], np.int64)
        return lowest, np.array([slots.max() for slots in self.slots], np.int64)

    def _nominate(self, probes: _Rows, limit: int, threshold: float) -> list[list[_Shortlist]]:
        """For each worker a shortlist a probe.

        A few probes are a matter of reading memory. BLAS reads it with threads that wait for each other:
        on a busy machine for longer than the search takes. Threads that share nothing do better, each with
        blocks that BLAS leaves to one thread. Many probes are a matter of multiplying, and BLAS does that
        best.
        """
        # |fl(a.b) - a.b| <= D u |a||b| with u = 2^-24 in any order of summation (Higham, Accuracy and
        # Stability of Numerical Algorithms, 2nd ed., 3.1); doubled, plus the rounding of the rows.
        margin = (self.embedding_size + 8) * LONGEST_ROW * 2.0**-23
        product = integer_product(self.embedding_size) if self.coarse else None
        coarse = CoarseProbes(probes, product, margin) if product else None

        def scan(share: Iterator[int]) -> list[_Shortlist]:
            lists = [_Shortlist(limit, margin, _floor(threshold - margin)) for _ in probes]
            if coarse:
                share = self._scan_coarse(probes, coarse, lists, share)
            self._scan(probes, lists, share)
            return lists

        chunks = range(len(self.chunks))
        workers = 1
        if coarse or len(probes) <= _FEW_PROBES:
            workers = len(chunks) * min(len(probes), CHUNKS_A_WORKER) // CHUNKS_A_WORKER
        return _shared(scan, chunks, workers)

    def _scan(self, probes: _Rows, lists: list[_Shortlist], share: Iterator[int]) -> None:
        """Offer the rows of some chunks to the shortlists, by their float32 products."""
        few = len(probes) <= _FEW_PROBES
        cuts = np.array([shortlist.cut for shortlist in lists])
        for i in share:
            rows = self.chunks[i]
            products: _Rows = few_products(probes, rows) if few else probes @ rows.T
            for n in np.flatnonzero(products.max(axis=1) >= cuts).tolist():
                found = products[n]
                cuts[n] = self._offer(lists[n], i, 0, found, found.__getitem__)

    def _scan_coarse(
        self,
        probes: _Rows,
        coarse: CoarseProbes,
        lists: list[_Shortlist],
        share: Iterator[int],
    ) -> Iterator[int]:
        """Do as :meth:`_scan`, and read only rows that the 8-bit copy does not rule out.

        It is a detour where it rules out fewer than half of the rows, and for many probes where the
        shortlists grow too often, as they do without a threshold: then the chunks left are returned.
        """
        cuts = np.array([shortlist.cut for shortlist in lists])
        step = coarse.rows_at_once()
        few = len(probes) <= _FEW_PROBES
        seen = read = looks = offers = 0
        for i in share:
            rows, chunk = self.chunks[i], self.coarse[i]
            errors = coarse.largest_errors(chunk)
            for start in range(0, len(rows), step):
                here = slice(start, min(start + step, len(rows)))
                near = coarse.products(chunk, here)
                hit = np.flatnonzero(near.max(axis=1) + errors >= cuts).tolist()
                looks, offers = looks + len(probes), offers + len(hit)
                for n in hit:

                    def exact(
                        hits: NDArray[np.int64], n: int = n, part: _Rows = rows[here]
                    ) -> _Rows:
                        nonlocal read
                        read += len(hits)
                        found: _Rows = few_products(probes[n : n + 1], part[hits])[0]
                        return found

                    upper = coarse.upper(n, near[n], chunk, here)
                    cuts[n] = self._offer(lists[n], i, start, upper, exact)
            seen += len(rows) * len(probes)
            if 2 * read > seen or (not few and _LOOKS_AN_OFFER * offers > looks):
                return share
        return iter(())

    def _offer(
        self,
        shortlist: _Shortlist,
        chunk: int,
        start: int,
        upper: NDArray[np.floating],
        products: Callable[[NDArray[np.int64]], _Rows],
    ) -> float:
        """Offer a chunk's rows from ``start`` on whose product may matter; return the new cut.

        ``upper`` is what their products are at most.

        If there are many, the most promising raise the cut before the others are looked at.
        """
        hits = np.flatnonzero(upper >= shortlist.cut)
        groups = [hits]
        if len(hits) > shortlist.capacity:
            order = np.argpartition(upper[hits], -shortlist.capacity)
            groups = [hits[order[-shortlist.capacity :]], hits[order[: -shortlist.capacity]]]
        for group in groups:
            left = group[upper[group] >= shortlist.cut]
            if len(left):
                # Scores end at 1 and -1, where subjects tie.
                found = np.clip(products(left), -1.0, 1.0)
                positions = left + (chunk * self.chunk_rows + start)
                shortlist.offer(positions, self.slots[chunk][left + start], found)
            if group is not groups[-1]:
                shortlist.compact()
        return shortlist.cut

    def _rank(
        self, probe: _Rows, chosen: Sequence[_Shortlist], limit: int, threshold: float
    ) -> list[tuple[str, float]]:
        found = [part.rows() for part in chosen]
        positions = np.concatenate([part[0] for part in found])
        slots = np.concatenate([part[1] for part in found])
        if not len(positions):
            return []
        scores = np.empty(len(positions), np.float32)
        of_chunk = positions // self.chunk_rows
        for i in np.unique(of_chunk).tolist():
            here = of_chunk == i
            scores[here] = paired_scores(probe, self.chunks[i][positions[here] % self.chunk_rows])
        subjects, inverse = np.unique(slots, return_inverse=True)
        best = np.full(len(subjects), -np.inf, np.float32)
        np.maximum.at(best, inverse, scores)
        pairs = zip(subjects.tolist(), best.tolist(), strict=True)
        hits = [(self.ids[slot], score) for slot, score in pairs if score >= threshold]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:limit]


def few_products(probes: _Rows, rows: _Rows) -> _Rows:
    """Return (N, R) products, computed by the calling thread alone."""
    products = np.empty((len(probes), len(rows)), np.float32)
    step = max(1, _ONE_THREAD_VALUES // rows.shape[1])
    for n, probe in enumerate(probes):
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            np.matmul(block, probe, out=products[n, start : start + len(block)])
    return products


def _floor(cut: float) -> float:
    """A product of any size below -1 is the score -1: such a cut takes every row."""
    return cut if cut > -1.0 else -np.inf


def _shared(work: Callable[[Iterator[int]], Found], items: range, workers: int) -> list[Found]:
    """Return what the caller, and threads that are kept, made of the items each of them took.

    A thread that is free takes the next item, so the caller never waits for one that does not begin.
    """
    left = deque(items)

    def taken() -> Iterator[int]:
        with suppress(IndexError):
            while True:
                yield left.popleft()

    helpers = min(available_cpus(), workers) - 1
    futures = []
    if helpers > 0:
        pool = kept_pool("verifykit-index", helpers)
        futures = [pool.submit(work, taken()) for _ in range(helpers)]
    try:
        mine = work(taken())
    finally:
        left.clear()
    return [mine, *(future.result() for future in futures if not future.cancel())]


def _in_threads(work: Callable[[int], Found], items: range) -> list[Found]:
    """Return the work on each item, in order."""
    parts = _shared(lambda share: [(i, work(i)) for i in share], items, len(items))
    return [found for _, found in sorted(itertools.chain(*parts), key=itemgetter(0))]


class _Shortlist:
    """The rows that may still be among one probe's best subjects."""

    def __init__(self, limit: int, margin: float, cut: float) -> None:
        self._limit, self._margin = limit, margin
        self.cut = cut  # a row whose product is below it does not matter
        self.capacity = 4 * limit + 32
        self._positions: list[NDArray[np.int64]] = []
        self._slots: list[_Slots] = []
        self._products: list[_Rows] = []
        self._pending = 0
        self._compact_at = self.capacity

    def offer(self, positions: NDArray[np.int64], slots: _Slots, products: _Rows) -> None:
        """Take rows; :attr:`cut` may rise."""
        self._positions.append(positions)
        self._slots.append(slots)
        self._products.append(products)
        self._pending += len(positions)
        if self._pending > self._compact_at:
            self.compact()

    def rows(self) -> tuple[NDArray[np.int64], _Slots]:
        """Positions and slots of the rows that are left."""
        if not self._positions:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        self.compact()
        return self._positions[0], self._slots[0]

    def compact(self) -> None:
        """Drop the rows that no longer matter, and raise the cut to what is known now."""
        positions, slots = np.concatenate(self._positions), np.concatenate(self._slots)
        products = np.concatenate(self._products)
        subjects, inverse = np.unique(slots, return_inverse=True)
        best = np.full(len(subjects), -np.inf, np.float32)
        np.maximum.at(best, inverse, products)
        if len(subjects) > self._limit:
            # At least `limit` subjects have a score of this or more, less the margin; a row whose own
            # is more than two margins below it belongs to none of the best.
            nth = float(np.partition(best, -self._limit)[-self._limit])
            self.cut = max(self.cut, _floor(nth - 2 * self._margin))
        keep = (products >= self.cut) & (products >= best[inverse] - 2 * self._margin)
        self._positions, self._slots = [positions[keep]], [slots[keep]]
        self._products = [products[keep]]
        self._pending = int(keep.sum())
        self._compact_at = 2 * self._pending + 4 * self._limit + 32
