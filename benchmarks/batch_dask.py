"""The same pictures on a Dask cluster of this machine, beside as many workers of one process.

A part of ``python -m benchmarks.batch``. The scheduler and the workers are processes of the benchmark's own,
listen on 127.0.0.1 alone and end with it. The first run of a cluster waits until its workers have imported
everything and opened model and gallery; the second does not.
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
from verifykit.gallery import open_for
from verifykit.gallery.base import Entry
from verifykit.models import load

__all__ = ["Work", "cluster", "dask_rates"]

WORKERS = 2
_START_S = 60.0
# Without a dashboard there is still an HTTP server, which would listen on every interface.
_LOCAL = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")


@dataclass(frozen=True)
class Work:
    """What is identified, and among whom.

    Attributes:
        pictures: A list of pictures.
        count: How many it names.
        model: The model's registered name or path.
        gallery: The gallery's file.
        place: A folder for what is written.
    """

    pictures: Path
    count: int
    model: str
    gallery: Path
    place: Path

    def run(self, verifier: vk.Verifier, engine: DaskEngine | None = None) -> float:
        """Identify all of them and return the seconds that it took."""
        out = self.place / "dask.jsonl"
        out.unlink(missing_ok=True)
        workers = None if engine else WORKERS
        start = time.perf_counter()
        identify_batch(
            verifier,
            self.pictures,
            out,
            threshold=0.5,
            quality="warn",
            workers=workers,
            engine=engine,
        )
        return time.perf_counter() - start


@contextmanager
def cluster(place: Path) -> Iterator[str]:
    """The address of a scheduler with fresh workers of one thread each; all end with the block."""
    with ExitStack() as stack:

        def start(program: str, *options: str) -> Callable[[str], str]:
            log = place / f"{program}-{time.monotonic_ns()}.log"
            command = [sys.executable, "-m", f"distributed.cli.{program}", *options, *_LOCAL]
            with log.open("wb") as file:
                process = subprocess.Popen(command, stdout=file, stderr=file, cwd=place)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return lambda pattern: _said(process, log, pattern)

        address = start("dask_scheduler", "--port", "0")(r"Scheduler at:\s+(tcp://\S+)")
        options = ("--no-nanny", "--nthreads", "1", "--local-directory", str(place))
        workers = [start("dask_worker", address, *options) for _ in range(WORKERS)]
        for said in workers:
            said("(Registered to)")
        yield address


def _said(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    limit = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < limit:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not start: {log.read_text()}")


def dask_rates(work: Work, entries: Iterable[Entry], rounds: int) -> Table:
    """Images a second by both engines, in turns, a fresh cluster in every round.

    Args:
        work: What is identified; its gallery's file is not there yet.
        entries: What the gallery is to hold.
        rounds: How often.
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
        work.run(verifier)  # so that ours is warm, too
        taken: dict[str, list[float]] = {
            f"local, {WORKERS} workers": [],
            f"dask, {WORKERS} fresh workers": [],
            "dask, the same again": [],
        }
        for _ in range(rounds):
            local = work.run(verifier)
            with cluster(work.place) as address:
                engine = DaskEngine(address, work.model, str(work.gallery))
                each = (local, work.run(verifier, engine), work.run(verifier, engine))
            for times, seconds in zip(taken.values(), each, strict=True):
                times.append(seconds)
    table = Table("engine", "images/s", "this / local", title="on a Dask cluster of this machine")
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours = next(iter(medians.values()))
    for name, seconds in medians.items():
        table.add_row(name, f"{work.count / seconds:.1f}", f"{ours / seconds:.2f}")
    return table
