"""Measure a cold start: ``import verifykit``, and ``verifykit compare`` on two files.

``python -m benchmarks.start A.jpg B.jpg``: medians, each in a fresh process; a bare interpreter, numpy alone
and the sessions of both networks are measured as lower bounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import time_interleaved
from verifykit.models import load

SESSIONS = """
import sys
from verifykit import modelfile
from verifykit.encoder import Encoder
Encoder.open(modelfile.read(sys.argv[1]))
"""


def run(command: list[str]) -> None:
    """Run a command that must end with status 0 or 1."""
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command}: {process.stderr}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.start", description=__doc__)
    parser.add_argument("probe", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    model = str(load("face").path)  # built before anything is timed
    python = [sys.executable, "-c"]
    command = str(Path(sys.executable).with_name("verifykit"))
    commands = {
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
    table = Table(title=f"seconds from a cold start, medians of {arguments.rounds} rounds")
    table.add_column("")
    table.add_column("seconds", justify="right")
    jobs = {name: partial(run, command) for name, command in commands.items()}
    for name, timing in time_interleaved(jobs, arguments.rounds, warm_up=False).items():
        table.add_row(name, f"{timing.wall_s:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
