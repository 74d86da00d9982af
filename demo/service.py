"""Run `verifykit serve` in its own process, for tests and screenshots."""

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
        gallery: The gallery's file; it is created by the first enrolment.
        options: Further options of ``verifykit serve``.

    Yields:
        The address, without a trailing slash.

    Raises:
        RuntimeError: The service did not start; the message contains its log.
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
            assert process.stdout is not None  # noqa: S101 - stdout is a pipe
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
    """Create an API key with these scopes by ``verifykit serve keys create``."""
    command = [sys.executable, "-m", "verifykit", "serve", "keys", "create", "--name", "test"]
    options = [part for scope in scopes for part in ("--scope", scope)]
    created = subprocess.run(
        [*command, *options, "--gallery", str(gallery)], capture_output=True, text=True, check=True
    )
    return next(word for word in created.stdout.split() if word.startswith("vk_"))
