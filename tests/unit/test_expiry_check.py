"""A wrong clock erases no one: it is held against what is stored before an erasure by age."""

from __future__ import annotations

import copy
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.gallery.files import DIGEST, SIZE, reopen, templates
from verifykit.audit import AuditLog
from verifykit.gallery import SqliteGallery, checked_entry, copy_gallery
from verifykit.privacy import expire

DAY = 86_400
YEAR = timedelta(days=365)
REAL = int(datetime(2026, 11, 1, tzinfo=timezone.utc).timestamp())


class Clock:
    """What ``time.time`` says; an audit log has the real time unless it is patched too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(REAL)
        monkeypatch.setattr(time, "time", lambda: self.now)

    def set(self, days: float) -> None:
        """Set it to so many days after the real time."""
        self.now = REAL + days * DAY


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def filled(path: Path, clock: Clock, *ages: float) -> SqliteGallery:
    """A gallery that was made 500 days ago, with a subject for each age in days."""
    clock.set(-500)
    gallery = reopen(path)
    for number, age in enumerate(ages):
        clock.set(-age)
        gallery.add(f"s{number}", templates(number))
    clock.set(0)
    return gallery


def refused(gallery: SqliteGallery, age: timedelta = YEAR, **options: object) -> str:
    """The reason why nothing was erased."""
    count = len(gallery)
    with pytest.raises(vk.ExpiryRefusedError) as caught:
        expire(gallery, age, **options)  # type: ignore[arg-type]
    assert len(gallery) == count
    dry = expire(gallery, age, dry_run=True, **options)  # type: ignore[arg-type]
    assert dry.refusal == str(caught.value)
    return caught.value.reason


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staff.db"


@pytest.mark.parametrize("days", [400, 4000])
@pytest.mark.parametrize("count", [1, 5, 224])
def test_a_clock_that_is_far_ahead_erases_no_one(
    path: Path, clock: Clock, days: int, count: int
) -> None:
    with filled(path, clock, *(number % 300 for number in range(count))) as gallery:
        clock.set(days)
        assert refused(gallery) == "clock_ahead"


def test_a_clock_that_is_some_way_ahead_erases_no_more_than_a_share(
    path: Path, clock: Clock
) -> None:
    """Too little to be seen by the clock alone: the share, or the silence since, gives it away."""
    with filled(path, clock, *range(0, 300, 3)) as gallery:
        clock.set(200)
        assert refused(gallery) == "too_many"
    with filled(path.with_name("five.db"), clock, 300, 100, 90, 80, 70) as gallery:
        clock.set(70)  # one of five would go
        assert refused(gallery) == "too_many"


def test_a_clock_behind_the_newest_enrolment_erases_no_one(path: Path, clock: Clock) -> None:
    with filled(path, clock, 400, 0) as gallery:
        clock.set(-10)
        assert refused(gallery) == "clock_behind"
        clock.set(-0.003)  # four minutes
        assert len(expire(gallery, YEAR).expired) == 1


@pytest.mark.parametrize("year", [1970, 2010])
@pytest.mark.parametrize("made_then", [False, True])
def test_an_enrolment_under_a_clock_of_the_past_is_not_old(
    path: Path, clock: Clock, year: int, made_then: bool
) -> None:
    past = datetime(year, 1, 2, tzinfo=timezone.utc).timestamp()
    if made_then:
        clock.now = past
    with reopen(path) as gallery:
        clock.now = past
        gallery.add("alice", templates(1))
        clock.set(0)
        for number in range(30):
            gallery.add(f"s{number}", templates(number))
        assert refused(gallery) == "impossible_time"
        assert "'alice'" in " ".join(gallery.check())
        gallery.add("alice", templates(1))  # enrolled again, at a time that is known
        assert expire(gallery, YEAR).expired == ()
        assert gallery.check() == []


def test_an_enrolment_in_the_future_is_named_and_stops_the_erasure(
    path: Path, clock: Clock
) -> None:
    with filled(path, clock, 400, 3) as gallery:
        clock.set(4000)
        gallery.add("bob", templates(9))
        clock.set(0)
        assert refused(gallery) == "clock_behind"
        assert [who for who, _ in expire(gallery, YEAR, dry_run=True).suspect] == ["bob"]
        assert "'bob': it was enrolled at 2037" in " ".join(gallery.check())
        report = expire(gallery, YEAR, confirmed=True)
        assert [each.subject_id for each in report.expired] == ["s0"]


def test_the_audit_log_is_evidence_of_the_time(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(path.with_name("audit.jsonl"))  # its entries have the time of this machine
    log.append("verify")
    with filled(path, clock, 450, 440) as gallery:
        clock.now = datetime.now(timezone.utc).timestamp()
        assert refused(gallery) == "clock_ahead"
        assert len(expire(gallery, YEAR, audit=log, dry_run=True).expired) == 2
        assert expire(gallery, YEAR, audit=log, dry_run=True).refusal is None
        clock.now -= DAY
        assert refused(gallery, audit=log) == "clock_behind"


def test_a_share_and_a_confirmation_are_the_operators(path: Path, clock: Clock) -> None:
    with filled(path, clock, *([400] * 4), *([10] * 6), 0) as gallery:
        assert refused(gallery) == "too_many"
        assert refused(gallery, max_share=0.3) == "too_many"
        with pytest.raises(vk.InputError, match=r"max_share must be in \[0, 1\]"):
            expire(gallery, YEAR, max_share=1.5)
        assert len(expire(gallery, YEAR, max_share=0.4).expired) == 4
        clock.set(400)
        assert refused(gallery, max_share=1) == "clock_ahead"
        assert len(expire(gallery, YEAR, confirmed=True).expired) == 7


def test_ordinary_retention_goes_on_unattended(path: Path, clock: Clock) -> None:
    """A year of enrolments at a steady pace: a daily run erases each in its turn."""
    ages = [*range(0, 500, 10)]
    with filled(path, clock, *sorted(ages, reverse=True)) as gallery:
        assert refused(gallery) == "too_many"  # the first run, over what has gathered
        expire(gallery, YEAR, max_share=0.5)
        for day in range(1, 60, 3):
            clock.set(day)
            gallery.add(f"new {day}", templates(day))
            expire(gallery, YEAR)
        assert min(each.enrolled_at or 0 for each in gallery.enrolments()) >= clock.now - 366 * DAY


def test_a_copy_keeps_times_that_are_older_than_itself(path: Path, clock: Clock) -> None:
    with (
        filled(path, clock, 400, *([10] * 12)) as gallery,
        reopen(path.with_name("copy.db"), key=bytes(32)) as copied,
    ):
        copy_gallery(gallery, copied)
        assert copied.info()["copied_since"] == "2025-09-27T00:00:00+00:00"
        assert copied.check() == []
        copied.rekey(bytes(range(32)))
        assert copied.info()["copied_since"] == "2025-09-27T00:00:00+00:00"
        assert [each.subject_id for each in expire(copied, YEAR).expired] == ["s0"]


def test_nothing_is_refused_where_no_one_is_due(path: Path, clock: Clock) -> None:
    with filled(path, clock, 5) as gallery:
        clock.set(300)
        assert expire(gallery, YEAR).expired == ()


def test_the_error_travels_between_processes() -> None:
    error = vk.ExpiryRefusedError("why", reason="too_many")
    again = copy.copy(error)  # by what pickle takes too
    assert (type(again), str(again), again.reason) == (vk.ExpiryRefusedError, "why", "too_many")


def test_a_time_that_no_calendar_has_is_an_error_of_ours(path: Path, clock: Clock) -> None:
    with filled(path, clock, 5) as gallery:
        entry = checked_entry("far", templates(1), None, spec_digest=DIGEST, embedding_size=SIZE)
        gallery.add_entries([replace(entry, enrolled_at=10**17)], "error")
        assert "in the future" in " ".join(gallery.check())
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE subject SET enrolled_at = -1 WHERE row = 1")
        assert refused(gallery, timedelta(days=1)) == "clock_behind"
