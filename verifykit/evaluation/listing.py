"""Lists in text files: decoded, split into rows, and every row with the line that it stands on."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import InputError

__all__ = ["Row", "Table", "bad_line", "read_table", "read_text", "split_row"]


@dataclass(frozen=True)
class Row:
    """A row of a CSV file.

    Attributes:
        line: The line that it begins on, from 1.
        cells: Column to cell, without spaces around it.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        source: The file.
        columns: Their names, each once.
        rows: What follows the header; may be empty.
    """

    source: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def bad_line(source: Path, line: int, problem: str) -> InputError:
    """The error about a line of a file, to be raised."""
    return InputError(f"{str(source)!r}, line {line}: {problem}")


def read_text(source: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: It cannot be read, or is no text in UTF-8.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"{str(source)!r} cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8: save it as text in UTF-8"
        raise bad_line(source, line, problem) from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise bad_line(source, line, "there is a NUL character, so this is no text file")
    return text


def read_table(source: Path, known: Collection[str]) -> Table:
    """Read a CSV file with a header: commas between cells, quotes as RFC 4180 has them.

    Args:
        source: The file.
        known: Columns whose names count whatever their case, since ``Label`` must not become something
            else than ``label``.

    Returns:
        Its columns and rows; blank lines are left out.

    Raises:
        InputError: Unreadable, not UTF-8, not CSV, empty, a column without a name or named twice, or a
            row of another length than the header.
    """
    text = io.StringIO(read_text(source), newline="")
    reader = csv.reader(text, strict=True, skipinitialspace=True)
    lines: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if cells:
                lines.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise bad_line(source, start, f"the row that begins here is not CSV: {error}") from error
    if not lines:
        raise InputError(f"{str(source)!r} is empty: a CSV file begins with its column names")
    line, header = lines[0]
    columns = tuple(name.lower() if name.lower() in known else name for name in header)
    for number, name in enumerate(columns, 1):
        if not name:
            raise bad_line(source, line, f"column {number} has no name: name it, or remove it")
        if name in columns[: number - 1]:
            raise bad_line(source, line, f"column {name!r} is there twice: remove or rename one")
    return Table(source, columns, tuple(_row(source, columns, *rest) for rest in lines[1:]))


def split_row(
    table: Table, row: Row, known: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The cells of the columns that are known, and those of all further columns.

    Args:
        table: Where the row is from.
        row: The row.
        known: The columns that are known.

    Returns:
        Column to cell, twice; a known column that is not there has an empty cell.
    """
    named = {name: row.cells.get(name, "") for name in known}
    return named, {name: row.cells[name] for name in table.columns if name not in known}


def _row(source: Path, columns: tuple[str, ...], line: int, cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise bad_line(
            source,
            line,
            f"{len(cells)} cells, and the header names {len(columns)} columns: correct the row "
            f"{','.join(cells)[:200]!r} (a cell with a comma in it needs quotes)",
        )
    return Row(line, dict(zip(columns, cells, strict=True)))
