"""The rows of a finished run as CSV or Parquet: one row a face, and one for an image without."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from verifykit.batch.extra import batch_library
from verifykit.batch.rows import Row
from verifykit.errors import InputError

__all__ = ["COLUMNS", "is_table", "write_table"]

COLUMNS = (
    *("image", "face", "left_px", "top_px", "width_px", "height_px", "reasons", "decision"),
    *("candidates", "error", "message", "threshold", "fmr", "attack", "fpir", "gallery_size"),
    *("model", "calibration"),
)
"""Columns of both forms, in order."""

_ROW_GROUP = 16_384
_SAME = ("threshold", "fmr", "attack", "fpir", "gallery_size", "model", "calibration")


def is_table(out: Path) -> bool:
    """Whether an output is a table, and not JSON lines, by its ending.

    Args:
        out: Its path.

    Raises:
        InputError: It ends in neither of ``.jsonl``, ``.csv`` and ``.parquet``, or what writes Parquet
            is not installed.
    """
    suffix = out.suffix.lower()
    if suffix not in (".jsonl", ".csv", ".parquet"):
        raise InputError(
            f"{str(out)!r}: an output ends in .jsonl, .csv or .parquet, which is what it becomes"
        )
    if suffix == ".parquet":
        batch_library("pyarrow.parquet", str(out))
    return suffix != ".jsonl"


def write_table(rows: Iterable[Row], out: Path) -> None:
    """Write a table that is there whole or not at all, the same bytes for the same rows.

    Args:
        rows: Images' rows; read one by one.
        out: Where it goes, ending in ``.csv`` or ``.parquet``.

    Raises:
        OSError: It cannot be written.
        InputError: What writes Parquet is not installed.
    """
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}-")
    os.close(handle)
    try:
        if out.suffix.lower() == ".csv":
            _write_csv(rows, Path(name))
        else:
            _write_parquet(rows, Path(name))
        with Path(name).open("rb+") as file:
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _faces(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        same = {key: row[key] for key in _SAME}
        if "error" in row:
            why = {key: row[key] for key in ("decision", "error", "message")}
            yield {"image": row["image"], "reasons": [], "candidates": [], **why, **same}
        for number, face in enumerate(row.get("faces", ())):
            sides = ("left_px", "top_px", "width_px", "height_px")
            box = dict(zip(sides, face["box_px"] or (None,) * 4, strict=True))
            told = {key: face[key] for key in ("reasons", "decision", "candidates")}
            yield {"image": row["image"], "face": number, **box, **told, **same}


def _write_csv(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for face in _faces(rows):
            as_text = {
                "reasons": ";".join(face["reasons"]),
                "candidates": json.dumps(face["candidates"], ensure_ascii=False),
            }
            table.writerow({**face, **as_text})


def _write_parquet(rows: Iterable[Row], path: Path) -> None:
    pa, parquet = batch_library("pyarrow", str(path)), batch_library("pyarrow.parquet", str(path))
    text, number, count = pa.string(), pa.float64(), pa.int64()
    candidate = pa.struct([("subject_id", text), ("score", number)])
    numbers = ("left_px", "top_px", "width_px", "height_px", "threshold", "fmr", "fpir")
    kinds = {
        **dict.fromkeys(numbers, number),
        **dict.fromkeys(("face", "gallery_size"), count),
        "reasons": pa.list_(text),
        "candidates": pa.list_(candidate),
    }
    schema = pa.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    faces = _faces(rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        while group := list(islice(faces, _ROW_GROUP)):
            table = pa.Table.from_pylist([_as_utf8(face) for face in group], schema=schema)
            file.write_table(table, row_group_size=_ROW_GROUP)


def _as_utf8(face: Row) -> dict[str, Any]:
    """Names of files may be no UTF-8, and Parquet takes nothing else."""
    told = {"image": face["image"], "message": face.get("message")}
    for key, value in told.items():
        if value is not None:
            told[key] = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {**face, **told}
