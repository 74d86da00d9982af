"""Who was enrolled too long ago is erased, nobody else, and never without a line in the audit log."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.gallery.files import DIGEST, SIZE, file_bytes, reopen, templates, units
from verifykit.audit import AuditLog, examine_log, read_log
from verifykit.gallery import SqliteGallery, checked_entry, copy_gallery
from verifykit.privacy import expire

DAY = 86_400
YEAR = timedelta(days=365)


def enrol(gallery: SqliteGallery, subject_id: str, seed: int, days_ago: float) -> None:
    entry = checked_entry(
        subject_id, templates(seed), None, spec_digest=DIGEST, embedding_size=SIZE
    )
    then = int(time.time() - days_ago * DAY)
    gallery.add_entries([replace(entry, enrolled_at=then)], "append")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "staff.db"
    with reopen(path, timeout_s=0.2) as gallery:
        enrol(gallery, "long ago", 1, 400)
        enrol(gallery, "again since", 2, 400)
        enrol(gallery, "just in time", 3, 364.9)
        enrol(gallery, "just too late", 4, 365.1)
        enrol(gallery, "again since", 5, 1)
    return path


STAY = ["again since", "just in time"]
GO = ["long ago", "just too late"]


def test_those_who_were_last_enrolled_too_long_ago_are_erased(path: Path) -> None:
    vectors = {seed: units(seed, 1)[0].astype("<f4").tobytes() for seed in range(1, 6)}
    assert all(vector in file_bytes(path) for vector in vectors.values())
    with reopen(path) as gallery:
        report = expire(gallery, YEAR)
        assert [each.subject_id for each in report.expired] == GO
        assert [each.template_count for each in report.expired] == [1, 1]
        assert report.erased
        assert not report.dry_run
        assert list(gallery.subject_ids()) == STAY
        assert gallery.check() == []
        left = file_bytes(path)
        assert expire(gallery, YEAR).expired == ()
    assert [seed for seed, vector in vectors.items() if vector in left] == [2, 3, 5]
    assert b"long ago" not in left


def test_a_dry_run_names_the_same_and_changes_nothing(path: Path) -> None:
    with reopen(path, read_only=True) as gallery:
        before = file_bytes(path)
        report = expire(gallery, YEAR, dry_run=True)
        assert [each.subject_id for each in report.expired] == GO
        assert (report.dry_run, report.erased) == (True, False)
        assert len(gallery) == 4
        assert file_bytes(path) == before


def test_an_unknown_time_counts_from_the_making_of_the_gallery(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE subject SET enrolled_at = NULL")
    with reopen(path) as gallery:
        assert expire(gallery, YEAR).expired == ()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE meta SET value = '2020-01-01T00:00:00+00:00' WHERE key = 'created'")
    with reopen(path) as gallery:
        with pytest.raises(vk.ExpiryRefusedError, match="the clock says"):
            expire(gallery, YEAR)
        report = expire(gallery, YEAR, confirmed=True)
        assert {each.enrolled_at for each in report.expired} == {None}
        assert report.gallery_created == "2020-01-01T00:00:00+00:00"
        assert len(report.expired) == 4
        assert len(gallery) == 0


def test_each_erasure_is_in_the_audit_log(path: Path) -> None:
    audit = AuditLog(path.with_name("staff.db.audit.jsonl"))
    with reopen(path) as gallery:
        expire(gallery, YEAR, audit=audit)
    entries = list(read_log(audit.path))
    assert [(e.verb, e.subject_id, e.decision, e.model_digest) for e in entries] == [
        ("expire", subject_id, "removed", DIGEST) for subject_id in GO
    ]
    assert examine_log(audit.path).problems == []


def test_nobody_is_erased_who_could_not_be_written_down(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = AuditLog(path.with_name("audit.jsonl"))
    append = AuditLog.append

    def once(log: AuditLog, verb: str, **fields: object) -> object:
        if len(list(read_log(log.path))) == 1:
            raise vk.AuditError("the disk is full")
        return append(log, verb, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(AuditLog, "append", once)
    with reopen(path) as gallery, pytest.raises(vk.AuditError):
        expire(gallery, YEAR, audit=audit)
    with reopen(path) as gallery:
        assert list(gallery.subject_ids()) == sorted([*STAY, *GO])
        assert gallery.check() == []


def test_who_is_enrolled_again_before_the_turn_stays(tmp_path: Path) -> None:
    with reopen(tmp_path / "many.db") as gallery:
        for number in range(50):
            enrol(gallery, f"s{number:02}", number, 400)
        turns = []

        def go_on() -> bool:
            turns.append(len(gallery))
            if len(turns) == 3:
                enrol(gallery, "s49", 100, 0)
            return True

        report = expire(gallery, YEAR, go_on=go_on, max_share=1)
        assert turns == [50, 30, 10, 1]
        assert [each.subject_id for each in report.expired] == [f"s{n:02}" for n in range(49)]
        assert list(gallery.subject_ids()) == ["s49"]
        assert gallery.check() == []


def test_a_copy_expires_when_its_original_does(path: Path) -> None:
    with reopen(path) as gallery, reopen(path.with_name("copy.db")) as copy:
        copy_gallery(gallery, copy)
        times = {each.subject_id: each.enrolled_at for each in gallery.enrolments()}
        assert {each.subject_id: each.enrolled_at for each in copy.enrolments()} == times
        assert sorted(each.subject_id for each in expire(copy, YEAR).expired) == sorted(GO)
        assert len(gallery) == 4


def test_it_can_be_told_to_end(path: Path) -> None:
    with reopen(path) as gallery:
        report = expire(gallery, YEAR, go_on=lambda: False)
        assert (report.expired, report.erased) == ((), False)
        assert len(gallery) == 4


def test_it_says_when_a_reader_keeps_the_bytes_in_the_log(path: Path) -> None:
    with reopen(path, timeout_s=0.2) as gallery, closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subject").fetchall()
        report = expire(gallery, YEAR)
        assert [each.subject_id for each in report.expired] == GO
        assert not report.erased
        reader.rollback()
        assert expire(gallery, YEAR).erased
        assert units(1, 1)[0].astype("<f4").tobytes() not in file_bytes(path)


def test_a_gallery_that_knows_no_times_is_refused() -> None:
    gallery = vk.MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    with pytest.raises(vk.InputError, match="MemoryGallery does not note when"):
        expire(gallery, YEAR)


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=-1)])
def test_an_age_of_nothing_is_refused(path: Path, age: timedelta) -> None:
    with reopen(path) as gallery:
        with pytest.raises(vk.InputError, match="must be > 0"):
            expire(gallery, age)
        assert len(gallery) == 4


@pytest.mark.parametrize("value", ["x", "", None, True, float("nan"), -0.1, 1.1, [], 10**40])
def test_an_ill_typed_share_or_age_is_an_input_error(path: Path, value: object) -> None:
    with reopen(path) as gallery:
        with pytest.raises(vk.InputError, match="max_share"):
            expire(gallery, YEAR, max_share=value)  # type: ignore[arg-type]
        with pytest.raises(vk.InputError, match="age"):
            expire(gallery, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["confirmed", "dry_run"])
def test_a_text_is_no_confirmation(path: Path, option: str) -> None:
    with reopen(path) as gallery:
        before = len(gallery)
        with pytest.raises(vk.InputError, match=option):
            expire(gallery, YEAR, **{option: "no"})  # type: ignore[arg-type]
        assert len(gallery) == before
