"""The service in a process of its own, as `verifykit serve` starts it, for tests and pictures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LISTENING = "listening at "
_STOP_S = 30


@contextmanager
def served(gallery: Path, *options: str) -> Iterator[str]:
    """Serve a gallery on a free port of this machine.

    Args:
        gallery: The gallery's file; made when somebody is enrolled.
        options: More of ``verifykit serve``.

    Yields:
        The address, without a slash at its end.

    Raises:
        RuntimeError: It did not start; the message is its log.
    """
    command = [sys.executable, "-m", "verifykit", "serve", "--gallery", str(gallery), "--port", "0"]
    log = gallery.with_name(gallery.name + ".log")
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            for line in process.stdout:
                if line.startswith(_LISTENING):
                    yield line.removeprefix(_LISTENING).strip()
                    return
            raise RuntimeError(f"the service did not start:\n{log.read_text(encoding='utf-8')}")
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def make_key(gallery: Path, *scopes: str) -> str:
    """An API key with these scopes, as ``verifykit serve keys create`` prints it."""
    command = [sys.executable, "-m", "verifykit", "serve", "keys", "create", "--name", "test"]
    wanted = [part for scope in scopes for part in ("--scope", scope)]
    made = subprocess.run(
        [*command, *wanted, "--gallery", str(gallery)], capture_output=True, text=True, check=True
    )
    return next(word for word in made.stdout.split() if word.startswith("vk_"))
