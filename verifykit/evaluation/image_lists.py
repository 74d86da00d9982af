"""A CSV file of images and their subjects."""

from __future__ import annotations

from pathlib import Path

from verifykit.errors import InputError
from verifykit.evaluation.listing import Row, Table, bad_line, split_row
from verifykit.evaluation.records import EvaluationImage

__all__ = ["COLUMNS", "HEADER", "is_image_list", "read_image_list"]

COLUMNS = ("path", "image", "subject", "label")
HEADER = "path,subject[,label][,further columns]"
_LABELS = {"": False, "genuine": False, "skilled_forgery": True}


def is_image_list(table: Table) -> bool:
    """Whether the header is that of an images CSV."""
    return "subject" in table.columns and ("path" in table.columns or "image" in table.columns)


def read_image_list(table: Table, root: Path) -> tuple[EvaluationImage, ...]:
    """Images of a CSV with the columns ``path`` (or ``image``), ``subject`` and perhaps ``label``.

    Args:
        table: The CSV; every further column is a group column.
        root: The folder that its paths are relative to.

    Returns:
        Each image once, in the order of the rows.

    Raises:
        InputError: An empty cell, an unknown label, or an image that is listed twice with something
            else; the message names the lines.
    """
    if "path" in table.columns and "image" in table.columns:
        raise InputError(
            f"{str(table.source)!r} has both columns path and image: rename one of them"
        )
    listed: dict[str, tuple[int, EvaluationImage]] = {}
    for row in table.rows:
        image = _image(table, row, root)
        line, earlier = listed.setdefault(image.name, (row.line, image))
        if image != earlier:
            raise bad_line(
                table.source,
                row.line,
                f"{image.name!r} was listed on line {line} already, and {_difference(earlier, image)}: "
                "keep the line that is right",
            )
    return tuple(image for _, image in listed.values())


def _image(table: Table, row: Row, root: Path) -> EvaluationImage:
    cells, groups = split_row(table, row, COLUMNS)
    name = cells["path"] or cells["image"]
    for column, cell in (
        ("path" if "path" in table.columns else "image", name),
        ("subject", cells["subject"]),
    ):
        if not cell:
            raise bad_line(
                table.source, row.line, f"{column} is empty: fill it in, or remove the line"
            )
    if cells["label"] not in _LABELS:
        raise bad_line(
            table.source,
            row.line,
            f"label {cells['label']!r} is not one of genuine, skilled_forgery or empty",
        )
    return EvaluationImage(
        root / name, Path(name).as_posix(), cells["subject"], _LABELS[cells["label"]], groups
    )


def _difference(earlier: EvaluationImage, later: EvaluationImage) -> str:
    if earlier.subject != later.subject:
        return f"there its subject is {earlier.subject!r}, here {later.subject!r}"
    if earlier.is_forgery != later.is_forgery:
        return "one line says skilled_forgery and the other genuine"
    column = next(name for name in earlier.groups if earlier.groups[name] != later.groups[name])
    return f"there {column} is {earlier.groups[column]!r}, here {later.groups[column]!r}"
