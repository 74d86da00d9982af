"""Every loss again, as a plain loop over Python floats: slow, and easy to check by eye."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

Row = Sequence[float]


def distance(a: Row, b: Row, metric: str) -> float:
    if metric == "cosine":
        length_a, length_b = math.hypot(*a), math.hypot(*b)
        if length_a == 0 or length_b == 0:
            return 1.0
        return 1 - math.fsum(x * y for x, y in zip(a, b, strict=True)) / (length_a * length_b)
    squared = math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return squared if metric == "squared_l2" else math.sqrt(squared)


class Batch:
    def __init__(
        self,
        rows: Sequence[Row],
        labels: Sequence[int],
        metric: str,
        forged: Sequence[bool] | None = None,
    ) -> None:
        self.n, self.labels = len(rows), labels
        self.forged = forged or [False] * self.n
        self.anchors = [i for i in range(self.n) if not self.forged[i]]
        self.d = [
            [0.0 if i == j else distance(rows[i], rows[j], metric) for j in range(self.n)]
            for i in range(self.n)
        ]

    def positives(self, a: int) -> list[int]:
        return [
            i
            for i in range(self.n)
            if i != a and self.labels[i] == self.labels[a] and not self.forged[i]
        ]

    def negatives(self, a: int) -> list[int]:
        return [i for i in range(self.n) if self.labels[i] != self.labels[a] or self.forged[i]]

    def pairs(self) -> Iterator[tuple[int, int]]:
        for a in self.anchors:
            for p in self.positives(a):
                yield a, p


def batch_all(batch: Batch, margin: float, reduction: str) -> float:
    terms = [
        max(0.0, batch.d[a][p] - batch.d[a][n] + margin)
        for a, p in batch.pairs()
        for n in batch.negatives(a)
    ]
    count = sum(term > 1e-16 for term in terms) if reduction == "nonzero" else len(terms)
    return math.fsum(terms) / (1 if reduction == "sum" else max(count, 1))


def batch_hard(batch: Batch, margin: float, *, soft: bool) -> float:
    terms = []
    for a in batch.anchors:
        farthest = max((batch.d[a][p] for p in batch.positives(a)), default=0.0)
        nearest = min((batch.d[a][n] for n in batch.negatives(a)), default=max(batch.d[a]))
        gap = farthest - nearest
        terms.append(math.log1p(math.exp(gap)) if soft else max(0.0, gap + margin))
    return math.fsum(terms) / max(len(terms), 1)


def semi_hard(batch: Batch, margin: float) -> float:
    terms = []
    for a, p in batch.pairs():
        negatives = [batch.d[a][n] for n in batch.negatives(a)]
        beyond = [d for d in negatives if d > batch.d[a][p]]
        chosen = min(beyond) if beyond else max(negatives, default=0.0)
        terms.append(max(0.0, batch.d[a][p] - chosen + margin))
    return math.fsum(terms) / max(len(terms), 1)


def contrastive(batch: Batch, margin: float) -> float:
    terms = []
    for i in range(batch.n):
        for j in range(i + 1, batch.n):
            if batch.forged[i] and batch.forged[j]:
                continue
            if j in batch.positives(i) and not batch.forged[i]:
                terms.append(batch.d[i][j] ** 2)
            else:
                terms.append(max(0.0, margin - batch.d[i][j]) ** 2)
    return math.fsum(terms) / max(len(terms), 1)


def supervised_contrastive(batch: Batch, temperature: float) -> float:
    """``batch`` holds cosine distances."""
    terms = []
    for a in batch.anchors:
        positives = batch.positives(a)
        if not positives:
            continue
        weight = [
            0.0 if i == a else math.exp((1 - batch.d[a][i]) / temperature) for i in range(batch.n)
        ]
        terms.append(
            -math.fsum(math.log(weight[p] / math.fsum(weight)) for p in positives) / len(positives)
        )
    return math.fsum(terms) / max(len(terms), 1)


def margin_softmax(
    rows: Sequence[Row],
    labels: Sequence[int],
    directions: Sequence[Row],
    kind: str,
    margin: float,
    scale: float,
) -> float:
    terms = []
    for row, label in zip(rows, labels, strict=True):
        cosines = [1 - distance(row, direction, "cosine") for direction in directions]
        if kind == "cosface":
            cosines[label] -= margin
        elif math.acos(cosines[label]) + margin < math.pi:
            cosines[label] = math.cos(math.acos(cosines[label]) + margin)
        else:
            cosines[label] -= margin * math.sin(margin)
        total = math.fsum(math.exp(scale * cosine) for cosine in cosines)
        terms.append(math.log(total) - scale * cosines[label])
    return math.fsum(terms) / max(len(terms), 1)
