"""Any edit of any line is found, and the first line that is named is the one."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.audit.logs import resealed, written
from verifykit.audit import AuditProblem, verify_log
from verifykit.audit.head import head_path

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


def _problems(path: Path, lines: list[bytes]) -> list[AuditProblem]:
    path.write_bytes(b"".join(lines))
    return verify_log(path)


def test_the_unedited_log_is_sound(path: Path) -> None:
    assert _problems(path, _log()[0]) == []


@thorough
@given(at=positions, data=st.data())
def test_a_changed_byte(path: Path, at: int, data: st.DataObject) -> None:
    lines = list(_log()[0])
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != lines[at][place]))
    lines[at] = lines[at][:place] + bytes([other]) + lines[at][place + 1 :]
    first = _problems(path, lines)[0]
    assert first.line == at + 1
    if place < len(lines[at]) - 1:
        assert first.kind == "changed"


@thorough
@given(at=positions, data=st.data())
def test_a_changed_value(path: Path, at: int, data: st.DataObject) -> None:
    """A value that is as good as the old one; its hash is left, or made to fit."""
    lines = list(_log()[0])
    fits = data.draw(st.booleans())
    changed = resealed(lines[at], time="2026-11-25T00:00:00.000Z")
    if fits:  # then the next line does not fit, or the head
        lines[at] = changed
    else:
        old = lines[at].partition(b'"hash":"')[2][:64]
        lines[at] = changed.replace(changed.partition(b'"hash":"')[2][:64], old)
    (first,) = _problems(path, lines)
    assert first.kind == "changed"
    assert first.line == (min(at + 2, COUNT) if fits else at + 1)


@thorough
@given(at=positions, count=st.integers(1, COUNT))
def test_deleted_lines(path: Path, at: int, count: int) -> None:
    lines = list(_log()[0])
    del lines[at : at + count]
    first, *others = _problems(path, lines)
    assert first.line == at + 1
    assert first.kind == "missing"
    last = min(at + count, COUNT)
    if lines and at:
        assert not others
        numbers = f"entry {last} is" if last == at + 1 else f"entries {at + 1} to {last} are"
        assert numbers in first.message


@thorough
@given(first=positions, second=positions)
def test_swapped_lines(path: Path, first: int, second: int) -> None:
    lines = list(_log()[0])
    lines[first], lines[second] = lines[second], lines[first]
    found = _problems(path, lines)
    if first == second:
        assert found == []
        return
    assert found[0].line == min(first, second) + 1
    if abs(first - second) == 1:
        (problem,) = found
        assert (problem.kind, "moved" in problem.message) == ("inserted", True)


@thorough
@given(at=positions, to=st.integers(0, COUNT))
def test_a_repeated_line(path: Path, at: int, to: int) -> None:
    lines = list(_log()[0])
    lines.insert(to, lines[at])
    (problem,) = _problems(path, lines)
    if to > at:
        assert (problem.line, problem.kind) == (to + 1 if to > at + 1 else at + 2, "reordered")
    elif to == at:  # which of two equal lines is the new one nobody can tell
        assert (problem.line, problem.kind) == (at + 2, "reordered")
    else:
        assert (problem.line, problem.kind) == (to + 1, "inserted")


@thorough
@given(at=positions, to=positions)
def test_a_moved_line(path: Path, at: int, to: int) -> None:
    lines = list(_log()[0])
    lines.insert(to, lines.pop(at))
    found = _problems(path, lines)
    assert [problem.line for problem in found][:1] == ([] if at == to else [min(at, to) + 1])


@thorough
@given(at=st.integers(0, COUNT), noise=st.binary(max_size=60))
def test_inserted_noise(path: Path, at: int, noise: bytes) -> None:
    lines = list(_log()[0])
    lines.insert(at, noise.replace(b"\n", b"") + b"\n")
    (problem,) = _problems(path, lines)
    assert (problem.line, problem.kind) == (at + 1, "changed")


@thorough
@given(at=st.integers(0, COUNT), which=st.integers(0, 3 * COUNT))
def test_an_inserted_line_of_another_log(path: Path, at: int, which: int) -> None:
    lines, _, others = _log()
    edited = list(lines)
    edited.insert(at, others[which])
    first = _problems(path, edited)[0]
    # A log may begin with any first line; the one that does not belong there is then the second.
    assert first.line == (2 if at == which == 0 else at + 1)


@thorough
@given(at=st.integers(1, COUNT))
def test_an_inserted_line_that_is_sealed_to_the_one_before(path: Path, at: int) -> None:
    """Of two lines that fit, the chain cannot tell which is false; behind the head it may be a crash."""
    lines = list(_log()[0])
    forged = resealed(
        _log()[0][-1], sequence=at + 1, previous=_hash(lines[at - 1]), subject_id="eve"
    )
    lines.insert(at, forged)
    found = _problems(path, lines)
    assert [problem.line for problem in found][:1] == ([] if at == COUNT else [at + 2])


def _hash(line: bytes) -> str:
    return line.partition(b'"hash":"')[2][:64].decode()


@thorough
@given(at=st.integers(1, COUNT), kept=st.integers(0, COUNT))
def test_the_tail_of_another_log(path: Path, at: int, kept: int) -> None:
    lines, _, others = _log()
    spliced = [*lines[:at], *others[at : at + kept]]
    found = _problems(path, spliced)
    if spliced == lines:
        assert found == []
    else:
        assert found[0].line == at + 1
