"""An audit log under two writers, ``kill -9`` and a full disk: every append that returned is in it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.small_disk import mounted
from tests.unit.audit.logs import lines_of, require_chain
from verifykit.audit import examine_log, read_log

CHECKOUT = Path(__file__).parents[2]

# Threads that append until they have finished or are killed; each prints what returned, a line at a time.
APPEND = """
    import os, sys, threading
    from verifykit.audit import AuditLog

    path, who, threads, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    log = AuditLog(path, timeout_s=60)

    def append(thread):
        for i in range(each):
            name = f"{who}-{thread}-{i}"
            log.append("verify", subject_id=name, decision="match", score=0.5, threshold=0.4)
            os.write(1, (name + "\\n").encode())

    os.write(1, b"begun\\n")
    running = [threading.Thread(target=append, args=(n,)) for n in range(threads)]
    [thread.start() for thread in running]
    [thread.join() for thread in running]
"""

# One process that has paid for its imports forks those that are killed. Some of them write a line in pieces,
# so that kills come in the middle of one.
APPEND_UNTIL_KILLED = """
    import os, random, signal, sys, threading, time
    from verifykit.audit import AuditLog, log as writing

    path, kills = sys.argv[1], int(sys.argv[2])
    random.seed(7)

    def in_pieces(handle, data):
        # Lines only: the head is one sector, which the system writes as a whole.
        size = 40 if data.startswith(b'{"decision"') else len(data)
        for at in range(0, len(data), size):
            os.write(handle, data[at : at + size])
            time.sleep(0.0002)

    def append(log, run, thread, pipe):
        for i in range(10**6):
            name = f"{run}-{thread}-{i}"
            log.append("verify", subject_id=name)
            os.write(pipe, (name + "\\n").encode())

    for run in range(kills):
        pipe_out, pipe_in = os.pipe()
        child = os.fork()
        if child == 0:
            if run % 2:
                writing.full_write = in_pieces
            log = AuditLog(path, timeout_s=60)
            for thread in range(3):
                threading.Thread(target=append, args=(log, run, thread, pipe_in)).start()
            threading.Event().wait()
        os.close(pipe_in)
        with os.fdopen(pipe_out) as said:
            # Every fifth is killed while it opens, the first of all while it makes the file.
            lines = [said.readline() for _ in range(random.randrange(2, 16) if run % 5 else 0)]
            time.sleep(random.uniform(0.0, 0.01))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            lines += said
        print(*(line for line in lines if line.endswith("\\n")), sep="", end="")
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _said(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return [line for line in out.splitlines() if line != "begun"]


def test_two_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    writers = [_start(APPEND, path, who, 4, 40) for who in "ab"]
    returned = [name for writer in writers for name in _said(writer)]
    assert len(returned) == 320
    logged = [str(entry.subject_id) for entry in read_log(path)]
    assert sorted(logged) == sorted(returned)
    for who in "ab":  # they took turns, and each thread's are in its own order
        assert {name[0] for name in logged[:300]} == {"a", "b"}
        for thread in range(4):
            mine = [name for name in logged if name.startswith(f"{who}-{thread}-")]
            assert mine == [f"{who}-{thread}-{i}" for i in range(40)]
    require_chain(path)
    assert examine_log(path).problems == []


def test_a_log_can_be_verified_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    writer = _start(APPEND, path, "a", 3, 10**6)
    try:
        assert writer.stdout
        assert writer.stdout.readline() == "begun\n"
        counts = []
        for _ in range(12):
            report = examine_log(path)
            assert report.problems == []
            counts.append(report.line_count)
            # Its output must be read, or it stops.
            for _ in range(8):
                writer.stdout.readline()
        assert counts[0] < counts[-1]
    finally:
        writer.kill()
        writer.communicate()
    assert examine_log(path).problems == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork and SIGKILL")
@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_lose_nothing_that_returned(tmp_path: Path, kills: int) -> None:
    """A kill ends the process and not the machine; that ``append`` waits for the disk is another test."""
    path = tmp_path / "a.jsonl"
    returned = _said(_start(APPEND_UNTIL_KILLED, path, kills))
    assert len(returned) > kills, "the kills came too early to show anything"
    vk.AuditLog(path).append("verify", subject_id="last")
    assert examine_log(path).problems == []
    require_chain(path)
    entries = list(read_log(path))
    logged = [entry.subject_id for entry in entries if entry.verb == "verify"]
    assert len(set(logged)) == len(logged)
    assert set(returned) <= set(logged)
    # Of each thread that was killed, one entry may be there whose append did not return.
    assert len(set(logged) - set(returned)) <= 3 * kills + 1
    torn = [entry for entry in entries if entry.verb == "recovered"]
    assert torn, "no kill came in the middle of a line"
    assert all((entry.dropped_bytes or 0) > 0 for entry in torn)
    assert len(lines_of(path)) == len(logged) + len(torn) + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full; without the right to mount, the test with a limited file size remains."""
    with mounted(tmp_path / "disk", 200_000) as folder:
        yield folder


def test_a_full_disk_is_said_and_the_log_goes_on_when_there_is_room(small_disk: Path) -> None:
    path, ballast = small_disk / "a.jsonl", small_disk / "ballast"
    ballast.write_bytes(b"\1" * 40_000)
    log = vk.AuditLog(path)
    returned: list[str] = []
    with pytest.raises(vk.AuditError, match=r"disk is full.*nothing was logged.*free space"):
        _fill(log, returned)
    assert len(returned) > 100
    whole = path.read_bytes()
    for _ in range(3):
        with pytest.raises(vk.AuditError, match="disk is full"):
            log.append("verify", subject_id="x" * 250)
        assert path.read_bytes() == whole
    assert examine_log(path).problems == []
    ballast.unlink()
    returned.append(str(log.append("verify", subject_id="after").subject_id))
    assert [entry.subject_id for entry in read_log(path)] == returned
    require_chain(path)
    assert examine_log(path).problems == []
    with pytest.raises(vk.AuditError, match="disk is full"):
        _fill(log, returned)
    with pytest.raises(vk.AuditError, match="disk is full"):
        vk.AuditLog(small_disk / "another.jsonl")


def _fill(log: vk.AuditLog, returned: list[str]) -> None:
    for i in range(10_000):
        returned.append(str(log.append("verify", subject_id=f"s{i}").subject_id))  # noqa: PERF401


@pytest.mark.skipif(os.name == "nt", reason="takes resource limits")
def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """Without root: the system refuses in the middle of a line, as a full disk does."""
    path = tmp_path / "a.jsonl"
    code = """
        import resource, sys
        from verifykit.audit import AuditLog
        from verifykit.errors import AuditError

        log = AuditLog(sys.argv[1])
        log.append("verify")
        size = (2700, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
        for i in range(50):
            try:
                print(log.append("verify", subject_id=f"s{i}").sequence)
            except AuditError as error:
                assert "disk is full" in str(error), error
                print("full")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(log.append("verify").sequence)
    """
    said = _said(_start(code, path))
    assert said.count("full") > 40
    assert [word for word in said if word != "full"] == [
        str(number) for number in range(3, len(said) - said.count("full") + 3)
    ]
    require_chain(path)
    assert examine_log(path).problems == []


@pytest.mark.slow
def test_hundreds_of_appends_a_second_from_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    began = time.monotonic()
    returned = _said(_start(APPEND, path, "a", 32, 60))
    rate = len(returned) / (time.monotonic() - began)
    assert rate > 200, f"{rate:.0f} appends a second"
    assert examine_log(path).problems == []
    assert random.Random(1).choice(returned) in {entry.subject_id for entry in read_log(path)}
