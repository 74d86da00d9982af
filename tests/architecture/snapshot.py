"""Compare a text with the one that is stored, and store it again where that is requested."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
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


def assert_allowed(found: Mapping[str, int], stored: Path, test_file: str) -> None:
    """Fail where offences differ from the stored list; a list that is written again never grows.

    A line of the list is what offends, and how often (or in how many lines); no file is an empty list.
    """
    text = stored.read_text(encoding="utf-8") if stored.is_file() else ""
    pairs = (line.rpartition(" ") for line in text.splitlines())
    allowed = {what: int(number) for what, _, number in pairs}
    if updates():
        grown = sum(found.values()) - sum(allowed.values())
        assert grown <= 0, f"{stored.name} would grow by {grown}: {_difference(found, allowed)}"
        lines = [f"{what} {number}\n" for what, number in sorted(found.items())]
        stored.write_text("".join(lines), encoding="utf-8")
        if not lines:
            stored.unlink()
        return
    if dict(found) != allowed:
        raise AssertionError(
            f"{stored.name} allows something else. What is new must be repaired (see {test_file}); for what "
            f"moved or is no longer needed: {advice(test_file)}\n{_difference(found, allowed)}"
        )


def _difference(found: Mapping[str, int], allowed: Mapping[str, int]) -> str:
    lines = (
        f"{what}: {found.get(what, 0)}, allowed {allowed.get(what, 0)}"
        for what in sorted(found.keys() | allowed.keys())
        if found.get(what, 0) != allowed.get(what, 0)
    )
    return "\n".join(lines)
