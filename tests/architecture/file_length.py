"""No file is longer than 300 lines: `python file_length.py FILE...` names those that are."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

LIMIT = 300


def too_long(paths: Iterable[Path]) -> list[str]:
    """Say which of these files have more than 300 lines, and how many."""
    counts = {path: len(path.read_bytes().splitlines()) for path in paths}
    return [
        f"{path}: {count} lines, split it: which two rooms is it?"
        for path, count in counts.items()
        if count > LIMIT
    ]


if __name__ == "__main__":
    sys.exit("\n".join(too_long(map(Path, sys.argv[1:]))) or 0)
