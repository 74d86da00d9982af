"""A request that is sent twice is done once, whichever process gets it, and whichever dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import pytest

from verifykit.server.errors import ProblemError
from verifykit.server.idempotency import (
    Idempotency,
    IdempotencyInProgressError,
    IdempotencyKeyReusedError,
    StoredAnswer,
)
from verifykit.server.state import ServerState

HOUR_S = 3600.0
LEASE_S = 120.0


class Clock:
    def __init__(self) -> None:
        self.now = 1.9e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[ServerState]:
    with closing(ServerState(tmp_path / "state")) as opened:
        yield opened


@pytest.fixture
def requests(state: ServerState, clock: Clock) -> Idempotency:
    return Idempotency(state, lease_s=LEASE_S, clock=clock)


def test_the_second_time_is_answered_as_the_first(requests: Idempotency) -> None:
    assert requests.find("k1", "door", "digest") is None
    assert requests.begin("k1", "door", "digest") is None
    requests.finish("k1", "door", 201, b'{"enrolled": true}')
    answer = StoredAnswer(201, b'{"enrolled": true}')
    assert requests.find("k1", "door", "digest") == answer
    assert requests.begin("k1", "door", "digest") == answer


def test_the_same_key_of_another_owner_is_another_request(requests: Idempotency) -> None:
    requests.begin("k1", "door", "digest")
    requests.finish("k1", "door", 201, b"door's")
    assert requests.find("k1", "gate", "other digest") is None
    assert requests.find("k2", "door", "other digest") is None
    assert requests.begin("k1", "gate", "other digest") is None
    requests.finish("k1", "gate", 200, b"gate's")
    assert requests.find("k1", "door", "digest") == StoredAnswer(201, b"door's")
    assert requests.find("k1", "gate", "other digest") == StoredAnswer(200, b"gate's")


def test_the_same_key_for_another_request_is_refused(requests: Idempotency) -> None:
    requests.begin("k1", "door", "digest")
    for finished in (False, True):
        if finished:
            requests.finish("k1", "door", 201, b"")
        for ask in (requests.find, requests.begin):
            with pytest.raises(IdempotencyKeyReusedError) as caught:
                ask("k1", "door", "another")
            assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")


def test_while_it_is_worked_on_the_second_waits(
    requests: Idempotency, state: ServerState, clock: Clock
) -> None:
    requests.begin("k1", "door", "digest")
    other = Idempotency(state, lease_s=LEASE_S, clock=clock)
    clock.now += LEASE_S - 0.001
    for ask in (requests.find, requests.begin, other.find, other.begin):
        with pytest.raises(IdempotencyInProgressError) as caught:
            ask("k1", "door", "digest")
        assert caught.value.status == 409
        assert int(caught.value.headers["Retry-After"]) >= 1


def test_a_dead_processes_request_is_taken_over_and_the_first_answer_stays(
    requests: Idempotency, state: ServerState, clock: Clock
) -> None:
    requests.begin("k1", "door", "digest")
    clock.now += LEASE_S
    other = Idempotency(state, lease_s=LEASE_S, clock=clock)
    assert other.find("k1", "door", "digest") is None
    assert other.begin("k1", "door", "digest") is None
    with pytest.raises(IdempotencyInProgressError):
        requests.begin("k1", "door", "digest")
    # It was only slow: it may neither forget the other's request nor be overwritten.
    requests.abandon("k1", "door")
    with pytest.raises(IdempotencyInProgressError):
        requests.find("k1", "door", "digest")
    requests.finish("k1", "door", 201, b"slow")
    other.finish("k1", "door", 409, b"second")
    other.abandon("k1", "door")
    assert other.find("k1", "door", "digest") == StoredAnswer(201, b"slow")


def test_a_clock_that_was_set_back_keeps_no_request_for_long(
    requests: Idempotency, clock: Clock
) -> None:
    requests.begin("k1", "door", "digest")
    clock.now -= 1
    with pytest.raises(IdempotencyInProgressError):
        requests.find("k1", "door", "digest")
    clock.now -= HOUR_S
    assert requests.begin("k1", "door", "digest") is None


def test_what_is_abandoned_can_be_begun_again_with_another_content(requests: Idempotency) -> None:
    requests.begin("k1", "door", "digest")
    requests.abandon("k1", "door")
    assert requests.find("k1", "door", "another") is None
    assert requests.begin("k1", "door", "another") is None


def test_an_answer_is_kept_for_a_day_and_then_gone_from_the_file(
    requests: Idempotency, state: ServerState, clock: Clock
) -> None:
    requests.begin("k1", "door", "digest")
    requests.finish("k1", "door", 201, b"first")
    clock.now += 24 * HOUR_S - 0.001
    assert requests.find("k1", "door", "digest") == StoredAnswer(201, b"first")
    clock.now += 0.001
    assert requests.find("k1", "door", "another") is None
    requests.begin("k2", "door", "digest")
    with state.reading() as connection:
        assert connection.execute("SELECT count(*) FROM answer").fetchone() == (1,)


def test_a_key_is_1_to_255_characters_and_is_not_stored(
    requests: Idempotency, tmp_path: Path
) -> None:
    for wrong in ("", "x" * 256):
        for ask in (requests.find, requests.begin):
            with pytest.raises(ProblemError) as caught:
                ask(wrong, "door", "digest")
            assert caught.value.code == "bad_request"
    key = "alice.example:" + "\u00e9" * 200
    requests.begin(key, "door", "digest")
    requests.finish(key, "door", 201, b"")
    assert requests.find(key, "door", "digest") == StoredAnswer(201, b"")
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"alice.example" not in stored


def _race(path: Path, number: int) -> list[int]:
    """The requests that this process did itself."""
    done = []
    with closing(ServerState(path, timeout_s=30.0)) as state:
        requests = Idempotency(state)
        for request in range(40):
            with suppress(IdempotencyInProgressError):
                if requests.begin(f"k{request}", "door", "digest") is None:
                    done.append(request)
                    requests.finish(f"k{request}", "door", 201, str(number).encode())
    return done


def test_of_several_processes_that_begin_at_once_one_goes_on(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        done = list(processes.map(_race, [tmp_path / "state"] * 2, range(2)))
    assert sorted(chain.from_iterable(done)) == list(range(40))
    with closing(ServerState(tmp_path / "state")) as state:
        requests = Idempotency(state)
        for number, mine in enumerate(done):
            for request in mine:
                answer = requests.find(f"k{request}", "door", "digest")
                assert answer == StoredAnswer(201, str(number).encode())


KILLED = """
import os, signal, sys
from pathlib import Path
from verifykit.server.idempotency import Idempotency
from verifykit.server.state import ServerState

requests = Idempotency(ServerState(Path(sys.argv[1])))
requests.begin("finished", "door", "digest")
requests.finish("finished", "door", 201, b"first")
requests.begin("begun", "door", "digest")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_a_killed_process_keeps_its_answers_and_blocks_only_for_the_lease(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[3]
    path = tmp_path / "state"
    run = subprocess.run([sys.executable, "-c", KILLED, path], cwd=checkout, check=False)
    assert run.returncode == -9
    with closing(ServerState(path)) as state:
        requests = Idempotency(state)
        assert requests.find("finished", "door", "digest") == StoredAnswer(201, b"first")
        with pytest.raises(IdempotencyInProgressError):
            requests.begin("begun", "door", "digest")
        assert Idempotency(state, lease_s=0.0).begin("begun", "door", "digest") is None
