"""Appending to a log with a torn line, missing lines or damage: it is recorded, and the log continues."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.audit.logs import lines_of, rehashed, require_chain, written
from verifykit._files import FileLock
from verifykit.audit import AuditLog, examine_log, read_log
from verifykit.audit.log import Head, head_path, write_head


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def _break(path: Path) -> tuple[int | None, int | None]:
    """The line of the one problem, and where the chain resumes."""
    report = examine_log(path)
    (problem,) = report.problems
    return problem.line, report.resume_line


@pytest.mark.parametrize("cut", [1, 17, 300])
def test_a_torn_line_is_removed_and_recorded(path: Path, cut: int) -> None:
    torn = written(path, 4)[-1][:cut]
    with path.open("ab") as file:
        file.write(torn)
    report = examine_log(path)
    assert (report.problems, report.line_count, report.unfinished_bytes) == ([], 5, cut)
    assert AuditLog(path).append("verify").sequence == 7
    note = list(read_log(path))[-2]
    assert (note.verb, note.reason, note.dropped_bytes) == ("recovered", "torn_line", cut)
    require_chain(path)
    assert examine_log(path).problems == []


def test_a_crash_before_the_head_is_written_loses_nothing(path: Path) -> None:
    written(path, 2)
    head = head_path(path).read_bytes()
    AuditLog(path).append("verify")
    head_path(path).write_bytes(head)  # as after a power failure
    assert examine_log(path).problems == []
    AuditLog(path).append("verify")
    require_chain(path)
    assert examine_log(path).problems == []


def test_a_crash_while_the_log_is_begun_can_be_begun_again(path: Path) -> None:
    path.touch()
    head_path(path).touch()
    AuditLog(path)
    head_path(path).write_bytes(b"")  # the log has its first line, the head has none yet
    AuditLog(path).append("verify")
    assert [entry.verb for entry in read_log(path)] == ["verify"]
    assert examine_log(path).problems == []


def test_lines_that_are_missing_at_the_end_are_recorded_by_the_next_append(path: Path) -> None:
    lines = written(path, 6)
    path.write_bytes(b"".join(lines[:4]))
    assert AuditLog(path).append("verify").sequence == 9  # numbers are not given twice
    gap = next(entry for entry in read_log(path) if entry.verb == "gap")
    assert (gap.sequence, gap.reason) == (8, "lines_missing")
    (problem,) = examine_log(path).problems
    assert str(problem) == "line 5: entry 8 records a gap after entry 4: lines missing"
    assert examine_log(path).resume_line == 5


def test_a_line_that_was_cut_short_is_missing_and_not_only_torn(path: Path) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join(lines)[:-1])
    (problem,) = examine_log(path).problems
    assert (problem.line, "(sequence 4, hash" in problem.message) == (4, True)
    assert problem.message.endswith(" is missing: the log ends with entry 3")
    AuditLog(path).append("verify")
    assert [entry.verb for entry in read_log(path)][2:] == ["gap", "recovered", "verify"]
    assert _break(path) == (4, 4)


def test_a_damaged_last_line_is_kept_and_recorded(path: Path) -> None:
    lines = written(path, 3)
    damaged = lines[-1].replace(b"no_match", b"match")
    path.write_bytes(b"".join([*lines[:-1], damaged, b"\n", b"half"]))
    assert AuditLog(path).append("verify").sequence == 8
    assert lines_of(path)[3:5] == [damaged, b"\n"]
    assert _break(path) == (4, 6)
    assert examine_log(path).break_count == 3


def test_a_last_line_that_was_rewritten_is_recorded(path: Path) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:-1], rehashed(lines[-1], decision="match")]))
    assert _break(path) == (None, None)  # the chain holds, the head file contradicts it
    AuditLog(path).append("verify")
    assert _break(path) == (5, 5)
    (problem,) = examine_log(path).problems
    assert "last line changed" in problem.message


@pytest.mark.parametrize("content", [None, b"", b"x" * 512])
def test_a_lost_head_is_recorded(path: Path, content: bytes | None) -> None:
    written(path, 3)
    head_path(path).unlink() if content is None else head_path(path).write_bytes(content)
    (problem,) = examine_log(path).problems
    assert problem.line is None
    assert f"the head file is {'missing' if content is None else 'damaged'}" in problem.message
    AuditLog(path).append("verify")
    (problem,) = examine_log(path).problems
    assert str(problem) == "line 5: entry 5 records a gap after entry 4: head lost"


def test_a_log_that_was_removed_is_recorded_by_the_next_one(path: Path) -> None:
    written(path, 3)
    log = AuditLog(path)
    path.unlink()
    (problem,) = examine_log(path).problems
    assert str(problem) == "line 1: the log is missing, only its head file is left"
    log.append("verify")
    assert _break(path) == (2, 2)
    (problem,) = examine_log(path).problems
    assert "another log" in problem.message


def test_another_log_in_its_place_is_recorded(path: Path, tmp_path: Path) -> None:
    written(path, 3)
    written(tmp_path / "other", 5)
    path.write_bytes((tmp_path / "other").read_bytes())
    assert str(examine_log(path).problems[0]) == "the head file belongs to another log"
    AuditLog(path).append("verify")
    (problem,) = examine_log(path).problems
    assert str(problem) == "line 7: entry 7 records a gap after entry 6: another log"


def test_a_head_with_the_id_of_another_log_is_reported(path: Path) -> None:
    last = json.loads(written(path, 3)[-1])
    with FileLock(head_path(path)) as handle:
        write_head(handle, Head("5a" * 16, last["sequence"], last["hash"]))
    (problem,) = examine_log(path).problems
    assert str(problem) == "the head file belongs to another log"


def test_both_files_moved_away_begin_a_new_log(path: Path, tmp_path: Path) -> None:
    written(path, 3)
    log = AuditLog(path)
    for file in (path, head_path(path)):
        file.rename(file.with_name(f"old-{file.name}"))
    assert log.append("verify").sequence == 2
    assert examine_log(path).problems == []
    assert examine_log(tmp_path / "old-a.jsonl").problems == []


def test_no_space_for_half_a_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(path)
    log.append("verify")
    before, head = path.read_bytes(), head_path(path).read_bytes()

    def fill(handle: int, data: bytes) -> None:
        os.write(handle, data[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("verifykit.audit.log.full_write", fill)
        with pytest.raises(vk.AuditError, match=r"disk is full.*nothing was logged") as caught:
            log.append("verify")
    assert isinstance(caught.value.__cause__, OSError)
    assert (path.read_bytes(), head_path(path).read_bytes()) == (before, head)
    log.append("verify")
    require_chain(path)
    assert examine_log(path).problems == []
