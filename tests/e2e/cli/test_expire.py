"""`gallery expire`: who was enrolled too long ago."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.command_results import Invoke, body
from tests.helpers.postgres_server import PostgresServer
from verifykit.audit import AuditLog, read_log
from verifykit.gallery.sqlite.connection import Connections

EXPIRE = ("gallery", "expire", "staff.db", "--expire")
DAY = 86_400
LOG = Path("staff.db.audit.jsonl")


@pytest.fixture(autouse=True)
def staff(invoke: Invoke) -> None:
    """Ada, enrolled 400 days ago, and Bob, lately; the gallery is older."""
    invoke("enroll", "ada", "person_a_1.jpg", "person_a_2.jpg", "-g", "staff.db", status=0)
    invoke("enroll", "bob", "person_b_1.jpg", "-g", "staff.db", status=0)
    _set("enrolled_at = ? WHERE row = 1", int(time.time() - 400 * DAY))
    _set_created(f"{_then(500)}T00:00:00+00:00")


def _set(what: str, *values: int) -> None:
    with closing(sqlite3.connect("staff.db")) as file, file:
        file.execute(f"UPDATE subject SET {what}", values)


def _set_created(when: str) -> None:
    with closing(sqlite3.connect("staff.db")) as file, file:
        file.execute("UPDATE meta SET value = ? WHERE key = 'created'", (when,))


def _then(days_ago: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - days_ago * DAY))


def test_a_dry_run_then_the_erasure(invoke: Invoke) -> None:
    AuditLog(LOG)
    assert invoke(*EXPIRE, "365d", "--dry-run", status=0).stdout == (
        f"would erase ada: 2 templates, enrolled {_then(400)}\n"
        "would erase 1 subject\n"
        f"limit  last enrolled before {_then(365)}\n"
    )
    assert list(read_log(LOG)) == []
    assert invoke(*EXPIRE, "365d", status=0).stdout == (
        f"erased ada: 2 templates, enrolled {_then(400)}\n"
        "erased 1 subject\n"
        f"limit  last enrolled before {_then(365)}\n"
        f"audit log: {LOG}\n"
    )
    assert [(entry.verb, entry.subject_id) for entry in read_log(LOG)] == [("expire", "ada")]
    assert invoke("gallery", "list", "staff.db", status=0).stdout == "bob\n"
    told = body(invoke(*EXPIRE, "365d", "--json", status=0))
    assert (told["expired"], told["dry_run"], told["audit"]) == ([], False, str(LOG))


def test_without_a_log_none_is_made_unless_named(invoke: Invoke) -> None:
    assert "audit log: none" in invoke(*EXPIRE, "365d", status=0).stdout
    assert not LOG.exists()
    _set("enrolled_at = 0")
    asked = (*EXPIRE, "1d", "--audit", "own.jsonl")
    assert "nothing was enrolled or logged since" in invoke(*asked, status=2).stderr
    told = body(invoke(*asked, "--confirm-all", "--json", status=0))
    assert [each["subject_id"] for each in told["expired"]] == ["bob"]
    assert [entry.subject_id for entry in read_log("own.jsonl")] == ["bob"]


def test_an_unknown_time_is_told(invoke: Invoke) -> None:
    _set("enrolled_at = NULL WHERE row = 2")
    _set_created("2020-05-01T00:00:00+00:00")
    said = invoke(*EXPIRE, "365d", "--confirm-all", status=0).stdout.splitlines()
    assert said[1] == "erased bob: 1 template, enrolled at an unknown time"
    assert said[4] == "note: an unknown time counts as 2020-05-01, when the gallery was made"


def test_a_reader_is_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """That there is one is waited for; that it is seen, tests/unit/test_retention.py looks at."""
    monkeypatch.setattr(Connections, "wipe_log", lambda *_, **__: False)
    assert "another process is reading" in invoke(*EXPIRE, "365d", status=0).stdout
    assert invoke("gallery", "list", "staff.db", status=0).stdout == "bob\n"


def test_an_encrypted_gallery(invoke: Invoke) -> None:
    invoke("gallery", "new-key", "k", status=0)
    invoke("gallery", "encrypt", "staff.db", "--key-file", "k", status=0)
    assert "GalleryKeyError" in invoke(*EXPIRE, "365d", status=2).stderr
    told = body(invoke(*EXPIRE, "365d", "--key-file", "k", "--json", status=0))
    assert [each["subject_id"] for each in told["expired"]] == ["ada"]
    assert told["erased"] is True


def test_what_is_not_plausible_is_refused_and_a_dry_run_says_so(invoke: Invoke) -> None:
    _set("enrolled_at = ? WHERE row = 2", 2_114_380_800)  # 2037
    stderr = invoke(*EXPIRE, "365d", status=2).stderr
    assert "ExpiryRefusedError" in stderr
    assert "the newest enrolment or audit entry is of 2037-01-01" in stderr
    dry = invoke(*EXPIRE, "365d", "--dry-run", status=0).stdout
    assert "would erase 1 subject\n" in dry
    assert (
        "note: subject bob: it was enrolled at 2037-01-01T00:00:00+00:00, which is in the fut"
        in dry
    )
    assert "would be refused: the clock says" in dry
    assert (
        "problem: subject 'bob': it was enrolled at 2037-01-01"
        in invoke("gallery", "check", "staff.db", status=2).stdout
    )
    assert invoke("gallery", "list", "staff.db", status=0).stdout == "ada\nbob\n"
    invoke("enroll", "bob", "person_b_1.jpg", "-g", "staff.db", status=0)  # at a known time
    assert invoke(*EXPIRE, "365d", status=0).stdout.startswith("erased ada")


@pytest.mark.parametrize("length", ["365", "0d", "-1d", "a year"])
def test_what_is_no_time_is_refused(invoke: Invoke, length: str) -> None:
    assert (
        "such as 365d"
        in invoke("gallery", "expire", "staff.db", f"--expire={length}", status=2).stderr
    )
    assert invoke("gallery", "list", "staff.db", status=0).stdout == "ada\nbob\n"


def test_it_is_not_offered_for_postgresql(invoke: Invoke, postgres: PostgresServer) -> None:
    url = postgres.url(gallery="expiring")
    invoke("enroll", "ada", "person_a_1.jpg", "-g", url, status=0)
    asked = ("gallery", "expire", url, "--expire", "1d", "--audit", "own.jsonl")
    assert "retention is not offered there yet" in invoke(*asked, status=2).stderr
    assert not Path("own.jsonl").exists()
