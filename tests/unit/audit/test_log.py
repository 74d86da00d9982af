"""Writing an audit log: the fields of a line, refused values, threads and processes."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verifykit as vk
from tests.unit.audit.logs import DIGEST, lines_of, require_chain, written
from verifykit._files import FileLock, sync
from verifykit.audit import AuditLog, examine_log, read_log
from verifykit.audit.log import head_path

POSIX = pytest.mark.skipif(os.name == "nt", reason="takes fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staff.db.audit.jsonl"


def test_an_entry_is_a_line_with_the_given_values(path: Path) -> None:
    log = vk.AuditLog(path)
    entry = log.append(
        "verify",
        key_id="k1",
        subject_id="zoë/\n🙂",
        decision="match",
        score=np.float32(0.5),  # type: ignore[arg-type]
        threshold=0,
        model_digest=DIGEST,
        reason="none",
    )
    begins, line = lines_of(path)
    assert json.loads(line) == entry.to_dict()
    assert entry.to_dict() == {
        "sequence": 2,
        "time": entry.time,
        "verb": "verify",
        "key_id": "k1",
        "subject_id": "zoë/\n🙂",
        "decision": "match",
        "score": 0.5,
        "threshold": 0.0,
        "model_digest": DIGEST,
        "reason": "none",
        "dropped_bytes": None,
        "previous": json.loads(begins)["hash"],
        "hash": entry.hash,
    }
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.time)
    assert log.append("identify").to_dict().items() >= {"score": None, "model_digest": ""}.items()
    require_chain(path)
    assert [e.verb for e in read_log(path)] == ["verify", "identify"]


def test_two_logs_begin_differently_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    firsts = []
    for name in ("a", "b"):
        AuditLog(tmp_path / name)
        (first,) = map(json.loads, lines_of(tmp_path / name))
        assert first.keys() == {"audit_log", "hash", "log_id", "previous", "sequence", "time"}
        assert len(first["log_id"]) == 32
        firsts.append(first["log_id"])
        if os.name != "nt":
            for file in (tmp_path / name, tmp_path / f"{name}.head"):
                assert file.stat().st_mode & 0o777 == 0o600
    assert firsts[0] != firsts[1]
    assert {file.name for file in tmp_path.iterdir()} == {"a", "a.head", "b", "b.head"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verb", ""),
        ("verb", None),
        ("verb", "two words"),
        ("verb", np.zeros(3)),
        ("verb", "gap"),
        ("verb", "recovered"),
        ("key_id", b"door"),
        ("key_id", "k" * 65),
        ("subject_id", ""),
        ("subject_id", "é" * 128),
        ("subject_id", "\ud800"),
        ("subject_id", 7),
        ("decision", True),
        ("decision", "a" * 700),
        ("score", float("nan")),
        ("score", 10**400),
        ("score", True),
        ("score", "0.5"),
        ("score", np.zeros(128, np.float32)),
        ("threshold", float("inf")),
        ("threshold", [0.4]),
        ("model_digest", None),
        ("model_digest", "d" * 65),
        ("reason", {"image": "..."}),
        ("reason", np.zeros((4, 4, 3), np.uint8)),
    ],
)
def test_values_other_than_short_texts_and_numbers_are_refused(
    path: Path, name: str, value: Any
) -> None:
    log = AuditLog(path)
    before = path.read_bytes()
    with pytest.raises(vk.InputError, match=name) as caught:
        log.append(**{"verb": "verify", name: value})
    assert len(str(caught.value)) < 300
    assert path.read_bytes() == before
    log.append("verify")


def test_append_returns_when_the_line_is_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, on_disk = AuditLog(path), []

    def sync_and_look(handle: int) -> None:
        sync(handle)
        on_disk.append(path.read_bytes())

    monkeypatch.setattr("verifykit.audit.log.sync", sync_and_look)
    for _ in range(3):
        entry = log.append("verify")
        assert entry.hash.encode() in on_disk[-1]
    assert len(on_disk) == 3


def test_threads_share_a_sync_and_every_entry_is_there_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, syncs = AuditLog(path), []

    def sync(handle: int) -> None:
        time.sleep(0.01)
        syncs.append(handle)

    monkeypatch.setattr("verifykit.audit.log.sync", sync)
    returned: list[vk.AuditEntry] = []

    def append(thread: int) -> None:
        for i in range(10):
            returned.append(log.append("verify", subject_id=f"{thread}-{i}"))  # noqa: PERF401

    _together(append, 20)
    assert len(syncs) <= 60  # 200, if each had its own
    assert sorted(e.sequence for e in returned) == list(range(2, 202))
    assert sorted(returned, key=lambda e: e.sequence) == list(read_log(path))
    for thread in range(20):
        mine = [e.subject_id for e in read_log(path) if str(e.subject_id).startswith(f"{thread}-")]
        assert mine == [f"{thread}-{i}" for i in range(10)]
    require_chain(path)
    assert examine_log(path).problems == []


def test_several_logs_on_one_file_go_on_where_the_others_stopped(path: Path) -> None:
    logs = [AuditLog(path) for _ in range(4)]

    def append(thread: int) -> None:
        for _ in range(15):
            logs[thread].append("verify")

    _together(append, 4)
    assert len(lines_of(path)) == 61
    require_chain(path)
    assert examine_log(path).problems == []


def _together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_lock_that_is_held_too_long_is_an_error_and_nothing_is_logged(path: Path) -> None:
    log = AuditLog(path, timeout_s=0.05)
    before = path.read_bytes()
    with FileLock(head_path(path)), pytest.raises(vk.AuditError, match="holds the lock"):
        log.append("verify")
    assert path.read_bytes() == before
    assert log.append("verify").sequence == 2


@POSIX
def test_a_head_that_was_replaced_while_waiting_is_opened_again(path: Path) -> None:
    """Else two would hold a lock each: one on the file that is gone, one on the new one."""
    file, is_current = head_path(path), []

    def wait(_: int) -> None:
        with FileLock(file, timeout_s=5) as handle:
            is_current.append(os.path.samestat(os.fstat(handle), file.stat()))

    with FileLock(file):
        thread = threading.Thread(target=wait, args=(0,))
        thread.start()
        time.sleep(0.05)
        file.unlink()
        file.touch()
    thread.join()
    assert is_current == [True]


def test_threads_that_fail_together_each_get_an_error_and_the_next_entry_is_logged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, failed = AuditLog(path), []
    before = path.read_bytes()

    def sync(handle: int) -> None:
        time.sleep(0.02)
        raise OSError(5, "Input/output error")

    def append(thread: int) -> None:
        with pytest.raises(vk.AuditError, match=r"Input/output error.*nothing was logged"):
            log.append("verify", subject_id=str(thread))
        failed.append(thread)

    with monkeypatch.context() as patch:
        patch.setattr("verifykit.audit.log.sync", sync)
        _together(append, 8)
    assert len(failed) == 8
    assert path.read_bytes() == before
    assert log.append("verify").sequence == 2
    assert examine_log(path).problems == []


def test_an_interrupted_write_leaves_the_log_usable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(path)

    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("verifykit.audit.log.sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.append("verify")
    log.append("verify")
    assert examine_log(path).problems == []


@POSIX
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_goes_on_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(path)
    log._writing = True  # as if another thread were writing at the moment of the fork
    child = get_context("fork").Process(target=log.append, args=("verify",))
    child.start()
    child.join(10)
    child.kill()  # or it would be waited for at the end
    assert child.exitcode == 0
    log._writing = False
    log.append("verify")
    assert examine_log(path).line_count == 3
    require_chain(path)


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "5"])
def test_an_invalid_timeout_is_refused(path: Path, timeout_s: Any) -> None:
    with pytest.raises(vk.InputError, match="timeout_s"):
        AuditLog(path, timeout_s=timeout_s)


def test_a_file_that_is_not_a_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("one\ntwo")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("notes.txt", "not an audit log"),
        ("folder", "check that the path is a file"),
        ("no/log", "No such file"),
    ):
        with pytest.raises(vk.AuditError, match=said):
            AuditLog(tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == "one\ntwo"
    assert {file.name for file in tmp_path.iterdir()} == {"notes.txt", "folder"}


def test_a_log_that_became_something_else_is_not_written_to(path: Path) -> None:
    lines = written(path, 3)
    log = AuditLog(path)
    for content in (b"".join(lines[1:]), lines[0] + b"x\n" * 20_000):
        path.write_bytes(content)
        with pytest.raises(vk.AuditError, match="not an audit log"):
            log.append("verify")
        assert path.read_bytes() == content
