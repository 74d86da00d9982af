"""Counting live scores: what is counted, what is stored, and what happens when it cannot be."""

from __future__ import annotations

import copy
import json
import logging
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.drift_scores import calibrated_spec, drawn, filled, unit_rows
from verifykit._files import FileLock, LockHeldError
from verifykit.decision import DecisionOptions
from verifykit.drift import ScoreWatch
from verifykit.drift.state import WatchState, forget, joined
from verifykit.errors import CalibrationError, GalleryError, InputError
from verifykit.gallery import MemoryGallery

SPEC = calibrated_spec()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _fed(watch: ScoreWatch, probes: int, seed: int = 1) -> None:
    gallery = filled(SPEC, 100)
    for row in unit_rows(probes, seed):
        watch.record(gallery, row[None], [None])


def test_probes_are_compared_with_a_panel_and_only_counts_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "people.db.scores.json"
    watch = ScoreWatch(SPEC, path, panel_subjects=50)
    _fed(watch, 30)
    assert not path.exists()
    watch.flush()
    report = watch.report()
    assert (report.probes, report.scores) == (30, 1500)
    assert report.levels[0].count == pytest.approx(750, abs=150)
    assert report.levels[1].share == pytest.approx(0.1, abs=0.05)
    assert not report.has_drift
    assert report.evidence < report.alarm_at
    body = json.loads(path.read_text())
    assert body["calibration"] == report.calibration
    assert path.stat().st_size < 10_000
    assert "0001" not in path.read_text().split('"model"')[0]
    assert path.stat().st_mode & 0o777 == 0o600
    assert ScoreWatch(SPEC, path).report() == report


def test_counts_are_flushed_after_a_hundred_probes_or_a_minute(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "scores.json"
    watch = ScoreWatch(SPEC, path, clock=clock)
    _fed(watch, 99)
    assert not path.exists()
    assert watch.report().probes == 99
    _fed(watch, 1, seed=2)
    assert ScoreWatch(SPEC, path).report().probes == 100
    _fed(watch, 1, seed=3)
    clock.now = 61.0
    _fed(watch, 1, seed=4)
    assert ScoreWatch(SPEC, path).report().probes == 102


def test_who_stands_before_the_camera_counts_once_an_hour(clock: Clock) -> None:
    watch, gallery, row = ScoreWatch(SPEC, clock=clock), filled(SPEC, 100), unit_rows(1, seed=7)
    near = row + 0.05 * unit_rows(1, seed=8)
    near /= np.linalg.norm(near)
    for each in (row, near, row):
        watch.record(gallery, each, ["0001"])
    assert watch.report().probes == 1
    clock.now = 3601.0
    watch.record(gallery, row, ["0001"])
    assert watch.report().probes == 2


def test_the_faces_of_an_image_are_one_probe() -> None:
    watch = ScoreWatch(SPEC, panel_subjects=10)
    watch.record(filled(SPEC, 100), unit_rows(3, seed=7), [None, None, None])
    assert (watch.report().probes, watch.report().scores) == (1, 30)


def test_too_few_subjects_are_not_compared_with() -> None:
    watch = ScoreWatch(SPEC)
    for count in (0, 1, watch.least_subjects - 1):
        watch.record(filled(SPEC, count), unit_rows(1, seed=count), [None])
    assert watch.report().probes == 0
    assert watch.report().evidence == pytest.approx(0.0)
    watch.record(filled(SPEC, watch.least_subjects), unit_rows(1, seed=99), [None])
    assert watch.report().probes == 1


def test_the_panel_is_drawn_again_each_minute(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, gallery, drawings = ScoreWatch(SPEC, clock=clock), filled(SPEC, 100), []
    really = MemoryGallery.subject_ids

    def ids(gallery: MemoryGallery) -> Iterator[str]:
        drawings.append(clock.now)
        return really(gallery)

    monkeypatch.setattr(MemoryGallery, "subject_ids", ids)
    for n, now in enumerate((0.0, 1.0, 59.0, 61.0, 62.0)):
        clock.now = now
        watch.record(gallery, unit_rows(1, seed=n), [None])
    assert drawings == [0.0, 61.0]


def test_drift_is_found_announced_once_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ScoreWatch(SPEC, tmp_path / "scores.json")
    for row in drawn(watch.levels, 3.0, 2000, 1):
        watch.record_scores(row.tolist())
    watch.flush()
    report = watch.report()
    assert report.has_drift
    assert report.drift_probes is not None
    assert 0 < report.drift_probes <= 2000
    assert report.drift_since is not None
    assert report.fmr_now == pytest.approx(3e-4, rel=0.7)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("the stated false match rate no longer holds: stated 0.0001, estimated")
    for row in drawn(watch.levels, 0.5, 3000, 1, seed=1):
        watch.record_scores(row.tolist())
    after = watch.report()
    assert after.evidence < after.alarm_at
    assert (after.has_drift, after.drift_since) == (True, report.drift_since)
    assert len(caplog.records) == 1


def test_scores_as_calibrated_are_no_drift() -> None:
    watch = ScoreWatch(SPEC)
    for row in drawn(watch.levels, 1.0, 3000, 3):
        watch.record_scores(row.tolist())
    report = watch.report()
    assert not report.has_drift
    assert report.fmr_now == pytest.approx(1e-4, rel=1.0)


@pytest.mark.parametrize("scores", [[], [0.1, float("nan")], [[0.1]]])
def test_scores_that_are_none_are_refused(scores: list[float]) -> None:
    with pytest.raises(InputError, match="scores are finite numbers"):
        ScoreWatch(SPEC).record_scores(scores)


def test_scores_of_fewer_references_than_calibrated_are_refused() -> None:
    watch = ScoreWatch(calibrated_spec(2, fusion="max"))
    watch.record_scores([0.1], 3)
    with pytest.raises(CalibrationError, match="with 2 references and more, not with 1"):
        watch.record_scores([0.1], 1)


def test_threads_and_watches_count_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    watches = [ScoreWatch(SPEC, path) for _ in range(3)]
    rows = drawn(watches[0].levels, 1.0, 900, 2)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: watches[n % 3].record_scores(rows[n].tolist()), range(900)))
    for watch in watches:
        watch.flush()
    report = ScoreWatch(SPEC, path).report()
    assert (report.probes, report.scores) == (900, 1800)
    limits = watches[0].levels.thresholds(SPEC, 1)
    assert [each.count for each in report.levels] == [(rows >= limit).sum() for limit in limits]


def test_a_forked_process_counts_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    watch = ScoreWatch(SPEC, path)
    watch.record_scores([0.1])

    def work() -> None:
        watch.record_scores([0.2])
        watch.flush()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == 0
    watch.flush()
    assert ScoreWatch(SPEC, path).report().probes == 2


def test_a_forked_process_reports_what_it_counted_itself() -> None:
    watch = ScoreWatch(SPEC)
    watch.record_scores([0.1])

    def work() -> None:
        assert watch.report().probes == 0
        watch.reset()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert watch.report().probes == 1


def test_a_watch_can_be_pickled(tmp_path: Path) -> None:
    watch = ScoreWatch(SPEC, tmp_path / "scores.json", DecisionOptions(fmr=1e-3), panel_subjects=7)
    watch.record_scores([0.1, 0.2])
    again = copy.copy(watch)  # as pickle does: by `__reduce__`
    assert again.report() == watch.report()
    assert again.levels == watch.levels
    again.record(filled(SPEC, 100), unit_rows(1), [None])
    assert again.report().scores == 2 + 7


def test_counts_of_another_calibration_or_rate_are_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    watch = ScoreWatch(SPEC, path)
    watch.record_scores([0.1])
    watch.flush()
    others = replace(SPEC, operating_points=SPEC.operating_points[:-1]), SPEC
    for spec, decision in zip(others, (None, DecisionOptions(fmr=1e-3)), strict=True):
        with pytest.raises(InputError, match="another calibration or stated rate"):
            ScoreWatch(spec, path, decision)
    assert ScoreWatch(others[0], path, restart=True).report().probes == 0
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"verifykit_scores": 2}',
        '{"verifykit_scores": 1, "levels": {"rates": [0.1]}}',
        "\ud800",
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_refused_or_begun_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match="scores"):
        ScoreWatch(SPEC, path)
    watch = ScoreWatch(SPEC, path, restart=True)
    watch.record_scores([0.1])
    watch.flush()
    assert watch.report().probes == 1


def test_another_file_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "staff.db"
    for content in (b"SQLite format 3\0", b'{"calibration": 1}'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a file of counted scores, so"):
            ScoreWatch(SPEC, path, restart=True)
        with pytest.raises(InputError, match="not a file of counted scores, so"):
            forget(path)
        assert path.read_bytes() == content
    forget(tmp_path / "missing.json")
    assert list(tmp_path.iterdir()) == [path]


def test_counts_that_another_process_writes_are_not_forgotten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "counts.json"
    watch = ScoreWatch(SPEC, path)
    watch.record_scores([0.1])
    watch.flush()
    monkeypatch.setattr("verifykit.drift.state.LOCK_S", 0.0)
    with FileLock(path), pytest.raises(InputError, match="in use"):
        watch.reset()
    assert watch.report().probes == 1
    watch.reset()
    assert not path.exists()


def test_a_time_that_is_a_number_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    watch = ScoreWatch(SPEC, path)
    watch.record_scores([0.1])
    watch.flush()
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "drift_since": 5}))
    with pytest.raises(InputError, match="damaged"):
        watch.report()


@pytest.mark.parametrize("path", [True, 5, "a\0b"])
def test_what_no_path_can_be_is_an_input_error(path: Any) -> None:
    with pytest.raises(InputError, match="path"):
        ScoreWatch(SPEC, path)


@pytest.mark.parametrize("name", ["counts", "recent", "log_product", "log_sum"])
def test_an_array_of_another_length_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / "scores.json"
    watch = ScoreWatch(SPEC, path)
    watch.record_scores([0.1])
    watch.flush()
    body = json.loads(path.read_text())
    body[name].append(1)
    path.write_text(json.dumps(body))
    with pytest.raises(InputError, match="damaged"):
        watch.report()


def test_counts_that_cannot_be_stored_are_kept_for_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "later"
    watch = ScoreWatch(SPEC, folder / "scores.json")
    for _ in range(2):
        watch.record_scores([0.1])
        watch.flush()
    assert [r.getMessage() for r in caplog.records] == [
        "counts of live scores are not stored: FileNotFoundError"
    ]
    with pytest.raises(FileNotFoundError):
        watch.store()
    folder.mkdir()
    watch.flush()
    assert ScoreWatch(SPEC, folder / "scores.json").report().probes == 2


def test_a_file_that_another_process_holds_is_not_waited_for_at_every_probe(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tries = tmp_path / "scores.json", []

    def held(*_: object, **__: object) -> None:
        tries.append(1)
        raise LockHeldError

    watch = ScoreWatch(SPEC, path, clock=clock)
    with monkeypatch.context() as patched:
        patched.setattr("verifykit.drift.state.FileLock", held)
        for _ in range(150):
            watch.record_scores([0.1])
        assert len(tries) == 1
        clock.now = 61.0
        watch.record_scores([0.1])
        assert len(tries) == 2
    clock.now = 122.0
    for _ in range(101):
        watch.record_scores([0.1])
    assert ScoreWatch(SPEC, path).report().probes == 252


@pytest.mark.parametrize("error", [GalleryError("subject 0001"), RuntimeError("closed")])
def test_a_gallery_that_fails_is_not_the_callers_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: MemoryGallery) -> Iterator[str]:
        raise error

    watch, gallery = ScoreWatch(SPEC), filled(SPEC, 100)
    monkeypatch.setattr(MemoryGallery, "subject_ids", broken)
    for seed in range(2):
        watch.record(gallery, unit_rows(1, seed=seed), [None])
    assert caplog.record_tuples == [
        ("verifykit.drift", logging.WARNING, f"live scores are not counted: {type(error).__name__}")
    ]


def test_the_stated_rate_is_that_of_random_forgeries_at_the_threshold() -> None:
    def stated(decision: DecisionOptions | None) -> float:
        return ScoreWatch(SPEC, decision=decision).levels.stated

    assert stated(None) == 1e-4
    assert stated(DecisionOptions(fmr=1e-3)) == 1e-3
    assert stated(DecisionOptions(threshold=0.2326)) == pytest.approx(1e-2, rel=0.01)
    assert stated(DecisionOptions(threshold=-1.0)) == 0.1


def test_a_reset_forgets(tmp_path: Path) -> None:
    for path in (None, tmp_path / "scores.json"):
        watch = ScoreWatch(SPEC, path)
        watch.record_scores([0.1])
        watch.flush()
        watch.record_scores([0.1])
        watch.reset()
        assert watch.report().probes == 0
        watch.record_scores([0.1])
        assert watch.report().probes == 1


def test_an_alarm_after_a_reset_is_announced_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scores.json"
    watch = ScoreWatch(SPEC, path)
    for _ in range(2):
        for row in drawn(watch.levels, 30.0, 100, 20):
            watch.record_scores(row.tolist())
        assert watch.report().has_drift
        path.unlink()  # as `watch-scores --reset` of another process does
        watch.record_scores([-0.1])
        watch.flush()
    assert len(caplog.records) == 2


def test_files_of_several_machines_are_joined(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.json" for n in range(2)]
    for n, path in enumerate(paths):
        watch = ScoreWatch(SPEC, path)
        for row in drawn(watch.levels, 3.0, 1500, 1, seed=n):
            watch.record_scores(row.tolist())
        watch.flush()
    states = [WatchState.read(path) for path in paths]
    assert all(states)
    one, two = (state for state in states if state)
    both = joined([one, two]).report()
    assert both.probes == 3000
    assert both.evidence > one.report().evidence
    assert both.has_drift
    # Another machine's mathematics may differ in the last bits.
    moved = tuple(math.nextafter(each, 1.0) for each in two.levels.tolerated)
    assert joined([one, replace(two, levels=replace(two.levels, tolerated=moved))]).report() == both
    other = replace(two, calibration="another")
    with pytest.raises(InputError, match="different calibrations"):
        joined([one, other])


def test_a_panel_has_somebody() -> None:
    with pytest.raises(InputError, match="panel_subjects must be at least 1, got 0"):
        ScoreWatch(SPEC, panel_subjects=0)
