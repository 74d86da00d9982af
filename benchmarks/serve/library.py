"""The same requests for the library as for the service, and the rate of the library alone."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import verifykit as vk
from benchmarks.serve.load import multipart
from demo.portraits import portraits
from verifykit.server import ServerSettings

IMAGES = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")
ENROLLED = ("person_a_1", "person_b_1")
VERBS = ("verify", "identify", "compare")
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Task:
    """A request, for the service or for the library.

    Attributes:
        verb: One of ``VERBS``.
        subject_id: The claimed subject, for ``verify``.
        probe: The probe image.
        reference: The reference image, for ``compare``.
    """

    verb: str
    subject_id: str
    probe: bytes
    reference: bytes

    def request(self, host: str) -> bytes:
        """Return the HTTP request for the service."""
        path = f"subjects/{self.subject_id}/verify" if self.verb == "verify" else self.verb
        parts = [("image", self.probe)]
        if self.verb == "compare":
            parts = [("probe", self.probe), ("reference", self.reference)]
        return multipart("POST", f"/v1/{path}?quality=warn", host, parts)

    def run(self, verifier: vk.Verifier) -> object:
        """Call the library."""
        if self.verb == "verify":
            return verifier.verify(self.subject_id, self.probe)
        if self.verb == "identify":
            return verifier.identify(self.probe)
        return verifier.compare(self.probe, self.reference)


@dataclass(frozen=True)
class LibraryRun:
    """Number of requests in the measured time, and CPU time per request."""

    count: int
    seconds: float
    cpu_s_each: float


def tasks(verbs: Sequence[str]) -> list[Task]:
    """Return every image against every claimed subject, by each verb in turn."""
    images = {name: portraits()[name].read_bytes() for name in IMAGES}
    return [
        Task(verb, claim, image, images[claim])
        for claim, image, verb in itertools.product(ENROLLED, images.values(), verbs)
    ]


def run_library(
    gallery: Path, threads: int, requests: Sequence[Task], seconds: float
) -> LibraryRun:
    """Call the library from several threads, each network run with as many threads as the service's."""
    network_threads = ServerSettings("unused.db").thread_count
    counts, totals = [0] * threads, [0] * threads
    verifier = vk.Verifier("face", gallery, quality="warn", threads=network_threads)
    started = threading.Event()
    begin = end = 0.0

    def work(number: int) -> None:
        started.wait()
        for task in itertools.islice(itertools.cycle(requests), number % len(requests), None):
            task.run(verifier)
            now = time.perf_counter()
            totals[number] += 1
            if now > end:
                return
            counts[number] += now > begin

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    cpu_start = time.process_time()
    begin = time.perf_counter() + WARM_UP_S
    end = begin + seconds
    started.set()
    for worker in workers:
        worker.join()
    return LibraryRun(sum(counts), seconds, (time.process_time() - cpu_start) / sum(totals))


def run_in_fresh_process(job: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a fresh process and return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(job, *arguments).result()
