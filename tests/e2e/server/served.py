"""`verifykit serve` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

__all__ = ["Served", "command", "served"]

_VERIFYKIT = str(Path(sys.executable).with_name("verifykit"))


@dataclass
class Served:
    """A service that listens."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def put(self, subject_id: str, picture: Path, **headers: str) -> httpx.Response:
        return httpx.put(
            f"{self.url}/v1/subjects/{subject_id}",
            files={"image": picture.read_bytes()},
            headers=headers,
            timeout=60,
            trust_env=False,
            verify=False,  # there is no TLS, and reading the certificates takes long
        )

    def verify(self, subject_id: str, picture: Path, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/subjects/{subject_id}/verify",
            files={"image": picture.read_bytes()},
            headers=headers,
            timeout=60,
            trust_env=False,
            verify=False,  # there is no TLS, and reading the certificates takes long
        )


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    words = [_VERIFYKIT, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def served(folder: Path, *options: object) -> Iterator[Served]:
    """The service of ``folder/staff.db`` at a free port; killed at the end, unless it was stopped."""
    words = [_VERIFYKIT, "serve", "--gallery", folder / "staff.db", "--port", 0, *options]
    log = folder / "service.log"
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            [str(word) for word in words], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said.startswith("listening at "), log.read_text(encoding="utf-8")
            yield Served(said.split()[-1], process, log)
        finally:
            process.kill()
