"""Who a probe is compared with: drawn at random, scored as everywhere else, never its own subject."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.helpers.drift_scores import calibrated_spec, filled, unit_rows
from verifykit.drift.evidence import Levels
from verifykit.drift.panel import Panel
from verifykit.gallery import MemoryGallery
from verifykit.scoring import subject_score
from verifykit.spec import Cohort


def test_scores_are_those_of_the_runtime() -> None:
    cohort = Cohort.of(unit_rows(20, seed=9), 3, 0.15)
    spec = calibrated_spec(1, 2, cohort=cohort)
    levels, gallery = Levels.of(spec, 1e-4), filled(spec, 40, templates=2)
    panel = Panel.draw(gallery, spec, levels, 16, random.Random(0))
    assert panel.subject_count == 40
    assert len(set(panel.subject_ids)) == 16
    probes = unit_rows(3, seed=5)
    scores, counts = panel.reached(probes, [None, None, None], spec)
    limits = levels.thresholds(spec, 2)
    expected = np.zeros(len(limits), np.int64)
    for probe in probes:
        for subject_id in panel.subject_ids:
            rows = np.stack([t.embedding for t in gallery.get(subject_id).templates])
            expected += subject_score(probe, rows, "mean", cohort) >= limits
    assert scores == 48
    assert counts.tolist() == expected.tolist()
    assert counts[0] > 0


def test_the_subject_that_a_probe_may_be_of_is_left_out() -> None:
    spec = calibrated_spec()
    gallery, levels = filled(spec, 60), Levels.of(spec, 1e-4)
    panel = Panel.draw(gallery, spec, levels, 100, random.Random(0))
    own = gallery.get("0007").templates[0].embedding
    assert panel.reached(own[None], ["0007"], spec)[0] == 59
    with_own = panel.reached(own[None], [None], spec)
    assert with_own[0] == 60
    without = panel.reached(own[None], ["0007"], spec)[1]
    assert (with_own[1] - without).tolist() == [1] * len(levels.rates)


def test_no_more_references_are_taken_than_were_calibrated() -> None:
    spec = calibrated_spec(1, 2)
    levels = Levels.of(spec, 1e-4)
    for templates, taken in ((1, 1), (2, 2), (5, 2)):
        panel = Panel.draw(filled(spec, 3, templates), spec, levels, 3, random.Random(0))
        assert panel.thresholds[0].tolist() == levels.thresholds(spec, taken).tolist()
    spec = calibrated_spec(2, fusion="max")
    levels = Levels.of(spec, 1e-4)
    assert len(Panel.draw(filled(spec, 3, 5), spec, levels, 3, random.Random(0)).rows) == 6
    # Of subjects with fewer than any calibrated number nothing is known.
    alone = Panel.draw(filled(spec, 3), spec, levels, 3, random.Random(0))
    assert (alone.subject_count, alone.subject_ids) == (3, ())
    assert alone.reached(unit_rows(1), [None], spec)[0] == 0


def test_a_subject_who_is_erased_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = calibrated_spec()
    gallery = filled(spec, 3)
    ids = list(gallery.subject_ids())
    monkeypatch.setattr(MemoryGallery, "subject_ids", lambda _: iter([*ids, "gone"]))
    panel = Panel.draw(gallery, spec, Levels.of(spec, 1e-4), 9, random.Random(0))
    assert sorted(panel.subject_ids) == ids


def test_every_subject_is_drawn_as_often() -> None:
    spec = calibrated_spec()
    gallery, levels, rng = filled(spec, 10), Levels.of(spec, 1e-4), random.Random(0)
    drawn = [s for _ in range(200) for s in Panel.draw(gallery, spec, levels, 3, rng).subject_ids]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 10
    assert counts.min() > 35


def test_an_empty_gallery_has_nobody() -> None:
    spec = calibrated_spec()
    panel = Panel.draw(filled(spec, 0), spec, Levels.of(spec, 1e-4), 9, random.Random(0))
    assert panel.reached(unit_rows(2), [None, "x"], spec) == (0, pytest.approx(np.zeros(14)))
