"""Programs that a test starts, waits for and signals."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

STEP_S = 0.05


@contextmanager
def started(
    command: Sequence[object], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, and end it when the test ends, also when it fails."""
    with subprocess.Popen([*map(str, command)], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float
) -> None:
    """Wait until a condition holds; fail if the program ends before, or the time is over."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the program ended with status {process.returncode}"
        assert time.monotonic() < until, f"not within {seconds:g} s"
        time.sleep(STEP_S)
