"""What an append finds at the end of a log: a torn line, missing lines, damage; it says so and goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.audit.logs import lines_of, require_chain, resealed, written
from verifykit.audit import AuditLog, examine_log, read_log, verify_log
from verifykit.audit.head import head_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.mark.parametrize("cut", [1, 17, 300])
def test_a_torn_line_is_cut_off_and_told(path: Path, cut: int) -> None:
    torn = written(path, 4)[-1][:cut]
    with path.open("ab") as file:
        file.write(torn)
    report = examine_log(path)
    assert (report.problems, report.line_count, report.unfinished_bytes) == ([], 5, cut)
    assert AuditLog(path).append("verify").sequence == 7
    told = list(read_log(path))[-2]
    assert (told.verb, told.reason, told.dropped_bytes) == ("recovered", "torn_line", cut)
    require_chain(path)
    assert verify_log(path) == []


def test_a_crash_before_the_head_is_written_loses_nothing(path: Path) -> None:
    written(path, 2)
    head = head_path(path).read_bytes()
    AuditLog(path).append("verify")
    head_path(path).write_bytes(head)  # as after a power failure
    assert verify_log(path) == []
    AuditLog(path).append("verify")
    require_chain(path)
    assert verify_log(path) == []


def test_a_crash_while_the_log_is_begun_can_be_begun_again(path: Path) -> None:
    path.touch()
    head_path(path).touch()
    AuditLog(path)
    head_path(path).write_bytes(b"")  # the log has its first line, the head has none yet
    AuditLog(path).append("verify")
    assert [entry.verb for entry in read_log(path)] == ["verify"]
    assert verify_log(path) == []


def test_lines_that_are_missing_at_the_end_are_told_by_the_next_append(path: Path) -> None:
    lines = written(path, 6)
    path.write_bytes(b"".join(lines[:4]))
    assert AuditLog(path).append("verify").sequence == 9  # numbers are not given twice
    gap = next(entry for entry in read_log(path) if entry.verb == "gap")
    assert (gap.sequence, gap.reason) == (8, "lines_missing")
    (problem,) = verify_log(path)
    assert str(problem) == (
        "line 5: lines before it were missing already when it was written (entries 5 to 7)"
    )


def test_a_line_that_was_cut_short_is_missing_and_not_only_torn(path: Path) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join(lines)[:-1])
    (problem,) = verify_log(path)
    assert str(problem) == "line 4: entry 4 is missing at the end: the head file counts 4"
    AuditLog(path).append("verify")
    assert [entry.verb for entry in read_log(path)][2:] == ["gap", "recovered", "verify"]
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (4, "gap")


def test_a_damaged_last_line_is_kept_and_told(path: Path) -> None:
    lines = written(path, 3)
    damaged = lines[-1].replace(b"no_match", b"match")
    path.write_bytes(b"".join([*lines[:-1], damaged, b"\n", b"half"]))
    assert AuditLog(path).append("verify").sequence == 8
    assert lines_of(path)[3:5] == [damaged, b"\n"]
    found = [(problem.line, problem.kind) for problem in verify_log(path)]
    assert found == [(4, "changed"), (5, "changed"), (6, "gap")]


def test_a_last_line_that_was_sealed_again_is_told(path: Path) -> None:
    lines = written(path, 3)
    path.write_bytes(b"".join([*lines[:-1], resealed(lines[-1], decision="match")]))
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (4, "changed")
    AuditLog(path).append("verify")
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (5, "gap")
    assert "was not the one that had been written last" in problem.message


@pytest.mark.parametrize("content", [None, b"", b"x" * 512])
def test_a_lost_head_is_told(path: Path, content: bytes | None) -> None:
    written(path, 3)
    head_path(path).unlink() if content is None else head_path(path).write_bytes(content)
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (None, "head")
    AuditLog(path).append("verify")
    (problem,) = verify_log(path)
    assert "the head file was gone when it was written" in str(problem)


def test_a_log_that_was_taken_away_is_told_by_the_next_one(path: Path) -> None:
    written(path, 3)
    log = AuditLog(path)
    path.unlink()
    (problem,) = verify_log(path)
    assert str(problem) == "line 1: the log is gone, and its head file is there"
    log.append("verify")
    (problem,) = verify_log(path)
    assert (problem.line, problem.kind) == (2, "gap")
    assert "another log" in problem.message


def test_another_log_in_its_place_is_told(path: Path, tmp_path: Path) -> None:
    written(path, 3)
    written(tmp_path / "other", 5)
    path.write_bytes((tmp_path / "other").read_bytes())
    (problem,) = verify_log(path)
    assert "head file is another log's" in str(problem)
    AuditLog(path).append("verify")
    (problem,) = verify_log(path)
    assert "exchanged for this one" in str(problem)


def test_both_files_moved_away_begin_a_new_log(path: Path, tmp_path: Path) -> None:
    written(path, 3)
    log = AuditLog(path)
    for file in (path, head_path(path)):
        file.rename(file.with_name(f"old-{file.name}"))
    assert log.append("verify").sequence == 2
    assert verify_log(path) == []
    assert verify_log(tmp_path / "old-a.jsonl") == []


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
    assert verify_log(path) == []
