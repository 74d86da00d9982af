"""Thresholds for scores that lose the penalties of look-alikes, by people of the data."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder
from tests.unit.evaluation.coloured import SPEC, embedder, listed, paint
from verifykit.datasets import ListedPair
from verifykit.evaluation.calibrate import calibrate
from verifykit.evaluation.cohort import LEAST_PEOPLE, make_cohort
from verifykit.evaluation.evaluate import evaluate
from verifykit.evaluation.pairs import read_data
from verifykit.spec import Cohort


def test_its_subjects_are_left_out_and_none_is_a_centre(tmp_path: Path) -> None:
    rows = paint(tmp_path, 40, 3, forgeries=1)
    found = calibrate(embedder(), listed(tmp_path, rows), cohort=18, counts=(1,))
    assert found.cohort is not None
    assert found.cohort.embedding_size == 4
    assert 1 <= len(found.cohort.centres) <= 18 // LEAST_PEOPLE
    assert (found.subject_count, found.image_count) == (22, 22 * 4)
    counts = {(point.attack, point.non_mated_count) for point in found.operating_points}
    assert counts == {("random_forgery", 22 * 21 // 2 * 9), ("skilled_forgery", 22 * 3)}
    again, other = (
        calibrate(embedder(), listed(tmp_path, rows), cohort=18, counts=(1,), seed=seed)
        for seed in (0, 1)
    )
    assert again.cohort == found.cohort
    assert other.cohort != found.cohort


@pytest.fixture
def crowd() -> Cohort:
    """Return a cohort by which colours near grey are look-alikes."""
    random = np.random.default_rng(5)
    rows = np.concatenate([random.normal(128, 9, (40, 3)), np.ones((40, 1))], axis=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    grey = make_cohort(rows.astype(np.float32), [f"p{n}" for n in range(40)])
    return Cohort.of(grey.centres, grey.nearest, 0.97)


def test_the_same_data_decide_as_they_were_counted(tmp_path: Path, crowd: Cohort) -> None:
    rows = paint(tmp_path, 8, 4)
    found = calibrate(embedder(replace(SPEC, cohort=crowd)), read_data(tmp_path))
    assert found.cohort == crowd  # a model's own cohort stays
    (tmp_path / "mine.json").write_text(found.to_json(), encoding="utf-8")
    verifier = vk.Verifier(encoder(SPEC), calibration=tmp_path / "mine.json")
    assert verifier.spec.cohort == crowd
    pairs = [(one, other, who == whom) for (one, who, _), (other, whom, _) in combinations(rows, 2)]
    decisions = [(verifier.compare(one, other), mated) for one, other, mated in pairs]
    bare = vk.Verifier(encoder(SPEC), threshold=0.5)
    lowered = [
        bare.compare(one, other).score > decision.score + 1e-3
        for (one, other, _), (decision, _) in zip(pairs, decisions, strict=True)
    ]
    assert any(lowered)
    for point in found.operating_points:
        if point.reference_count > 1:
            continue
        matches = {True: 0, False: 0}
        for decision, mated in decisions:
            matches[mated] += decision.score >= point.threshold
        assert point.non_mated_count == 28 * 16
        # The score on which the threshold stands may round to either side of it.
        assert abs(matches[False] - point.false_match_count) <= 1
        assert point.fnmr == pytest.approx(1 - matches[True] / (8 * 6), abs=1 / 48)
    several = {point.reference_count for point in found.operating_points}
    assert several >= {1, 2, 3}
    report = evaluate(embedder(verifier.spec), read_data(tmp_path))
    (own,) = [
        rate for rate in report.models[0].attacks[0].own if rate.asked_fmr == pytest.approx(0.1)
    ]
    expected = next(p for p in found.operating_points if (p.fmr, p.reference_count) == (0.1, 1))
    assert own.fnmr.value == pytest.approx(expected.fnmr)


def test_several_references_decide_as_they_were_counted(tmp_path: Path, crowd: Cohort) -> None:
    rows = paint(tmp_path, 14, 5)
    spec = replace(SPEC, cohort=crowd)
    found = calibrate(embedder(spec), read_data(tmp_path), counts=(3,))
    verifier = vk.Verifier(encoder(SPEC), calibration=found)
    assert {point.reference_count for point in found.operating_points} == {3}
    matches, searches = 0, 0
    random = np.random.default_rng(0)
    for subject in sorted({who for _, who, _ in rows}):
        mine = [path for path, who, _ in rows if who == subject]
        verifier.enroll(subject, [mine[n] for n in random.permutation(5)[:3]])
        for path, who, _ in rows:
            if who != subject:
                matches += verifier.verify(subject, path, fmr=0.1).match
                searches += 1
    assert 0.03 < matches / searches < 0.25  # other draws


@pytest.mark.parametrize("size", [1, 15, 21, 100])
def test_a_cohort_of_too_few_or_of_too_many(tmp_path: Path, size: int) -> None:
    data = listed(tmp_path, paint(tmp_path, 40, 2))
    with pytest.raises(vk.InputError, match=f"a cohort of {size} of 40 usable subjects"):
        calibrate(embedder(), data, cohort=size)


def test_listed_pairs_have_no_cohort(tmp_path: Path) -> None:
    paint(tmp_path, 2, 2)
    lines = ["s0/0,s0/1,1", "s0/0,s1/0,0"]
    lines = [line.replace(",", ".png,") for line in lines]
    (tmp_path / "p.csv").write_text("\n".join(["probe,reference,mated", *lines]))
    data = read_data(tmp_path / "p.csv")
    assert data.pairs == (ListedPair(0, 1, True), ListedPair(0, 2, False))
    with pytest.raises(vk.InputError, match="of a folder or a CSV of images"):
        calibrate(embedder(), data, cohort=16)
