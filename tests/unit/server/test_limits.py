"""Rates and failures, against a plain count of what was let through."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.errors import InputError
from verifykit.server.limits import FailureLimiter, RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


STEPS = st.lists(st.floats(0.0, 90.0), min_size=1, max_size=80)


@given(st.integers(1, 20), STEPS)
def test_no_window_of_time_holds_more_than_the_bucket_and_what_flowed_in(
    per_minute: int, steps: list[float]
) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, clock=clock)
    allowed: list[float] = []
    for step in steps:
        clock.now += step
        if limiter.take("door") == 0.0:
            allowed.append(clock.now)
    assert allowed[0] == 1000.0 + steps[0]
    for first, begin in enumerate(allowed):
        for last, end in enumerate(allowed[first:], start=1):
            assert last <= per_minute + (end - begin) * per_minute / 60 + 1e-6, (begin, end)


@given(st.integers(1, 20), STEPS)
def test_whoever_waits_as_long_as_told_is_let_through_and_not_before(
    per_minute: int, steps: list[float]
) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, clock=clock)
    for step in steps:
        clock.now += step / 30
        wait_s = limiter.take("door")
        assert 0.0 <= wait_s <= 60 / per_minute + 1e-6
        if wait_s > 1e-3:
            clock.now += wait_s * 0.99
            assert limiter.take("door") > 0
            clock.now += wait_s * 0.01
            assert limiter.take("door") == 0.0


def test_a_minutes_worth_at_once_then_evenly_and_each_key_for_itself() -> None:
    clock = Clock()
    limiter = RateLimiter(6, clock=clock)
    assert [limiter.take("door") for _ in range(7)] == [0.0] * 6 + [pytest.approx(10.0)]
    assert limiter.take("gate") == 0.0
    clock.now += 10
    assert limiter.take("door") == 0.0
    assert limiter.take("door") == pytest.approx(10.0)
    clock.now += 3600
    assert [limiter.take("door") for _ in range(7)] == [0.0] * 6 + [pytest.approx(10.0)]


def test_the_rate_limiter_forgets_the_key_that_was_idle_for_longest() -> None:
    clock = Clock()
    limiter = RateLimiter(1, clock=clock, most=100)
    for number in range(100):
        assert limiter.take(str(number)) == 0.0
    assert limiter.take("0") > 0  # asked again: no longer the one that was idle
    for number in range(100, 150):
        limiter.take(str(number))
    assert limiter.remembered == 100
    assert limiter.take("0") > 0
    assert limiter.take("1") == 0.0


def test_threads_get_together_what_one_would_get() -> None:
    limiter = RateLimiter(500, clock=Clock())
    failures = FailureLimiter(2001, 60.0, clock=Clock())

    def ask(_: int) -> bool:
        failures.record("alice", matched=False)
        return limiter.take("door") == 0.0

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(2000))) == 500
    assert failures.wait_s("alice") == 0.0
    failures.record("alice", matched=False)
    assert failures.wait_s("alice") > 0


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0.0, 40.0), st.sampled_from("ab"), st.booleans()), max_size=60),
)
def test_failures_are_those_of_the_window_since_the_last_match(
    limit: int, attempts: list[tuple[float, str, bool]]
) -> None:
    clock = Clock()
    limiter = FailureLimiter(limit, 60.0, clock=clock)
    failed: dict[str, list[float]] = {"a": [], "b": []}
    for step, subject, matched in attempts:
        clock.now += step
        recent = [moment for moment in failed[subject] if moment > clock.now - 60.0]
        wait_s = limiter.wait_s(subject)
        assert (wait_s > 0) == (len(recent) >= limit)
        if wait_s > 0:
            assert wait_s == pytest.approx(sorted(recent)[-limit] + 60.0 - clock.now)
        limiter.record(subject, matched=matched)
        failed[subject] = [] if matched else [*failed[subject], clock.now]


def test_a_subject_waits_until_the_first_failure_is_old_enough() -> None:
    clock = Clock()
    limiter = FailureLimiter(3, 900.0, clock=clock)
    for _ in range(3):
        assert limiter.wait_s("alice") == 0.0
        limiter.record("alice", matched=False)
        clock.now += 100
    assert limiter.wait_s("alice") == pytest.approx(600.0)
    assert limiter.wait_s("bob") == 0.0
    clock.now += 600
    assert limiter.wait_s("alice") == 0.0
    limiter.record("alice", matched=False)
    assert limiter.wait_s("alice") == pytest.approx(100.0)
    limiter.record("alice", matched=True)
    assert limiter.wait_s("alice") == 0.0


def test_the_failure_limiter_forgets_the_subject_that_failed_longest_ago() -> None:
    clock = Clock()
    limiter = FailureLimiter(1, 900.0, clock=clock, most=50)
    for number in range(60):
        limiter.record(str(number), matched=False)
    assert limiter.remembered == 50
    assert [limiter.wait_s(str(number)) > 0 for number in (0, 9, 10, 59)] == [
        False,
        False,
        True,
        True,
    ]
    for number in range(10_000):
        limiter.wait_s(f"asked {number}")
    assert limiter.remembered == 50


@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_what_is_no_limit_is_refused(value: int) -> None:
    with pytest.raises(InputError, match="per_minute"):
        RateLimiter(value)
    with pytest.raises(InputError, match="limit"):
        FailureLimiter(value, 60.0)
    with pytest.raises(InputError, match="most"):
        RateLimiter(1, most=value)


@pytest.mark.parametrize("window_s", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_window_is_refused(window_s: float) -> None:
    with pytest.raises(InputError, match="window_s"):
        FailureLimiter(1, window_s)
