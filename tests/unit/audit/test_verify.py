"""Verifying a log: entries noted elsewhere, files that are not logs, and the memory it takes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.audit.logs import lines_of, rehashed, written
from verifykit._files import FileLock
from verifykit.audit import AuditLog, examine_log
from verifykit.audit.log import Head, head_path, write_head


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def test_a_sound_log_tells_where_it_ends(path: Path) -> None:
    lines = written(path, 4)
    report = examine_log(path)
    assert report.to_dict() == {
        "problems": [],
        "break_count": 0,
        "resume_line": None,
        "line_count": 5,
        "sequence": 5,
        "hash": json.loads(lines[-1])["hash"],
        "unfinished_bytes": 0,
    }


def test_a_rewritten_log_is_found_by_what_was_noted_elsewhere(path: Path) -> None:
    """Both files are written: line 3 and all after it with new hashes, and a head to match."""
    lines = written(path, 6)
    noted = examine_log(path)
    new, previous = lines[:2], json.loads(lines[1])["hash"]
    for line in lines[2:]:
        new.append(rehashed(line, previous=previous, decision="match"))
        previous = json.loads(new[-1])["hash"]
    path.write_bytes(b"".join(new))
    with FileLock(head_path(path)) as handle:
        write_head(handle, Head(json.loads(new[0])["log_id"], 7, previous))
    assert examine_log(path).problems == []
    assert examine_log(path, count=7).problems == []
    (problem,) = examine_log(path, count=7, head=noted.hash).problems
    assert str(problem) == (
        f"the noted entry (sequence 7, hash {noted.hash}) is missing: the log ends with entry 7"
    )
    (problem,) = examine_log(path, head=noted.hash).problems
    assert str(problem).startswith(f"the noted entry (hash {noted.hash}) is missing")
    assert examine_log(path, count=2, head=json.loads(lines[1])["hash"]).problems == []
    assert len(examine_log(path, count=3, head=json.loads(lines[1])["hash"]).problems) == 1
    (problem,) = examine_log(path, count=9).problems
    assert str(problem) == (
        "line 8: the noted entry (sequence 9) is missing: the log ends with entry 7"
    )


def test_a_copy_without_its_head_can_be_compared_with_a_note(path: Path) -> None:
    written(path, 3)
    noted = examine_log(path)
    head_path(path).unlink()
    assert examine_log(path, count=noted.sequence, head=noted.hash).problems == []
    assert [problem.line for problem in examine_log(path).problems] == [None]


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"count": -3}, {"head": "abc"}, {"head": "G" * 64}]
)
def test_an_invalid_note_is_refused(path: Path, options: dict[str, int]) -> None:
    written(path, 1)
    with pytest.raises(vk.InputError, match=r"\bmust\b"):
        examine_log(path, **options)  # type: ignore[arg-type]


def test_a_missing_log_is_an_error(path: Path, tmp_path: Path) -> None:
    for place in (path, tmp_path):
        with pytest.raises(vk.AuditError, match="cannot be read"):
            examine_log(place)


def test_an_emptied_log_is_missing_all_its_lines(path: Path) -> None:
    written(path, 3)
    path.write_bytes(b"")
    empty, missing = examine_log(path).problems
    assert str(empty) == "line 1: the log is empty: even its first line is missing"
    assert (missing.line, "sequence 4" in missing.message) == (1, True)


def test_a_line_with_other_fields_is_named(path: Path) -> None:
    lines = written(path, 2)
    extra = rehashed(lines[1], embedding=[0.1, 0.2])
    path.write_bytes(b"".join([lines[0], extra, lines[2]]))
    (problem,) = examine_log(path).problems
    assert str(problem) == "line 2: its fields are not those of an entry: embedding"


@pytest.mark.parametrize(
    ("old", "new"),
    [(b",", b", "), (b"{", b'{"decision":"match",'), (b"0.4", b"0.40"), (b"}", b"} ")],
)
def test_the_same_content_in_other_bytes_is_a_change(path: Path, old: bytes, new: bytes) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(old, new, 1), lines[3]]))
    report = examine_log(path)
    (problem,) = report.problems
    assert (problem.line, report.break_count, report.resume_line) == (3, 1, 4)


@pytest.mark.parametrize("line", [b"[" * 3000, b"1" * 4000, b"x" * 100_000, b"\xff\0", b'{"a":1}'])
def test_lines_that_are_hard_to_read_are_named(path: Path, line: bytes) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    report = examine_log(path)
    (problem,) = report.problems
    assert (problem.line, report.break_count, report.resume_line) == (3, 1, 4)


def test_a_file_that_is_not_a_log_breaks_at_its_first_line(path: Path) -> None:
    path.write_bytes(b"no log\n" * 5000)
    report = examine_log(path)
    assert [problem.line for problem in report.problems] == [1, None]  # there is no head either
    assert (report.break_count, report.line_count, report.resume_line) == (5000, 5000, None)


def test_memory_does_not_grow_with_the_log(path: Path) -> None:
    lines = written(path, 1)
    previous = json.loads(lines[-1])["hash"]
    for sequence in range(3, 1600):
        lines.append(rehashed(lines[1], sequence=sequence, previous=previous))
        previous = json.loads(lines[-1])["hash"]
    path.write_bytes(b"".join(lines))
    del lines
    tracemalloc.start()
    try:
        report = examine_log(path)
        assert tracemalloc.get_traced_memory()[1] < 150_000 < path.stat().st_size / 4
    finally:
        tracemalloc.stop()
    assert (report.problems, report.line_count) == ([], 1599)
    assert AuditLog(path).append("verify").sequence == 1600
    assert len(lines_of(path)) == 1600
