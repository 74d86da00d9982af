"""Rows of a batch run: one image's answer as plain values, and tables of them as CSV or Parquet.

A table has a row for each face, and one for an image without.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from verifykit._files import atomic_file
from verifykit.datasets import optional_library
from verifykit.decision import DecisionRule
from verifykit.errors import InputError, shown
from verifykit.extraction import SampleOptions
from verifykit.types import Candidate, Sample

Row = dict[str, Any]
"""One image's line: JSON-ready, its keys in a fixed order."""


@dataclass(frozen=True)
class Question:
    """The options of a run that the answers depend on.

    Attributes:
        rule: From which score on a subject is a candidate.
        sample: Which faces of an image are searched for.
        limit: At most so many candidates for each face.
        gallery_size: Subjects that are searched.
        model: The model's digest.
        calibration: The digest of what turns a score into a decision.
    """

    rule: DecisionRule
    sample: SampleOptions
    limit: int
    gallery_size: int
    model: str
    calibration: str


@dataclass(frozen=True)
class Refusal:
    """Why an image gave no answer.

    Attributes:
        code: ``"unreadable"``, an extractor's reason such as ``"no_face"``, ``"no_embedding"`` where the
            network gave nothing usable, or ``"failed"`` for what was not foreseen.
        message: A human-readable sentence.
        reasons: What else is to be known, such as ``"further_frames"``.
    """

    code: str
    message: str
    reasons: tuple[str, ...] = ()


def answer_row(
    name: str,
    samples: Sequence[Sample],
    found: Sequence[Sequence[Candidate]],
    question: Question,
) -> Row:
    """Return the row of an image that could be used: its faces, each with its candidates."""
    faces = [
        {
            "box_px": sample.detection.box_px if sample.detection else None,
            "reasons": sample.reasons,
            "decision": _decision(candidates),
            "candidates": [{"subject_id": c.subject_id, "score": c.score} for c in candidates],
        }
        for sample, candidates in zip(samples, found, strict=True)
    ]
    decision = _decision([face for face in faces if face["candidates"]])
    return {"image": name, "decision": decision, "faces": faces, **_context(question)}


def refusal_row(name: str, refusal: Refusal, question: Question) -> Row:
    """Return the row of an image that could not be used."""
    why: Row = {"decision": refusal.code, "error": refusal.code, "message": refusal.message}
    if refusal.reasons:
        why["reasons"] = refusal.reasons
    return {"image": name, **why, **_context(question)}


def _decision(matches: Sequence[object]) -> str:
    return "match" if matches else "no_match"


def _context(question: Question) -> Row:
    return {
        **question.rule.search_values(),
        "gallery_size": question.gallery_size,
        "model": question.model,
        "calibration": question.calibration,
    }


COLUMNS = (
    *("image", "face", "left_px", "top_px", "width_px", "height_px", "reasons", "decision"),
    *("candidates", "error", "message", "threshold", "fmr", "attack", "fpir", "gallery_size"),
    *("model", "calibration"),
)
"""Columns of both forms, in order."""

_ROW_GROUP = 16_384
_SAME = ("threshold", "fmr", "attack", "fpir", "gallery_size", "model", "calibration")


def is_table(out: Path) -> bool:
    """Return whether an output is a table, and not JSON lines, by its suffix."""
    suffix = out.suffix.lower()
    if suffix not in (".jsonl", ".csv", ".parquet"):
        raise InputError(
            f"{shown(str(out))}: an output ends in .jsonl, .csv or .parquet, which is what it becomes"
        )
    if suffix == ".parquet":
        optional_library("pyarrow.parquet", str(out))
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
    write = _write_csv if out.suffix.lower() == ".csv" else _write_parquet
    with atomic_file(out) as part:
        write(rows, part)


def _faces(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        same = {key: row[key] for key in _SAME}
        if "error" in row:
            why = {key: row[key] for key in ("decision", "error", "message")}
            reasons = row.get("reasons", [])
            yield {"image": row["image"], "reasons": reasons, "candidates": [], **why, **same}
        for number, face in enumerate(row.get("faces", ())):
            sides = ("left_px", "top_px", "width_px", "height_px")
            box = dict(zip(sides, face["box_px"] or (None,) * 4, strict=True))
            shown = {key: face[key] for key in ("reasons", "decision", "candidates")}
            yield {"image": row["image"], "face": number, **box, **shown, **same}


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
    pa, parquet = (
        optional_library("pyarrow", str(path)),
        optional_library("pyarrow.parquet", str(path)),
    )
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
    """Return the row in UTF-8: names of files may be something else, which Parquet does not take."""
    texts = {"image": face["image"], "message": face.get("message")}
    for key, value in texts.items():
        if value is not None:
            texts[key] = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {**face, **texts}
