"""How long a cold start takes: ``import verifykit``, and ``verifykit compare`` on two files.

``python -m benchmarks.start A.jpg B.jpg``: each in a fresh process, medians; a bare interpreter, numpy
alone and both networks' sessions stand beside them as what cannot be avoided.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from verifykit.models import load

SESSIONS = """
import sys
from verifykit import modelfile
from verifykit.encoder import Encoder
Encoder.open(modelfile.read(sys.argv[1]))
"""


def median_seconds(command: list[str], rounds: int) -> float:
    """Median wall time of a command that must end with status 0 or 1."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        taken.append(time.perf_counter() - start)
        if run.returncode not in (0, 1):
            raise SystemExit(f"{command}: {run.stderr}")
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.start", description=__doc__)
    parser.add_argument("probe", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    model = str(load("face").path)  # built, if need be, before anything is timed
    python = [sys.executable, "-c"]
    command = str(Path(sys.executable).with_name("verifykit"))
    jobs = {
        "python, nothing imported": [*python, "pass"],
        "import numpy": [*python, "import numpy"],
        "import verifykit": [*python, "import verifykit"],
        "open the face model": [*python, SESSIONS, model],
        "verifykit --version": [command, "--version"],
        "verifykit compare": [
            *(command, "compare", str(arguments.probe), str(arguments.reference)),
            *("--quality", "warn"),
        ],
    }
    table = Table(title=f"seconds from a cold start, medians of {arguments.rounds}")
    table.add_column("")
    table.add_column("seconds", justify="right")
    for name, job in jobs.items():
        table.add_row(name, f"{median_seconds(job, arguments.rounds):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
