"""Any edit of any line is found; the report has the first broken line and where the chain resumes."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.audit.logs import rehashed, written
from verifykit.audit import AuditReport, examine_log
from verifykit.audit.log import head_path

COUNT = 9

thorough = settings(deadline=None, max_examples=60)
positions = st.integers(0, COUNT - 1)


@cache
def _log() -> tuple[list[bytes], bytes, list[bytes]]:
    """A log of 9 lines, its head, and the lines of another log."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a"
        lines = written(path, COUNT - 1)
        return lines, head_path(path).read_bytes(), written(Path(name) / "b", 3 * COUNT)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edits") / "a.jsonl"
    head_path(path).write_bytes(_log()[1])
    return path


def _examined(path: Path, lines: list[bytes]) -> AuditReport:
    path.write_bytes(b"".join(lines))
    return examine_log(path)


def _break(report: AuditReport) -> tuple[int | None, int | None]:
    """The line of the one problem, and where the chain resumes."""
    (problem,) = report.problems
    return problem.line, report.resume_line


def test_the_unedited_log_is_sound(path: Path) -> None:
    report = _examined(path, _log()[0])
    assert (report.problems, report.break_count, report.resume_line) == ([], 0, None)


@thorough
@given(at=positions, data=st.data())
def test_a_changed_byte(path: Path, at: int, data: st.DataObject) -> None:
    lines = list(_log()[0])
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != lines[at][place]))
    lines[at] = lines[at][:place] + bytes([other]) + lines[at][place + 1 :]
    report = _examined(path, lines)
    assert report.problems[0].line == at + 1
    # Without its line feed, the line takes the next one with it.
    untouched = lines[at + 1 + (place == len(lines[at]) - 1) :]
    resumes = b"".join(lines).count(b"\n") - len(untouched) + 1
    assert report.resume_line == (resumes if untouched else None)


@thorough
@given(at=positions, data=st.data())
def test_a_changed_value(path: Path, at: int, data: st.DataObject) -> None:
    """A value that is as good as the old one; its hash is left, or made to match."""
    lines = list(_log()[0])
    matches = data.draw(st.booleans())
    changed = rehashed(lines[at], time="2026-11-25T00:00:00.000Z")
    if not matches:
        old = lines[at].partition(b'"hash":"')[2][:64]
        changed = changed.replace(changed.partition(b'"hash":"')[2][:64], old)
    lines[at] = changed
    report = _examined(path, lines)
    if not matches:
        assert _break(report) == (at + 1, at + 2 if at + 1 < COUNT else None)
    elif at + 1 < COUNT:  # then the next line does not match
        assert _break(report) == (at + 2, at + 2)
    else:  # or the head
        assert _break(report) == (None, None)
        assert "the head file's entry (sequence 9" in str(report.problems[0])


@thorough
@given(at=positions, count=st.integers(1, COUNT))
def test_deleted_lines(path: Path, at: int, count: int) -> None:
    lines = list(_log()[0])
    del lines[at : at + count]
    report = _examined(path, lines)
    first, *others = report.problems
    assert first.line == at + 1
    if lines:
        assert not others
    if at + count < COUNT:
        assert report.resume_line == at + 1
        before = f"entry {at}" if at else "the beginning of a log"
        assert first.message == f"entry {at + count + 1} is not chained to {before}"
    else:
        assert report.resume_line is None
        assert f"the log ends with entry {at}" in str(report.problems[-1])


@thorough
@given(first=positions, second=positions)
def test_swapped_lines(path: Path, first: int, second: int) -> None:
    lines = list(_log()[0])
    lines[first], lines[second] = lines[second], lines[first]
    report = _examined(path, lines)
    if first == second:
        assert report.problems == []
    else:
        last = max(first, second)
        assert _break(report) == (min(first, second) + 1, min(last + 2, COUNT))
        assert report.break_count == len({first, second, first + 1, second + 1} - {COUNT})


@thorough
@given(at=positions, to=st.integers(0, COUNT))
def test_a_repeated_line(path: Path, at: int, to: int) -> None:
    lines = list(_log()[0])
    lines.insert(to, lines[at])
    report = _examined(path, lines)
    if to in (at, at + 1):  # two equal lines follow each other: the second breaks the chain
        assert _break(report) == (at + 2, at + 2)
    else:
        assert _break(report) == (to + 1, min(to + 2, COUNT + 1))


@thorough
@given(at=positions, to=positions)
def test_a_moved_line(path: Path, at: int, to: int) -> None:
    lines = list(_log()[0])
    lines.insert(to, lines.pop(at))
    report = _examined(path, lines)
    if at == to:
        assert report.problems == []
    else:
        after = (
            at + 1 if to < at < COUNT - 1 else to + 1
        )  # the last line with another one before it
        assert _break(report) == (min(at, to) + 1, min(after + 1, COUNT))


@thorough
@given(at=st.integers(0, COUNT), noise=st.binary(max_size=60))
def test_inserted_noise(path: Path, at: int, noise: bytes) -> None:
    lines = list(_log()[0])
    lines.insert(at, noise.replace(b"\n", b"") + b"\n")
    report = _examined(path, lines)
    assert _break(report) == (at + 1, at + 2 if at < COUNT else None)
    assert report.break_count == 1


@thorough
@given(at=st.integers(0, COUNT), which=st.integers(0, 3 * COUNT))
def test_an_inserted_line_of_another_log(path: Path, at: int, which: int) -> None:
    lines, _, others = _log()
    edited = list(lines)
    edited.insert(at, others[which])
    report = _examined(path, edited)
    # A log may begin with any first line; the one that does not belong there is then the second.
    assert report.problems[0].line == (2 if at == which == 0 else at + 1)
    assert report.resume_line == min(at + 2, COUNT + 1)


@thorough
@given(at=st.integers(1, COUNT))
def test_an_inserted_line_that_is_chained_to_the_one_before(path: Path, at: int) -> None:
    """Of two lines that fit, the chain cannot tell which is false; after the head it may be a crash."""
    lines = list(_log()[0])
    forged = rehashed(
        _log()[0][-1], sequence=at + 1, previous=_hash(lines[at - 1]), subject_id="eve"
    )
    lines.insert(at, forged)
    report = _examined(path, lines)
    if at == COUNT:
        assert report.problems == []
    else:
        assert _break(report) == (at + 2, at + 2)


def _hash(line: bytes) -> str:
    return line.partition(b'"hash":"')[2][:64].decode()


@thorough
@given(at=st.integers(1, COUNT), kept=st.integers(0, COUNT))
def test_the_tail_of_another_log(path: Path, at: int, kept: int) -> None:
    lines, _, others = _log()
    spliced = [*lines[:at], *others[at : at + kept]]
    report = _examined(path, spliced)
    if spliced == lines:
        assert report.problems == []
    else:
        assert report.problems[0].line == at + 1
        assert report.resume_line == (at + 1 if kept else None)


@thorough
@given(known=positions.filter(bool), at=positions)
def test_an_edit_is_found_in_a_log_that_is_broken_already(path: Path, known: int, at: int) -> None:
    """The count of breaks, or where the chain resumes, differs from the report before the edit."""
    lines = list(_log()[0])
    lines[known] = b"damaged\n"
    before = _examined(path, lines)
    if at != known:
        lines[at] = lines[at].replace(b'"time":"2', b'"time":"1')
        after = _examined(path, lines)
        assert after.break_count == before.break_count + 1
        assert after.problems[0].line == min(at, known) + 1
