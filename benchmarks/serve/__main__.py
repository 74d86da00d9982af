"""Measure the service under load, against the library alone in the same run.

``python -m benchmarks.serve --seconds 60`` starts ``verifykit serve`` with its defaults on the loopback
interface, enrols the demo's portraits, and sends requests without a pause from 1, 16 and 200 clients in
another process; before and after each, as many threads of a third process run the same requests with the
library on the same gallery. It prints the rates and their ratio, latencies, CPU time, the memory of the
service, and the responses by status: any status but 2xx, 429 and 503 gives exit status 1.
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serve.library import (
    ENROLLED,
    VERBS,
    WARM_UP_S,
    LibraryRun,
    run_in_fresh_process,
    run_library,
    tasks,
)
from benchmarks.serve.load import NO_RESPONSE, Load, LoadResult, send_load
from demo.portraits import portraits
from demo.service import served

console = Console(width=130)
ALLOWED = (429, 503)
GOAL, GOAL_CLIENTS = 0.8, 16


@dataclass(frozen=True)
class Process:
    """Resident memory and CPU time of the service, from its own metrics."""

    resident_bytes: float
    cpu_s: float

    @classmethod
    def read(cls, client: httpx.Client) -> Process:
        """Read the current values."""
        lines = client.get("/metrics").raise_for_status().text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return cls(
            float(values["process_resident_memory_bytes"]),
            float(values["process_cpu_seconds_total"]),
        )


@dataclass(frozen=True)
class Stage:
    """A number of clients, and as many threads of the library before and after them."""

    clients: int
    load: LoadResult
    library: tuple[LibraryRun, LibraryRun]
    before: Process
    after: Process

    @property
    def rate(self) -> float:
        """Return successful responses per second."""
        return len(self.load.latencies_s) / self.load.seconds

    @property
    def library_rate(self) -> float:
        """Return the library's results per second."""
        return sum(run.count for run in self.library) / sum(run.seconds for run in self.library)

    @property
    def ratio(self) -> float:
        """Return the service's rate as a share of the library's; NaN without a result of the library."""
        return self.rate / self.library_rate if self.library_rate else math.nan

    @property
    def unexpected(self) -> Counter[int]:
        """Return the responses with an unexpected status, by status."""
        allowed = (*range(200, 300), *ALLOWED)
        return Counter({s: n for s, n in self.load.statuses.items() if s not in allowed})


def stage(
    client: httpx.Client, gallery: Path, clients: int, verbs: Sequence[str], seconds: float
) -> Stage:
    """Measure the library, the service, and the library again."""
    requests = tasks(verbs)
    first = run_in_fresh_process(run_library, gallery, clients, requests, seconds / 2)
    host = client.base_url.host
    port = client.base_url.port or 80
    payloads = [task.request(f"{host}:{port}") for task in requests]
    before = Process.read(client)
    load = Load(host, port, payloads, clients, WARM_UP_S, seconds)
    result = run_in_fresh_process(send_load, load)
    after = Process.read(client)
    last = run_in_fresh_process(run_library, gallery, clients, requests, seconds / 2)
    return Stage(clients, result, (first, last), before, after)


def table_of(stages: Sequence[Stage], verbs: Sequence[str]) -> Table:
    """Return a table row for each number of clients."""
    table = Table(
        *("clients", "2xx/s", "library/s", "ratio", "p50, p95, p99 ms"),
        *("CPU ms each: service, library, clients", "MB before, after", "responses"),
        title=f"verifykit serve, {', '.join(verbs)}",
    )
    for one in stages:
        ms = [1000 * value for value in one.load.latencies_s or [float("nan")]]
        cpu_s = (
            (one.after.cpu_s - one.before.cpu_s) / max(1, one.load.succeeded),
            statistics.mean(run.cpu_s_each for run in one.library),
            one.load.cpu_s / max(1, one.load.succeeded),
        )
        table.add_row(
            str(one.clients),
            f"{one.rate:.1f}",
            f"{one.library_rate:.1f}",
            f"{one.ratio:.2f}",
            ", ".join(f"{value:.0f}" for value in np.percentile(ms, (50, 95, 99))),
            ", ".join(f"{1000 * value:.1f}" for value in cpu_s),
            ", ".join(f"{at.resident_bytes / 1e6:.0f}" for at in (one.before, one.after)),
            ", ".join(f"{s}: {n}" for s, n in sorted(one.load.statuses.items())),
        )
    return table


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.serve", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 200])
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=["verify"])
    parser.add_argument(
        "--options", default="", help="further options of `verifykit serve`, as one argument"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "staff.db"
        # Most claims fail; the limit of failed verifications is not what is measured.
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
    unexpected = sum((one.unexpected for one in stages), Counter[int]())
    for status, count in unexpected.items():
        what = "without a response" if status == NO_RESPONSE else f"with status {status}"
        console.print(f"{count} requests {what}, which is not expected")
    for one in stages:
        if one.clients == GOAL_CLIENTS:
            verdict = "reached" if one.ratio >= GOAL else "missed"
            console.print(f"goal, {GOAL} of the library at {GOAL_CLIENTS} clients: {verdict}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
