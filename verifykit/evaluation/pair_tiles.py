"""Every pair of images, scored a tile at a time: memory does not grow with the pairs.

Scores are those of :func:`verifykit.evaluation.pairs.every_pair`, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.scoring import penalised, tile_scores, unit_rows
from verifykit.types import Embeddings

KINDS = ("mated", "random", "skilled")

_TILE = 1024
_GROUPS = 128  # in a tile: bounds the tables of counts that an interval takes


@dataclass(frozen=True, eq=False)
class Tile:
    """A rectangle of the matrix of all scores.

    Attributes:
        rows: (P,) positions of the images of one side.
        columns: (R,) of the other.
        scores: (P, R) float32.
        valid: (P, R) bool, which are comparisons of the kind; None for all of them.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    scores: NDArray[np.float32]
    valid: NDArray[np.bool_] | None

    def picked(self) -> NDArray[np.float32]:
        """Return the scores of the comparisons, flat."""
        return self.scores.ravel() if self.valid is None else self.scores[self.valid]

    def places(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return row and column in the tile of comparisons among the chosen ones."""
        found = np.flatnonzero(chosen if self.valid is None else chosen & self.valid)
        return found // len(self.columns), found % len(self.columns)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Images in an order in which those of a subject are neighbours, in blocks."""

    at: NDArray[np.int64]
    labels: NDArray[np.int64]
    blocks: list[slice]

    @classmethod
    def of(
        cls,
        at: NDArray[np.int64],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64],
        tile: int,
    ) -> _Rows:
        at = at[np.lexsort((at, labels[at], groups[at]))]
        number = np.cumsum(np.diff(groups[at], prepend=groups[at[:1]]) != 0)
        blocks, start = [], 0
        while start < len(at):
            last = int(np.searchsorted(number, number[start] + _GROUPS))
            blocks.append(slice(start, min(start + tile, last)))
            start = blocks[-1].stop
        return cls(at, labels[at], blocks)


class PairTiles:
    """The pairs of N unit rows: mated, of two subjects (random), of an image and an imitation (skilled).

    Strangers are compared within their set, as :func:`verifykit.evaluation.pairs.every_pair` does.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        labels: NDArray[np.int64],
        forged: NDArray[np.bool_],
        *,
        sets: NDArray[np.int64] | None = None,
        penalties: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
        tile: int = _TILE,
    ) -> None:
        """Take rows with their subjects, sets and penalties; subjects of one group are drawn together."""
        self.labels, self.groups = labels, labels if groups is None else groups
        self._units, self._forged = unit_rows(embeddings), forged
        self._sets = np.zeros(len(labels), np.int64) if sets is None else sets
        self._penalties = penalties
        self._tile = tile
        self._genuine = _Rows.of(np.flatnonzero(~forged), labels, self.groups, tile)
        everything = np.arange(len(labels)) if forged.any() else np.empty(0, np.int64)
        self._everything = _Rows.of(everything, labels, self.groups, tile)

    def part(self, chosen: NDArray[np.bool_]) -> PairTiles:
        """Return the pairs of some of the rows; positions are those among the chosen ones."""
        return PairTiles(
            self._units[chosen],
            self.labels[chosen],
            self._forged[chosen],
            sets=self._sets[chosen],
            penalties=None if self._penalties is None else self._penalties[chosen],
            groups=self.groups[chosen],
            tile=self._tile,
        )

    def tiles(self, kind: str) -> Iterator[Tile]:
        """Yield the tiles that hold comparisons of a kind, each comparison once."""
        rows = self._everything if kind == "skilled" else self._genuine
        for number, one in enumerate(rows.blocks):
            for other in rows.blocks[number:]:
                is_near = rows.labels[one.stop - 1] == rows.labels[other.start] or one is other
                if kind != "random" and not is_near:
                    continue
                mine, theirs = rows.at[one], rows.at[other]
                valid = self._valid(kind, mine, theirs, is_near=is_near, is_square=one is other)
                if valid is None or valid.any():
                    yield Tile(mine, theirs, self._scores(mine, theirs), valid)

    def _scores(self, mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = tile_scores(self._units[mine], self._units[theirs])
        if self._penalties is None:
            return scores
        taken = self._penalties[mine][:, None], self._penalties[theirs][None, :]
        return penalised(scores, *taken)

    def _valid(
        self,
        kind: str,
        mine: NDArray[np.int64],
        theirs: NDArray[np.int64],
        *,
        is_near: bool,
        is_square: bool,
    ) -> NDArray[np.bool_] | None:
        """Return which pairs of two blocks are of the kind; None for all."""
        sets = self._sets[mine], self._sets[theirs]
        one_set = len(np.unique(np.concatenate(sets))) == 1
        if kind == "random" and one_set and not is_near:
            return None
        same: NDArray[np.bool_] = self.labels[mine][:, None] == self.labels[theirs][None, :]
        if kind == "random":
            valid: NDArray[np.bool_] = ~same
            if not one_set:
                valid &= sets[0][:, None] == sets[1][None, :]
        elif kind == "mated":
            valid = same
        else:
            valid = same & (self._forged[mine][:, None] != self._forged[theirs][None, :])
        if is_square:
            valid = np.triu(valid, 1)
        return valid

    def ends(
        self, kind: str, one: NDArray[np.int64], other: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return probes and references of pairs: the earlier image first, but an imitation last."""
        turned = self._forged[one] if kind == "skilled" else one > other
        return np.where(turned, other, one), np.where(turned, one, other)
