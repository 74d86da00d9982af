"""Compare exact search with the limits of the machine and with other exact searches, in one run.

``python -m benchmarks.search [--rows 10000 100000 ...] [--dimensions 128 512] [--clusters 0 100]`` prints
milliseconds per probe, and the ratios to the measured limit and to numpy. The limit of one probe is reading
every float32 vector once from memory, that of a batch the bare matrix product of the batch with every vector.
``--clusters N`` gives every vector N - 1 near neighbours, so that many rows are close to the best. Results
are compared with those of the search without its 8-bit copy, whose memory and time are printed too. The
column "cohort" searches with penalties of look-alikes, by a drawn cohort that gives every row one.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Timing, resident_bytes, time_interleaved
from benchmarks.synthetic import entries, random_rows
from verifykit._cpus import available_cpus
from verifykit.gallery import GalleryInfo, SqliteGallery, encrypt_gallery
from verifykit.gallery import index as index_module
from verifykit.gallery.index import COARSE_FROM_VALUES, ExactIndex, IndexView
from verifykit.gallery.penalised import PenalisedSnapshot
from verifykit.gallery.snapshot import IndexSnapshot
from verifykit.scoring import unit_rows
from verifykit.spec import Cohort, Fusion

LIMIT = 5
THRESHOLD = 0.42
BATCH = 256
OPENINGS = 5
DIGEST = "d" * 64
KEY = bytes(32)
FUSIONS: tuple[Fusion, ...] = ("mean", "max")
OURS = ("ours", "any score", "cohort", "float32 only")
SEARCHES = (*OURS, "numpy", "faiss flat", "usearch exact")
COHORT_CENTRES, COHORT_NEAREST = 58, 5  # as the model face has
console = Console(width=170)


def stream(rows: NDArray[np.float32], pool: ThreadPoolExecutor, parts: int) -> float:
    """Read every vector once, on all cores: the limit of a scan with one probe."""
    flat = rows.reshape(-1)
    cuts = np.linspace(0, flat.size, parts + 1).astype(int)
    pieces = [flat[a:b] for a, b in itertools.pairwise(cuts.tolist())]
    return float(sum(pool.map(lambda piece: np.dot(piece, piece), pieces)))


def product(
    rows: NDArray[np.float32], probes: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Compute the bare matrix product, in tiles that fit the cache."""
    for start in range(0, len(rows), out.shape[1]):
        tile = rows[start : start + out.shape[1]]
        np.matmul(probes, tile.T, out=out[:, : len(tile)])


def peers(rows: NDArray[np.float32]) -> dict[str, Callable[[NDArray[np.float32]], object]]:
    """Return the installed peers: faiss' flat index and usearch's exact search."""
    searches: dict[str, Callable[[NDArray[np.float32]], object]] = {}
    if find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        searches["faiss flat"] = lambda probes: flat.search(probes, LIMIT)
    if find_spec("usearch"):
        from usearch.index import MetricKind
        from usearch.index import search as usearch_search

        searches["usearch exact"] = lambda probes: usearch_search(
            rows, probes, LIMIT, MetricKind.IP, exact=True
        )
    return searches


def vectors_and_probes(
    count: int, size: int, cluster: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return random vectors, or clusters whose members have a cosine of about 0.8, with probes like them."""
    rows, probes = random_rows(count, size, 0), random_rows(BATCH, size, 1)
    if cluster:
        centres = random_rows(-(-count // cluster), size, 2)
        rows = unit_rows(2.0 * np.repeat(centres, cluster, axis=0)[:count] + rows)
        probes = unit_rows(2.0 * centres[np.arange(BATCH) % len(centres)] + probes)
    return rows, probes


def peer(rows: NDArray[np.float32], probes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the best rows of each probe, as a careful user of numpy finds them."""
    products = probes @ rows.T
    best = np.argpartition(products, -LIMIT, axis=1)[:, -LIMIT:]
    order = np.argsort(-np.take_along_axis(products, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def require_equal(view: IndexView, probes: NDArray[np.float32]) -> None:
    """Search with and without the 8-bit copy."""
    bare = replace(view, coarse=())
    for threshold in (THRESHOLD, -1.0):
        if view.search(probes, LIMIT, threshold) != bare.search(probes, LIMIT, threshold):
            raise SystemExit("the 8-bit copy changed a result")


def with_cohort(view: IndexView) -> PenalisedSnapshot:
    """Return the view searched with a cohort of random centres."""
    centres = random_rows(COHORT_CENTRES, view.embedding_size, 3)
    info: GalleryInfo = {"spec_digest": DIGEST, "subject_count": len(view.ids)}
    return PenalisedSnapshot(IndexSnapshot(info, view), Cohort.of(centres, COHORT_NEAREST, 0.0))


def opened(rows: NDArray[np.float32], label: str) -> IndexView:
    """Return a view of an index of these rows; print what its 8-bit copy cost."""
    index = ExactIndex(rows.shape[1])
    index.append([f"{n}" for n in range(len(rows))], rows)
    start, cpu_start = time.perf_counter(), time.process_time()
    view = index.view()
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    held = sum(each.values.nbytes + sum(c.nbytes for c in each.columns()) for each in view.coarse)
    print(
        f"{label}: vectors {sum(chunk.nbytes for chunk in view.chunks) / 1e6:.0f} MB, 8-bit copy "
        f"{held / 1e6:.0f} MB, made by the first search in {wall_s:.2f} s ({cpu_s:.2f} s of CPU)"
    )
    return view


def measure(
    count: int, size: int, cluster: int, rounds: int, table: Table, *, with_batch: bool
) -> None:
    """Add a table row for a single probe, and one for a batch."""
    rows, probes = vectors_and_probes(count, size, cluster)
    label = f"{count:,} x {size}" + (f", {cluster} alike" if cluster else "")
    view = opened(rows, label)
    for some in (probes[:1], probes[:16]):
        require_equal(view, some)
    penalised = with_cohort(view)
    others = peers(rows)
    cores = available_cpus()
    with ThreadPoolExecutor(cores) as pool:
        one = probes[:1]
        jobs: dict[str, Callable[[], object]] = {
            "limit": lambda: stream(rows, pool, cores),
            "ours": lambda: view.search(one, LIMIT, THRESHOLD),
            "any score": lambda: view.search(one, LIMIT, -1.0),
            "cohort": lambda: penalised.search(one, LIMIT, THRESHOLD),
            "float32 only": lambda: replace(view, coarse=()).search(one, LIMIT, THRESHOLD),
            "numpy": lambda: peer(rows, one),
            **{name: (lambda search=search: search(one)) for name, search in others.items()},  # type: ignore[misc]
        }
        timings = time_interleaved(jobs, rounds)
        add_row(table, label, "one probe", timings, 1, "1.3")
    if not with_batch:
        return
    tile = np.empty((BATCH, 8192), np.float32)
    jobs = {
        "limit": lambda: product(rows, probes, tile),
        "ours": lambda: view.search(probes, LIMIT, THRESHOLD),
        "any score": lambda: view.search(probes, LIMIT, -1.0),
        "cohort": lambda: penalised.search(probes, LIMIT, THRESHOLD),
        "float32 only": lambda: replace(view, coarse=()).search(probes, LIMIT, THRESHOLD),
        "numpy": lambda: peer(rows, probes),
        **{name: (lambda search=search: search(probes)) for name, search in others.items()},  # type: ignore[misc]
    }
    if count > 1_000_000:
        del jobs["numpy"]  # its products alone would take ten gigabytes
    timings = time_interleaved(jobs, max(3, rounds // 8))
    add_row(table, label, f"{BATCH} probes", timings, BATCH, "0.35")


def add_row(
    table: Table, vectors: str, queries: str, timings: dict[str, Timing], probes: int, goal: str
) -> None:
    """Add milliseconds per probe, and the ratio to the limit."""
    ms = {name: timing.wall_ms / probes for name, timing in timings.items()}
    cells = [f"{ms[name]:.3g}" if name in ms else "" for name in ("limit", *SEARCHES)]
    table.add_row(
        vectors,
        queries,
        *cells,
        f"{ms['limit'] / ms['ours']:.2f} (goal {goal})",
        f"{ms['numpy'] / ms['ours']:.1f}" if "numpy" in ms else "",
    )


def measure_opening(count: int, size: int) -> None:
    """Print time and memory of opening gallery files, plain and encrypted, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        plain, encrypted = Path(folder) / "gallery.db", Path(folder) / "encrypted.db"
        rows = random_rows(count, size, 0)
        fill(plain, rows, None)
        start = time.perf_counter()
        fill(encrypted, rows, KEY)
        elapsed_s = time.perf_counter() - start
        print(f"enrolling {count:,} x {size} in an encrypted gallery: {elapsed_s:.1f} s")
        for fusion in FUSIONS:
            plain_s = report_opening(plain, count, size, fusion, None)
            ratio = report_opening(encrypted, count, size, fusion, KEY) / plain_s
            print(f"opening {count:,} x {size}, {fusion}, encrypted / plain: {ratio:.1f}")
        start = time.perf_counter()
        encrypt_gallery(plain, KEY)
        elapsed_s = time.perf_counter() - start
        print(f"verifykit gallery encrypt, {count:,} x {size}: {elapsed_s:.1f} s")


def fill(path: Path, rows: NDArray[np.float32], key: bytes | None) -> None:
    """Create a gallery with a subject for each row."""
    size = rows.shape[1]
    with SqliteGallery(path, spec_digest=DIGEST, embedding_size=size, key=key) as gallery:
        gallery.add_entries(entries(rows), "append")


def report_opening(path: Path, count: int, size: int, fusion: Fusion, key: bytes | None) -> float:
    """Print medians of opening a file, and return the seconds including the first search."""
    runs = []
    for _ in range(OPENINGS):
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            runs.append(fresh.apply(open_and_search, (path, count, size, fusion, key)))
    opened_s, wall_s, cpu_s, share = np.median(runs, axis=0)
    kind, goal = (", encrypted", "") if key else ("", " (goal 3 s a million)")
    print(
        f"opening {count:,} x {size}, {fusion}{kind}: {opened_s * 1e3:.0f} ms, with the first search "
        f"{wall_s:.1f} s{goal}, {cpu_s:.1f} s of CPU time; "
        f"memory {share:.2f} of the raw vectors (goal 1.6); medians of {OPENINGS}"
    )
    return float(wall_s)


def open_and_search(
    path: Path, count: int, size: int, fusion: Fusion, key: bytes | None
) -> tuple[float, float, float, float]:
    """Open a gallery and search it once.

    Returns:
        Seconds of opening, seconds including the first search, CPU seconds of both, and the memory used as
        a share of the raw vectors.
    """
    probe = random_rows(1, size, 1)
    before, start, cpu = resident_bytes(), time.perf_counter(), time.process_time()
    gallery = SqliteGallery(path, spec_digest=DIGEST, embedding_size=size, fusion=fusion, key=key)
    opened = time.perf_counter()
    gallery.search(probe, 1, 0.9)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    share = (resident_bytes() - before) / (4 * count * size)
    gallery.close()
    return opened - start, end - start, cpu, share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.search", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[128])
    parser.add_argument(
        "--clusters", type=int, nargs="+", default=[0, 100], help="vectors that are alike; 0: none"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--single", action="store_true", help="leave out the batches of probes")
    parser.add_argument(
        "--copy-from",
        type=int,
        default=COARSE_FROM_VALUES,
        help="values (rows x dimensions) from which there is an 8-bit copy",
    )
    parser.add_argument(
        "--opening",
        type=int,
        default=0,
        help="also open gallery files of this size",
    )
    arguments = parser.parse_args()
    index_module.COARSE_FROM_VALUES = arguments.copy_from
    table = Table(title="milliseconds a probe, medians of interleaved rounds")
    for column in ("vectors", "", "limit", *SEARCHES, "limit / ours", "numpy / ours"):
        table.add_column(column, justify="right", no_wrap=True)
    for size in arguments.dimensions:
        for count in arguments.rows:
            for cluster in arguments.clusters:
                measure(
                    count, size, cluster, arguments.rounds, table, with_batch=not arguments.single
                )
    console.print(table)
    if arguments.opening:
        measure_opening(arguments.opening, arguments.dimensions[0])


if __name__ == "__main__":
    main()
