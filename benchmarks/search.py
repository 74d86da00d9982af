"""Exact search against what the machine can do and against other exact searches, in one run.

``python -m benchmarks.search [--rows 10000 100000 ...] [--dimensions 128 512]`` prints milliseconds a probe,
the share of the measured limits, and peers. The limits: streaming is reading every vector once from memory,
sgemm the matrix product of a batch with every vector and nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.race import race
from verifykit.gallery import SqliteGallery, encrypt_gallery
from verifykit.gallery.base import Entry
from verifykit.gallery.index import ExactIndex
from verifykit.spec import Fusion

LIMIT = 5
THRESHOLD = 0.42
BATCH = 256
OPENINGS = 5
DIGEST = "d" * 64
KEY = bytes(32)
FUSIONS: tuple[Fusion, ...] = ("mean", "max")
console = Console(width=140)


def unit_rows(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """Random unit vectors, made block by block."""
    rows = np.empty((count, size), np.float32)
    random = np.random.default_rng(seed)
    for start in range(0, count, 1 << 16):
        block = random.standard_normal((min(1 << 16, count - start), size), dtype=np.float32)
        rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def stream(rows: NDArray[np.float32], pool: ThreadPoolExecutor, parts: int) -> float:
    """Read every vector once, on all cores: the best that a scan of one probe can do."""
    flat = rows.reshape(-1)
    cuts = np.linspace(0, flat.size, parts + 1).astype(int)
    pieces = [flat[a:b] for a, b in itertools.pairwise(cuts.tolist())]
    return float(sum(pool.map(lambda piece: np.dot(piece, piece), pieces)))


def product(
    rows: NDArray[np.float32], probes: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """The bare matrix product, in tiles that stay in the cache."""
    for start in range(0, len(rows), out.shape[1]):
        tile = rows[start : start + out.shape[1]]
        np.matmul(probes, tile.T, out=out[:, : len(tile)])


def peers(rows: NDArray[np.float32]) -> dict[str, Callable[[NDArray[np.float32]], object]]:
    """Other exact searches that are installed here: faiss' flat index and usearch's exact search."""
    found: dict[str, Callable[[NDArray[np.float32]], object]] = {}
    if find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        found["faiss flat"] = lambda probes: flat.search(probes, LIMIT)
    if find_spec("usearch"):
        from usearch.index import MetricKind
        from usearch.index import search as usearch_search

        found["usearch exact"] = lambda probes: usearch_search(
            rows, probes, LIMIT, MetricKind.IP, exact=True
        )
    return found


def measure(count: int, size: int, rounds: int, table: Table) -> None:
    """One row of the table for a probe alone, one for a batch."""
    rows, probes = unit_rows(count, size, 0), unit_rows(BATCH, size, 1)
    index = ExactIndex(size)
    index.append([f"{n}" for n in range(count)], rows)
    view = index.view()
    others = peers(rows)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        one = probes[:1]
        jobs: dict[str, Callable[[], object]] = {
            "limit": lambda: stream(rows, pool, cores),
            "ours": lambda: view.search(one, LIMIT, THRESHOLD),
            "ours, any score": lambda: view.search(one, LIMIT, -1.0),
            "numpy": lambda: np.argpartition(-(rows @ one[0]), LIMIT)[:LIMIT],
            **{name: (lambda search=search: search(one)) for name, search in others.items()},  # type: ignore[misc]
        }
        add_row(table, f"{count:,} x {size}", "one probe", race(rounds, **jobs), 1, "0.7")
    tile = np.empty((BATCH, 8192), np.float32)
    jobs = {
        "limit": lambda: product(rows, probes, tile),
        "ours": lambda: view.search(probes, LIMIT, THRESHOLD),
        "ours, any score": lambda: view.search(probes, LIMIT, -1.0),
        "numpy": lambda: np.argpartition(-(probes @ rows.T), LIMIT, axis=1)[:, :LIMIT],
        **{name: (lambda search=search: search(probes)) for name, search in others.items()},  # type: ignore[misc]
    }
    if count > 1_000_000:
        del jobs["numpy"]  # its products alone would take ten gigabytes
    times = race(max(3, rounds // 8), **jobs)
    add_row(table, f"{count:,} x {size}", f"{BATCH} probes", times, BATCH, "0.35")


def add_row(
    table: Table, what: str, how: str, times: dict[str, float], probes: int, goal: str
) -> None:
    """Milliseconds a probe, and shares of the limit."""
    limit = times.pop("limit")
    ours = times["ours"]
    cells = [f"{times[name] / probes:.3g}" if name in times else "" for name in table_names()]
    table.add_row(what, how, f"{limit / probes:.3g}", *cells, f"{limit / ours:.2f} (goal {goal})")


def table_names() -> tuple[str, ...]:
    """Columns of the table, after the limit."""
    return ("ours", "ours, any score", "numpy", "faiss flat", "usearch exact")


def opening(count: int, size: int) -> None:
    """Time and memory of opening gallery files, in clear and encrypted, each time in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path, encrypted = Path(folder) / "gallery.db", Path(folder) / "encrypted.db"
        rows = unit_rows(count, size, 0)
        fill(path, rows, None)
        start = time.perf_counter()
        fill(encrypted, rows, KEY)
        print(f"enrolling {count:,} x {size} in an encrypted gallery: {seconds_since(start)}")
        for fusion in FUSIONS:
            clear = told_opening(path, count, size, fusion, None)
            ratio = told_opening(encrypted, count, size, fusion, KEY) / clear
            print(f"opening {count:,} x {size}, {fusion}, encrypted / in clear: {ratio:.1f}")
        start = time.perf_counter()
        encrypt_gallery(path, KEY)
        print(f"verifykit gallery encrypt, {count:,} x {size}: {seconds_since(start)}")


def fill(path: Path, rows: NDArray[np.float32], key: bytes | None) -> None:
    """A gallery with a subject a row."""
    size = rows.shape[1]
    with SqliteGallery(path, spec_digest=DIGEST, embedding_size=size, key=key) as gallery:
        gallery.add_entries(
            (Entry(f"{n}", row[None], ((),), None) for n, row in enumerate(rows)), "append"
        )


def told_opening(path: Path, count: int, size: int, fusion: Fusion, key: bytes | None) -> float:
    """Print medians of opening a file, and return the seconds with the first search."""
    runs = []
    for _ in range(OPENINGS):
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            runs.append(fresh.apply(open_and_search, (path, count, size, fusion, key)))
    opened, wall, cpu, share = np.median(runs, axis=0)
    how, goal = (", encrypted", "") if key else ("", " (goal 3 s a million)")
    print(
        f"opening {count:,} x {size}, {fusion}{how}: {opened * 1e3:.0f} ms, and with the first search "
        f"{wall:.1f} s{goal}, {cpu:.1f} s of CPU time; "
        f"memory {share:.2f} of the raw vectors (goal 1.6); medians of {OPENINGS}"
    )
    return float(wall)


def open_and_search(
    path: Path, count: int, size: int, fusion: Fusion, key: bytes | None
) -> tuple[float, float, float, float]:
    """What :func:`opening` measures.

    Returns:
        Seconds of opening, seconds with the first search, CPU seconds of both, and the memory that they
        took as a share of the raw vectors.
    """
    probe = unit_rows(1, size, 1)
    before, start, cpu = resident_bytes(), time.perf_counter(), time.process_time()
    gallery = SqliteGallery(path, spec_digest=DIGEST, embedding_size=size, fusion=fusion, key=key)
    opened = time.perf_counter()
    gallery.search(probe, 1, 0.9)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    share = (resident_bytes() - before) / (4 * count * size)
    gallery.close()
    return opened - start, end - start, cpu, share


def seconds_since(start: float) -> str:
    """For people."""
    return f"{time.perf_counter() - start:.1f} s"


def resident_bytes() -> int:
    """Memory of this process that is not on disk."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.search", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[128])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--opening", type=int, default=0, help="also open files of so many")
    arguments = parser.parse_args()
    table = Table(title="milliseconds a probe, medians of interleaved rounds")
    for column in ("vectors", "", "limit", *table_names(), "limit / ours"):
        table.add_column(column, justify="right", no_wrap=True)
    for size in arguments.dimensions:
        for count in arguments.rows:
            measure(count, size, arguments.rounds, table)
    console.print(table)
    if arguments.opening:
        opening(arguments.opening, arguments.dimensions[0])


if __name__ == "__main__":
    main()
