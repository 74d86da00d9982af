"""Search on a PostgreSQL server: the server nominates, :mod:`verifykit.scoring` decides.

pgvector's inner product is summed in float32 in an order of its own, so its last bits are not ours. It
orders the reference rows; those within its error bound of being among the best are sent here, and scored
by :func:`~verifykit.scoring.paired_scores`. So candidates and scores are those of every other gallery.

Each partition is queried by itself for its best rows, so that a shard sorts, cuts and sends no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.gallery.postgres.connection import Connection, driver
from verifykit.gallery.postgres.rows import vector_from_binary
from verifykit.scoring import LONGEST_ROW, paired_scores

# Subject, reference row, negative inner product; or an approximate search's order, which must be the
# operator alone for the index to be used, and must not be that for an exact one to ignore it.
_EXACT = "(r.reference_row OPERATOR({operators}.<#>) %(probe)s::{operators}.vector) + 0"
_APPROXIMATE = "r.reference_row OPERATOR({operators}.<#>) %(probe)s::{operators}.vector"
_PARTITION = "(SELECT r.subject_id, r.reference_row, {distance} AS distance FROM {table} r"
_FILTER = " JOIN {subjects} s ON s.subject_id = r.subject_id AND s.filter @> %(where)s::jsonb"
_BEST = " ORDER BY {distance} LIMIT %(count)s)"
_MOST_ROWS = 1 << 60  # LIMIT is a bigint
# Not by `distance` alone: merging what is sorted already would ask one shard after the other.
_ALL = "SELECT * FROM ({}) nominated ORDER BY distance + 0"
_ALL_OVER = " WHERE {distance} <= %(most)s)"


@dataclass(frozen=True)
class _Row:
    subject_id: str
    values: NDArray[np.float32]
    product: float


class Nominations:
    """Searches in one read transaction."""

    def __init__(
        self,
        connection: Connection,
        tables: Sequence[tuple[str, str]],
        embedding_size: int,
        where: str | None,
        *,
        approximate: bool,
    ) -> None:
        self._connection, self._tables, self._where = connection, tables, where
        self._approximate = approximate
        # As in IndexView: the bound of a float32 product's error, doubled, plus the rows' rounding.
        self._margin = (embedding_size + 8) * LONGEST_ROW * 2.0**-23
        found = connection.execute(
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n "
            "ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
        ).fetchone()
        self._operators = found[0] if found else "public"

    def search(
        self, probe: NDArray[np.float32], limit: int, threshold: float
    ) -> list[tuple[str, float]]:
        """The best subjects of a probe; a subject's score is that of its best row."""
        rows = self._nominate(probe, limit, threshold)
        if not rows:
            return []
        scores = paired_scores(probe, np.stack([row.values for row in rows]))
        best: dict[str, float] = {}
        for row, score in zip(rows, scores.tolist(), strict=True):
            best[row.subject_id] = max(score, best.get(row.subject_id, -math.inf))
        hits = [(subject_id, score) for subject_id, score in best.items() if score >= threshold]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:limit]

    def _nominate(self, probe: NDArray[np.float32], limit: int, threshold: float) -> list[_Row]:
        least = self._cut(threshold - self._margin)
        count = 2 * min(limit, _MOST_ROWS) + 16
        while True:
            rows = self.ask(probe, count=count)
            if len(rows) < count or rows[-1].product < least:
                return rows
            best: dict[str, float] = {}
            for row in rows:  # the best row of a subject comes first
                best.setdefault(row.subject_id, row.product)
            if len(best) >= limit:
                break
            count *= 4
        # At least `limit` subjects have a score of this or more, less the margin. Scores end at 1.
        nth = min(list(best.values())[limit - 1], 1.0)
        cut = max(least, self._cut(nth - 2 * self._margin))
        if self._approximate or rows[-1].product < cut:
            return rows
        return self.ask(probe, least=cut)

    def _cut(self, product: float) -> float:
        # Scores end at -1 too: below it, where rows longer than 1 come to, all are equal.
        return product if product > -1.0 else -math.inf

    def ask(
        self,
        probe: NDArray[np.float32],
        *,
        count: int | None = None,
        least: float = -math.inf,
        explain: bool = False,
    ) -> list[Any]:
        """Rows by their product with a probe, best first."""
        sql = driver().sql
        operators = sql.Identifier(self._operators)
        order = _APPROXIMATE if self._approximate else _EXACT
        distance = sql.SQL(order).format(operators=operators)
        text = _PARTITION + ("" if self._where is None else _FILTER)
        text += _ALL_OVER if count is None else _BEST
        parts = [
            sql.SQL(text).format(
                distance=distance, table=sql.Identifier(table), subjects=sql.Identifier(subjects)
            )
            for table, subjects in self._tables
        ]
        query = sql.SQL(_ALL).format(sql.SQL(" UNION ALL ").join(parts))
        if count is not None:
            query += sql.SQL(" LIMIT %(count)s")
            self._follow_index(count)
        if explain:
            query = sql.SQL("EXPLAIN (VERBOSE, ANALYZE) ") + query
        values = {
            "probe": vector_text(probe),
            "where": self._where,
            "count": count,
            "most": -least,
        }
        found = self._connection.execute(query, values, binary=not explain)
        if explain:
            return [line for (line,) in found]
        return [_Row(s, vector_from_binary(row), -distance) for s, row, distance in found]

    def _follow_index(self, count: int) -> None:
        if self._approximate:
            self._connection.execute(
                "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), "
                "set_config('hnsw.ef_search', %s, true)",
                (str(min(1000, max(100, count))),),
            )


def vector_text(row: NDArray[np.float32]) -> str:
    """A row as pgvector reads it; the digits of a float32 come back as the same float32."""
    return "[" + ",".join(map(str, row.tolist())) + "]"
