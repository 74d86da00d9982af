"""Reading a log from end to end: notes made elsewhere, files that are no logs, and what it costs."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.audit.logs import lines_of, resealed, written
from verifykit.audit import AuditLog, examine_log, verify_log
from verifykit.audit.head import Head, head_path, held, write_head


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def test_a_sound_log_tells_where_it_ends(path: Path) -> None:
    lines = written(path, 4)
    report = examine_log(path)
    assert report.to_dict() == {
        "problems": [],
        "line_count": 5,
        "sequence": 5,
        "hash": json.loads(lines[-1])["hash"],
        "unfinished_bytes": 0,
    }


def test_a_log_made_anew_is_found_by_what_was_noted_elsewhere(path: Path) -> None:
    """Somebody writes both files: line 3 and all behind it sealed again, and a head to fit."""
    lines = written(path, 6)
    noted = examine_log(path)
    new, previous = lines[:2], json.loads(lines[1])["hash"]
    for line in lines[2:]:
        new.append(resealed(line, previous=previous, decision="match"))
        previous = json.loads(new[-1])["hash"]
    path.write_bytes(b"".join(new))
    with held(head_path(path), 1.0) as handle:
        write_head(handle, Head(json.loads(new[0])["log_id"], 7, previous))
    assert verify_log(path) == []
    assert verify_log(path, count=7) == []
    (problem,) = verify_log(path, count=7, head=noted.hash)
    assert (
        str(problem)
        == "entry 7 no longer has the hash that was noted: the log was made anew or cut"
    )
    (problem,) = verify_log(path, head=noted.hash)
    assert "no entry has the hash" in str(problem)
    assert verify_log(path, count=2, head=json.loads(lines[1])["hash"]) == []
    assert len(verify_log(path, count=3, head=json.loads(lines[1])["hash"])) == 1
    (problem,) = verify_log(path, count=9)
    assert str(problem) == (
        "line 8: entries 8 to 9 are missing at the end: what was noted counts 9"
    )


def test_a_copy_without_its_head_can_be_held_against_a_note(path: Path) -> None:
    written(path, 3)
    noted = examine_log(path)
    head_path(path).unlink()
    assert verify_log(path, count=noted.sequence, head=noted.hash) == []
    assert [problem.kind for problem in verify_log(path)] == ["head"]


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"count": -3}, {"head": "abc"}, {"head": "G" * 64}]
)
def test_a_note_that_is_none_is_refused(path: Path, options: dict[str, int]) -> None:
    written(path, 1)
    with pytest.raises(vk.InputError, match=r"\bis\b"):
        verify_log(path, **options)  # type: ignore[arg-type]


def test_a_log_that_is_not_there_is_an_error(path: Path, tmp_path: Path) -> None:
    for place in (path, tmp_path):
        with pytest.raises(vk.AuditError, match="cannot be read"):
            verify_log(place)


def test_an_emptied_log_is_missing_all_its_lines(path: Path) -> None:
    written(path, 3)
    path.write_bytes(b"")
    assert [str(problem) for problem in verify_log(path)] == [
        "line 1: the log is empty: not even its first line is there",
        "line 1: entries 1 to 4 are missing at the end: the head file counts 4",
    ]


def test_what_fits_a_line_but_is_no_entry_is_named(path: Path) -> None:
    lines = written(path, 2)
    extra = resealed(lines[1], embedding=[0.1, 0.2])
    path.write_bytes(b"".join([lines[0], extra, lines[2]]))
    (problem,) = verify_log(path)
    assert str(problem) == "line 2: it has not the fields of an entry: embedding"


@pytest.mark.parametrize(
    ("old", "new"),
    [(b",", b", "), (b"{", b'{"decision":"match",'), (b"0.4", b"0.40"), (b"}", b"} ")],
)
def test_the_same_content_in_other_bytes_is_a_change(path: Path, old: bytes, new: bytes) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(old, new, 1), lines[3]]))
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (3, "changed")


@pytest.mark.parametrize("line", [b"[" * 3000, b"1" * 4000, b"x" * 100_000, b"\xff\0", b'{"a":1}'])
def test_lines_that_are_hard_to_read_are_named(path: Path, line: bytes) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (3, "changed")


def test_a_file_full_of_problems_is_not_read_to_its_end(path: Path) -> None:
    path.write_bytes(b"no log\n" * 5000)
    problems = verify_log(path)
    assert len(problems) == 1001
    assert "the rest was not read" in str(problems[-1])


def test_memory_does_not_grow_with_the_log(path: Path) -> None:
    lines = written(path, 1)
    previous = json.loads(lines[-1])["hash"]
    for sequence in range(3, 1600):
        lines.append(resealed(lines[1], sequence=sequence, previous=previous))
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
