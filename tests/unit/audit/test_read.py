"""Reading all entries, the last entries, and exporting."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import verifykit as vk
from tests.unit.audit.logs import lines_of, written
from verifykit.audit import AuditLog, export_log, parse_time, read_log, tail_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.mark.parametrize("count", [1, 2, *range(36, 50), 59, 60, 61, 500])
def test_the_tail_is_the_end_of_what_is_read(path: Path, count: int) -> None:
    written(path, 60)  # more than is read at a time
    everything = list(read_log(path))
    assert len(everything) == 60
    assert tail_log(path, count) == everything[-count:]


def test_an_unfinished_line_is_left_out(path: Path) -> None:
    written(path, 2)
    with path.open("ab") as file:
        file.write(b'{"decision":')
    assert len(list(read_log(path))) == len(tail_log(path)) == 2


def test_a_new_log_has_no_entries(path: Path) -> None:
    AuditLog(path)
    assert list(read_log(path)) == tail_log(path) == []


@pytest.mark.parametrize("bad", [b"no entry\n", b"x" * 9000 + b"\n", b"x" * 9000, b'{"a":1}\n'])
def test_a_damaged_line_is_named(path: Path, bad: bytes) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:2], bad]))
    read = read_log(path)
    next(read)
    with pytest.raises(vk.AuditError, match=r"line 3 is damaged.*audit verify"):
        next(read)
    if bad.endswith(b"\n"):
        with pytest.raises(vk.AuditError, match="one of the last 3 lines is damaged"):
            tail_log(path, 3)


def test_a_file_that_cannot_be_read_is_an_error(path: Path) -> None:
    for read in (read_log, tail_log):
        with pytest.raises(vk.AuditError, match="cannot be read"):
            list(read(path))
    with pytest.raises(vk.AuditError, match="cannot be read"):
        export_log(path, path.with_name("out"))
    assert list(path.parent.iterdir()) == []
    with pytest.raises(vk.InputError, match="count"):
        tail_log(path, 0)


def test_exported_lines_are_those_of_the_log(path: Path, tmp_path: Path) -> None:
    lines = written(path, 5)
    out = tmp_path / "out.jsonl"
    assert export_log(path, out) == 5
    assert lines_of(out) == lines[1:]
    assert export_log(path, out, subject_id="zoë 3", overwrite=True) == 1
    assert lines_of(out) == [lines[4]]
    assert export_log(path, out, subject_id="zoë", overwrite=True) == 0
    assert out.read_bytes() == b""


def test_an_exported_table_holds_the_same(path: Path, tmp_path: Path) -> None:
    written(path, 4)
    AuditLog(path).append("enroll", subject_id='a,"b"\n=1+1')
    assert export_log(path, tmp_path / "out.csv", export_format="csv") == 5
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, entry in zip(rows, read_log(path), strict=True):
        expected = {key: "" if value is None else str(value) for key, value in vars(entry).items()}
        assert row == expected


def test_a_time_is_from_then_on_and_until_before_then(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(path)
    for hour in range(4):
        monkeypatch.setattr(
            "verifykit.audit.log.now", lambda hour=hour: f"2026-11-25T0{hour}:00:00.000Z"
        )
        log.append("verify")

    def hours(**options: Any) -> list[int]:
        export_log(path, tmp_path / "out", overwrite=True, **options)
        return [int(json.loads(line)["time"][11:13]) for line in lines_of(tmp_path / "out")]

    one = datetime(2026, 11, 25, 1, tzinfo=timezone.utc)
    assert hours(since=one) == [1, 2, 3]
    assert hours(until=one) == [0]
    assert hours(since=one + timedelta(milliseconds=1), until=one + timedelta(hours=2)) == [2]
    assert hours(since=one.replace(tzinfo=None)) == [1, 2, 3]
    assert hours(since=parse_time("2026-11-25T03:00+01:00")) == [2, 3]
    assert hours(since=parse_time("2026-11-25"), until=parse_time("2026-11-26")) == [0, 1, 2, 3]
    assert hours(until=parse_time("2026-11-25T02:00:00Z")) == [0, 1]


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "25.11.2026"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(vk.InputError, match="ISO 8601"):
        parse_time(text)


def test_an_export_replaces_nothing_without_overwrite_and_never_the_log(
    path: Path, tmp_path: Path
) -> None:
    written(path, 2)
    before = path.read_bytes()
    (tmp_path / "out").write_text("mine")
    with pytest.raises(vk.InputError, match="exists"):
        export_log(path, tmp_path / "out")
    with pytest.raises(vk.InputError, match="exists"):
        export_log(path, path, overwrite=True)
    with pytest.raises(vk.AuditError, match="cannot be written"):
        export_log(path, tmp_path / "no" / "out")
    path.write_bytes(before + b"no entry\n")
    with pytest.raises(vk.AuditError, match="line 4"):
        export_log(path, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"
    assert {file.name for file in tmp_path.iterdir()} == {"a.jsonl", "a.jsonl.head", "out"}
