"""Compare a text with the one that is stored, and store it again where that is requested."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

UPDATE = "VERIFYKIT_UPDATE_SNAPSHOTS"
ARCHITECTURE = "tests/architecture"


def updates() -> bool:
    """Return whether the stored texts are to be written instead of compared."""
    return os.environ.get(UPDATE) == "1"


def advice(test_file: str) -> str:
    """Return the command that accepts a change."""
    return f"{UPDATE}=1 .venv/bin/python -m pytest -n0 {ARCHITECTURE}/{test_file}"


def assert_same(found: str, stored: Path, test_file: str) -> None:
    """Fail with a unified diff where `found` is not the stored text."""
    if updates():
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_text(found, encoding="utf-8")
        return
    expected = stored.read_text(encoding="utf-8") if stored.is_file() else ""
    if found == expected:
        return
    diff = difflib.unified_diff(
        expected.splitlines(), found.splitlines(), f"{stored.name}, stored", "now", lineterm=""
    )
    lines = [*diff]
    raise AssertionError(
        "\n".join(
            (f"{stored.name} differs. If the change is intended: {advice(test_file)}", *lines)
        )
    )
