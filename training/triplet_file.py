"""Triplets that somebody chose: a CSV ``anchor,positive,negative`` of image paths."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from training.data import Record
from training.errors import DataError

__all__ = ["read_triplets"]

_COLUMNS = ["anchor", "positive", "negative"]


def read_triplets(path: Path, records: Sequence[Record]) -> list[list[int]]:
    """Read triplets as rows of the training records.

    Triplets with an image that is not trained on (of a held-out subject, or without a crop) are
    left out.

    Args:
        path: The CSV; its paths are relative to it.
        records: The training set.

    Returns:
        (T, 3) rows: anchor, positive, negative.

    Raises:
        DataError: Not such a file, a triplet that contradicts the records' subjects or labels, or
            none left.
    """
    rows = {record.path.resolve(): row for row, record in enumerate(records)}
    triplets = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != _COLUMNS:
                raise DataError(f"{path}: its columns must be {','.join(_COLUMNS)}")
            for line in reader:
                places = [rows.get((path.parent / line[name]).resolve()) for name in _COLUMNS]
                triplet = [place for place in places if place is not None]
                if len(triplet) == 3:
                    _require_sense(
                        [records[row] for row in triplet], f"{path}, line {reader.line_num}"
                    )
                    triplets.append(triplet)
    except (OSError, csv.Error, UnicodeDecodeError, TypeError) as error:
        raise DataError(f"{path} is not a CSV file of triplets: {error}") from error
    if not triplets:
        raise DataError(f"{path}: no triplet names three images that are trained on")
    return triplets


def _require_sense(triplet: Sequence[Record], where: str) -> None:
    anchor, positive, negative = triplet
    if anchor.is_forgery or positive.is_forgery:
        raise DataError(f"{where}: a forgery is a negative, never an anchor or a positive")
    if anchor.subject != positive.subject or anchor.path == positive.path:
        raise DataError(f"{where}: anchor and positive are not two images of one subject")
    if anchor.subject == negative.subject and not negative.is_forgery:
        raise DataError(f"{where}: anchor and negative are of one subject")
