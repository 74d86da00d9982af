"""The state file: private, durable, for several processes, and never open by accident."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest

from verifykit.errors import GalleryError, GalleryFormatError, GalleryLockedError
from verifykit.server.errors import as_problem
from verifykit.server.state import SCHEMA_VERSION, ServerState

INSERT = "INSERT INTO answer VALUES (?, x'00', x'00', 'worker', 0, NULL, NULL)"


def _owners(state: ServerState) -> list[str]:
    with state.reading() as connection:
        return [row[0] for row in connection.execute("SELECT owner FROM answer ORDER BY owner")]


def _insert_through_a_new_state(path: Path, owner: str) -> None:
    with closing(ServerState(path)) as state, state.writing() as connection:
        connection.execute(INSERT, (owner,))


def test_only_its_owner_can_read_it_and_it_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "staff.db.server"
    before = os.umask(0)
    try:
        with closing(ServerState(path)) as state, state.writing() as connection:
            connection.execute(INSERT, ("door",))
            for file in tmp_path.iterdir():  # with -wal and -shm
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    finally:
        os.umask(before)


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with closing(ServerState(tmp_path / "state")) as state:
        with pytest.raises(GalleryError, match="UNIQUE"), state.writing() as connection:
            connection.executemany(INSERT, [("door",), ("gate",), ("door",)])
        assert _owners(state) == []
        with state.writing() as connection:
            connection.execute(INSERT, ("gate",))
    with closing(ServerState(tmp_path / "state", create=False)) as state:
        assert _owners(state) == ["gate"]


def test_processes_and_threads_that_start_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state"
    names = [f"{number:02}" for number in range(12)]
    with (
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
        ThreadPoolExecutor(2) as threads,
    ):
        work = [processes.submit(_insert_through_a_new_state, path, name) for name in names[::2]]
        work += [threads.submit(_insert_through_a_new_state, path, name) for name in names[1::2]]
        for each in work:
            each.result()
    with closing(ServerState(path)) as state:
        assert _owners(state) == names


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    with (
        closing(ServerState(tmp_path / "state")) as state,
        closing(ServerState(tmp_path / "state", timeout_s=0.05)) as other,
        state.writing() as connection,
    ):
        connection.execute(INSERT, ("door",))
        assert _owners(state) == _owners(other) == []
        with pytest.raises(GalleryLockedError, match="another process"), other.writing():
            pass


def test_a_writer_waits_for_another_thread_only_so_long(tmp_path: Path) -> None:
    with closing(ServerState(tmp_path / "state", timeout_s=0.05)) as state:
        caught: list[BaseException] = []

        def write() -> None:
            try:
                with state.writing():
                    pass
            except GalleryLockedError as error:
                caught.append(error)

        with state.writing():
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
    assert "another thread" in str(caught[0])


def test_a_file_that_is_gone_is_an_error_and_one_that_is_back_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    _insert_through_a_new_state(tmp_path / "copy", "restored")
    with closing(ServerState(path)) as state:
        assert _owners(state) == []
        for file in tmp_path.glob("state*"):
            file.unlink()
        with pytest.raises(GalleryError, match="no such file"):
            _owners(state)
        (tmp_path / "copy").rename(path)
        assert _owners(state) == ["restored"]


def test_closed_and_used_again(tmp_path: Path) -> None:
    state = ServerState(tmp_path / "state")
    state.close()
    state.close()
    assert _owners(state) == []
    state.close()


FORK = """
import os, sys
from pathlib import Path
from verifykit.server.state import ServerState

state = ServerState(Path(sys.argv[1]))
with state.writing() as connection:
    connection.execute("DELETE FROM answer")
child = os.fork()
with state.writing() as connection:
    connection.execute(sys.argv[2], ("parent" if child else "child",))
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
with state.reading() as connection:
    print(*sorted(row[0] for row in connection.execute("SELECT owner FROM answer")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where a process can fork")
def test_a_child_leaves_its_parents_connections_alone(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORK, tmp_path / "state", INSERT],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert (run.stdout, run.stderr) == ("child parent\n", "")


def test_what_is_no_state_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, database, newer = tmp_path / "text", tmp_path / "database", tmp_path / "newer"
    text.write_text("these are notes of some length, and no database at all\n" * 3)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE mine (value)")
    ServerState(newer).close()
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version=99")
    for path, message in (
        (text, "not a database"),
        (database, "not a verifykit state file"),
        (newer, "schema 99"),
    ):
        before = path.read_bytes()
        with pytest.raises(GalleryFormatError, match=message):
            ServerState(path)
        assert path.read_bytes() == before


def test_where_no_file_can_be_the_error_says_why(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such file"):
        ServerState(tmp_path / "state", create=False)
    assert not (tmp_path / "state").exists()
    with pytest.raises(GalleryError, match="does not exist"):
        ServerState(tmp_path / "missing" / "state")
    (tmp_path / "folder").mkdir()
    with pytest.raises(GalleryError, match="folder"):
        ServerState(tmp_path / "folder")


def test_a_full_disk_is_named_so_that_the_answer_is_507(tmp_path: Path) -> None:
    with closing(ServerState(tmp_path / "state")) as state:
        with state.writing() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(GalleryError, match="disk is full") as caught, state.writing() as full:
            full.executemany(INSERT, [("x" * 2000 + str(number),) for number in range(50)])
        assert as_problem(caught.value).code == "storage_full"
        assert _owners(state) == []
