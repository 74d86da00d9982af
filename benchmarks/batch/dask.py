"""Compare a Dask cluster on this machine with as many workers of one process.

The scheduler and the workers are child processes, listen on 127.0.0.1 only and end with the benchmark. The
first run on a cluster includes importing everything and opening model and gallery; the second does not.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

import verifykit as vk
from verifykit.batch import identify_batch
from verifykit.batch.dask_engine import DaskEngine
from verifykit.encoder import Encoder
from verifykit.gallery import Entry, open_for
from verifykit.models import load

WORKERS = 2
_START_TIMEOUT_S = 60.0
# Without a dashboard an HTTP server remains, which would listen on every interface.
_LOCAL_ONLY = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")


@dataclass(frozen=True)
class Workload:
    """Images to identify, and the gallery to search.

    Attributes:
        images: A list of images.
        count: The number of images in it.
        model: The model's registered name or path.
        gallery: The gallery's file.
        folder: The folder for output and logs.
    """

    images: Path
    count: int
    model: str
    gallery: Path
    folder: Path

    def run(self, verifier: vk.Verifier, engine: DaskEngine | None = None) -> float:
        """Identify all images and return the wall time in seconds."""
        out = self.folder / "dask.jsonl"
        out.unlink(missing_ok=True)
        workers = None if engine else WORKERS
        start = time.perf_counter()
        identify_batch(
            verifier,
            self.images,
            out,
            threshold=0.5,
            quality="warn",
            workers=workers,
            engine=engine,
        )
        return time.perf_counter() - start


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Start a scheduler with workers of one thread each; yield its address, then stop all."""
    with ExitStack() as stack:

        def start(program: str, *options: str) -> Callable[[str], str]:
            log = folder / f"{program}-{time.monotonic_ns()}.log"
            command = [sys.executable, "-m", f"distributed.cli.{program}", *options, *_LOCAL_ONLY]
            with log.open("wb") as file:
                process = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return lambda pattern: _wait_for(process, log, pattern)

        address = start("dask_scheduler", "--port", "0")(r"Scheduler at:\s+(tcp://\S+)")
        options = ("--no-nanny", "--nthreads", "1", "--local-directory", str(folder))
        workers = [start("dask_worker", address, *options) for _ in range(WORKERS)]
        for wait_for in workers:
            wait_for("(Registered to)")
        yield address


def _wait_for(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    """Return the first group of the pattern in the log of a process that is starting."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()}")


def compare_engines(work: Workload, entries: Iterable[Entry], rounds: int) -> Table:
    """Measure images per second by both engines in turn, with a fresh cluster in every round.

    The workload's gallery must not exist; it is created with ``entries``.
    """
    encoder = Encoder.open(load(work.model), threads=1)
    spec = encoder.spec
    with open_for(
        str(work.gallery),
        spec_digest=spec.digest,
        embedding_size=spec.embedding_size,
        fusion=spec.fusion,
        model=spec.name,
    ) as gallery:
        gallery.add_entries(entries, "error")
        verifier = vk.Verifier(encoder, gallery)
        work.run(verifier)  # warm-up
        taken: dict[str, list[float]] = {
            f"local, {WORKERS} workers": [],
            f"dask, {WORKERS} fresh workers": [],
            "dask, same workers again": [],
        }
        for _ in range(rounds):
            local = work.run(verifier)
            with cluster(work.folder) as address:
                engine = DaskEngine(address, work.model)
                each = (local, work.run(verifier, engine), work.run(verifier, engine))
            for times, seconds in zip(taken.values(), each, strict=True):
                times.append(seconds)
    table = Table("engine", "images/s", "this / local", title="on a Dask cluster of this machine")
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours = next(iter(medians.values()))
    for name, seconds in medians.items():
        table.add_row(name, f"{work.count / seconds:.1f}", f"{ours / seconds:.2f}")
    return table
