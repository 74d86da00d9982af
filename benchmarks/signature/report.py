"""Result tables for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from benchmarks.signature.rates import Share

Cell: TypeAlias = str | int | float | Share | None


@dataclass(frozen=True)
class ResultTable:
    """A table whose cells are still numbers.

    Attributes:
        title: The title.
        columns: The headings.
        rows: A cell for each column: a share in [0, 1], another number, text, or None for no value.
        note: How to read the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def text_of(cell: Cell) -> str:
    """Return a human-readable cell: shares in percent, a dash for None."""
    if cell is None:
        return "-"
    if isinstance(cell, Share):
        value = f"{100 * cell.value:.1f} %"
        if cell.low is None or cell.high is None:
            return value
        return f"{value} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def format_counts(reasons: Mapping[str, int]) -> str:
    """Return the count of each reason, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason}: {count}" for reason, count in ordered) or "none"


def show(console: Console, table: ResultTable) -> None:
    """Print a table and its note."""
    shown = Table(title=table.title, title_justify="left")
    for at, column in enumerate(table.columns):
        left = all(isinstance(row[at], str) for row in table.rows)
        shown.add_column(column, justify="left" if left else "right")
    for row in table.rows:
        shown.add_row(*map(_escape, map(text_of, row)))
    console.print(shown)
    if table.note:
        console.print(_escape(table.note), style="dim")
    console.print()


def markdown(lines: Sequence[str], tables: Sequence[ResultTable]) -> str:
    """Return the tables as Markdown, after lines about the run."""
    parts = ["# Signature benchmark", "", *(f"- {line}" for line in lines), ""]
    for table in tables:
        parts += [f"## {table.title}", ""]
        parts.append("| " + " | ".join(table.columns) + " |")
        parts.append("|" + " --- |" * len(table.columns))
        parts += ["| " + " | ".join(map(text_of, row)) + " |" for row in table.rows]
        parts += ["", table.note, ""] if table.note else [""]
    return "\n".join(parts)


def write_json(path: Path, lines: Sequence[str], tables: Sequence[ResultTable]) -> None:
    """Write the tables as JSON: an object by column for each row, numbers unrounded."""
    body = {
        "about": list(lines),
        "tables": [
            {
                "title": table.title,
                "note": table.note,
                "rows": [
                    dict(zip(table.columns, map(_value, row), strict=True)) for row in table.rows
                ],
            }
            for table in tables
        ],
    }
    path.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _value(cell: Cell) -> Any:
    return asdict(cell) if isinstance(cell, Share) else cell


def _escape(text: str) -> str:
    """Escape brackets, which rich would read as markup."""
    return text.replace("[", "\\[")
