"""The service under load, against the bare library in the same run.

``python -m benchmarks.serve --seconds 60`` starts ``verifykit serve`` as it is by default on this machine's
loopback, enrols the demo's portraits, and has 1, 16 and 200 clients of another process ask without a pause;
before and after each, as many threads of a third process ask the library for the same of the same gallery.
It prints the rates and their ratio, latencies, what each needed of the processor, the service's memory, and
the answers by status: anything but 2xx, 429 and 503 ends it with status 1.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import shlex
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.serve_load import NO_ANSWER, Load, Seen, multipart, offer
from demo.portraits import portraits
from demo.service import served
from verifykit.server import ServerSettings

console = Console(width=130)
PICTURES = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2")
ENROLLED = ("person_a_1", "person_b_1")
VERBS = ("verify", "identify", "compare")
WARM_S = 1.0
ALLOWED = (429, 503)
GOAL, GOAL_CLIENTS = 0.8, 16


@dataclass(frozen=True)
class Task:
    """One question, for the service or for the library.

    Attributes:
        verb: One of ``VERBS``.
        subject_id: Who is claimed, for ``verify``.
        probe: The picture.
        reference: Another, for ``compare``.
    """

    verb: str
    subject_id: str
    probe: bytes
    reference: bytes

    def request(self, host: str) -> bytes:
        """As it is sent to the service."""
        path = f"subjects/{self.subject_id}/verify" if self.verb == "verify" else self.verb
        parts = [("image", self.probe)]
        if self.verb == "compare":
            parts = [("probe", self.probe), ("reference", self.reference)]
        return multipart("POST", f"/v1/{path}?quality=warn", host, parts)

    def ask(self, verifier: vk.Verifier) -> object:
        """As an application asks the library."""
        if self.verb == "verify":
            return verifier.verify(self.subject_id, self.probe)
        if self.verb == "identify":
            return verifier.identify(self.probe)
        return verifier.compare(self.probe, self.reference)


@dataclass(frozen=True)
class Bare:
    """How the library did: questions in so many seconds, and what one needs of the processor."""

    count: int
    seconds: float
    cpu_s_each: float


def tasks(verbs: Sequence[str]) -> list[Task]:
    """Every picture for every claim, by each verb in turn."""
    pictures = {name: portraits()[name].read_bytes() for name in PICTURES}
    return [
        Task(verb, claim, picture, pictures[claim])
        for claim, picture, verb in itertools.product(ENROLLED, pictures.values(), verbs)
    ]


def library(gallery: Path, threads: int, asked: Sequence[Task], seconds: float) -> Bare:
    """Ask the library from so many threads; a network run has as many threads as the service's."""
    each_run = ServerSettings("unused.db").thread_count
    counts, asked_in_all = [0] * threads, [0] * threads
    verifier = vk.Verifier("face", gallery, quality="warn", threads=each_run)
    started = threading.Event()
    begin = end = 0.0

    def ask(number: int) -> None:
        started.wait()
        for task in itertools.islice(itertools.cycle(asked), number % len(asked), None):
            task.ask(verifier)
            now = time.perf_counter()
            asked_in_all[number] += 1
            if now > end:
                return
            counts[number] += now > begin

    running = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    used = time.process_time()
    begin = time.perf_counter() + WARM_S
    end = begin + seconds
    started.set()
    for thread in running:
        thread.join()
    return Bare(sum(counts), seconds, (time.process_time() - used) / sum(asked_in_all))


@dataclass(frozen=True)
class Process:
    """What the service needs, as it says itself: resident bytes and seconds of the processor."""

    resident_bytes: float
    cpu_s: float

    @classmethod
    def of(cls, client: httpx.Client) -> Process:
        """Now."""
        lines = client.get("/metrics").raise_for_status().text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return cls(
            float(values["process_resident_memory_bytes"]),
            float(values["process_cpu_seconds_total"]),
        )


@dataclass(frozen=True)
class Stage:
    """So many clients, and as many threads of the library before and after them."""

    clients: int
    seen: Seen
    bare: tuple[Bare, Bare]
    before: Process
    after: Process

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.seen.latencies_s) / self.seen.seconds

    @property
    def bare_rate(self) -> float:
        """The library's answers a second."""
        return sum(run.count for run in self.bare) / sum(run.seconds for run in self.bare)

    @property
    def refused(self) -> Counter[int]:
        """Answers that may not be, by status."""
        allowed = (*range(200, 300), *ALLOWED)
        return Counter({s: n for s, n in self.seen.statuses.items() if s not in allowed})


def apart(job: Callable[..., Any], *arguments: object) -> Any:
    """What a function returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(job, *arguments).result()


def stage(
    client: httpx.Client, gallery: Path, clients: int, verbs: Sequence[str], seconds: float
) -> Stage:
    """The library, the service, the library again."""
    asked = tasks(verbs)
    first = apart(library, gallery, clients, asked, seconds / 2)
    host = client.base_url.host
    port = client.base_url.port or 80
    requests = [task.request(f"{host}:{port}") for task in asked]
    before = Process.of(client)
    seen = apart(offer, Load(host, port, requests, clients, WARM_S, seconds))
    after = Process.of(client)
    last = apart(library, gallery, clients, asked, seconds / 2)
    return Stage(clients, seen, (first, last), before, after)


def table_of(stages: Sequence[Stage], verbs: Sequence[str]) -> Table:
    """One line for each number of clients."""
    table = Table(
        *("clients", "2xx/s", "library/s", "ratio", "p50, p95, p99 ms"),
        *("CPU ms each: service, library, clients", "MB before, after", "answers"),
        title=f"verifykit serve, {', '.join(verbs)}",
    )
    for one in stages:
        ms = [1000 * value for value in one.seen.latencies_s or [float("nan")]]
        cpu_s = (
            (one.after.cpu_s - one.before.cpu_s) / max(1, one.seen.answered),
            statistics.mean(run.cpu_s_each for run in one.bare),
            one.seen.cpu_s / max(1, one.seen.answered),
        )
        table.add_row(
            str(one.clients),
            f"{one.rate:.1f}",
            f"{one.bare_rate:.1f}",
            f"{one.rate / one.bare_rate:.2f}",
            ", ".join(f"{value:.0f}" for value in np.percentile(ms, (50, 95, 99))),
            ", ".join(f"{1000 * value:.1f}" for value in cpu_s),
            ", ".join(f"{at.resident_bytes / 1e6:.0f}" for at in (one.before, one.after)),
            ", ".join(f"{s}: {n}" for s, n in sorted(one.seen.statuses.items())),
        )
    return table


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.serve", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 200])
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=["verify"])
    parser.add_argument("--options", default="", help="more of `verifykit serve`, in one word")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "staff.db"
        # Most claims fail, and what stops that after ten is not what is measured.
        extra = ("--no-signatures", "--failed-verifications", "0", *shlex.split(options.options))
        with (
            served(gallery, *extra) as address,
            httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
        ):
            for name in ENROLLED:
                files = {"image": portraits()[name].read_bytes()}
                client.put(f"/v1/subjects/{name}", files=files).raise_for_status()
            stages = [
                stage(client, gallery, count, options.verbs, options.seconds)
                for count in options.clients
            ]
    console.print(table_of(stages, options.verbs))
    wrong = sum((one.refused for one in stages), Counter[int]())
    for status, count in wrong.items():
        what = "connections ended unanswered" if status == NO_ANSWER else f"answers were {status}"
        console.print(f"{count} {what}, which may not be")
    for one in stages:
        if one.clients == GOAL_CLIENTS:
            ratio = one.rate / one.bare_rate
            verdict = "reached" if ratio >= GOAL else "missed"
            console.print(f"goal, {GOAL} of the library at {GOAL_CLIENTS} clients: {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
