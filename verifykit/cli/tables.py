"""Lists as columns; plain when they are piped, never cut to the width of a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

__all__ = ["columns"]

_UNLIMITED = 100_000


def columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows in aligned columns, also when letters are two cells wide.

    Args:
        titles: One a column.
        rows: Cells, as plain text: nothing in them is taken for markup.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=io.StringIO(), width=_UNLIMITED, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
