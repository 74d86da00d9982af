"""Thresholds for scores that are normalised by people of the data."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder
from tests.unit.evaluation.coloured import SPEC, embedder, listed, paint
from verifykit.datasets import ListedPair
from verifykit.evaluation.calibrate import calibrate
from verifykit.evaluation.pairs import read_data


def test_its_subjects_are_left_out_and_each_gives_one_genuine_image(tmp_path: Path) -> None:
    rows = paint(tmp_path, 10, 4, forgeries=1)
    found = calibrate(embedder(), listed(tmp_path, rows), cohort=4, counts=(1,))
    assert found.cohort is not None
    assert (found.cohort.nearest, found.cohort.embedding_size) == (4, 4)
    verifier = vk.Verifier(encoder(SPEC))
    owner = {
        verifier.extract(path).embedding.tobytes(): subject
        for path, subject, forged in rows
        if not forged
    }
    people = {owner[row.tobytes()] for row in found.cohort.rows}
    assert len(people) == 4
    assert (found.subject_count, found.image_count) == (6, 6 * 5)
    counts = {(point.attack, point.non_mated_count) for point in found.operating_points}
    assert counts == {("random_forgery", 15 * 16)}
    again, other = (
        calibrate(embedder(), listed(tmp_path, rows), cohort=4, counts=(1,), seed=seed)
        for seed in (0, 1)
    )
    assert again.cohort == found.cohort
    assert other.cohort != found.cohort


def test_the_same_data_decide_as_they_were_counted(tmp_path: Path) -> None:
    rows = paint(tmp_path, 12, 4)
    found = calibrate(embedder(), read_data(tmp_path), cohort=5)
    (tmp_path / "mine.json").write_text(found.to_json(), encoding="utf-8")
    verifier = vk.Verifier(encoder(SPEC), calibration=tmp_path / "mine.json")
    assert verifier.spec.cohort == found.cohort
    assert found.cohort is not None
    cohort = {row.tobytes() for row in found.cohort.rows}
    templates = {path: verifier.extract(path).embedding.tobytes() for path, *_ in rows}
    left_out = {who for path, who, _ in rows if templates[path] in cohort}
    assert len(left_out) == 5
    pairs = [
        (one, other, who == whom)
        for (one, who, _), (other, whom, _) in combinations(rows, 2)
        if not {who, whom} & left_out
    ]
    singles = [point for point in found.operating_points if point.reference_count == 1]
    assert [point.fmr for point in singles] == [0.1, 0.05, 0.02, 0.01]
    for point in singles:
        matches = {True: 0, False: 0}
        for one, other, mated in pairs:
            matches[mated] += verifier.compare(one, other, fmr=point.fmr).match
        assert point.non_mated_count == 21 * 16
        # The score on which the threshold stands may round to either side of it.
        assert abs(matches[False] - point.false_match_count) <= 1
        assert point.fnmr == pytest.approx(1 - matches[True] / (7 * 6), abs=1 / 42)
    thresholds = {verifier.compare(one, other, fmr=0.1).threshold for one, other, _ in pairs[:9]}
    assert len(thresholds) == 9


def test_several_references_are_normalised_by_their_fused_row(tmp_path: Path) -> None:
    rows = paint(tmp_path, 14, 5)
    found = calibrate(embedder(), read_data(tmp_path), cohort=5, counts=(3,))
    verifier = vk.Verifier(encoder(SPEC), calibration=found)
    assert {point.reference_count for point in found.operating_points} == {3}
    matches, searches = 0, 0
    subjects = sorted({who for _, who, _ in rows})
    random = np.random.default_rng(0)
    for subject in subjects:
        mine = [path for path, who, _ in rows if who == subject]
        verifier.enroll(subject, [mine[n] for n in random.permutation(5)[:3]])
        for path, who, _ in rows:
            if who != subject:
                matches += verifier.verify(subject, path, fmr=0.1).match
                searches += 1
    # Other draws, and the cohort's own people among them.
    assert 0.03 < matches / searches < 0.25


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_cohort_of_too_few_or_of_too_many(tmp_path: Path, size: int) -> None:
    data = listed(tmp_path, paint(tmp_path, 7, 3))
    with pytest.raises(vk.InputError, match=f"a cohort of {size} of 7 usable subjects"):
        calibrate(embedder(), data, cohort=size)


def test_listed_pairs_have_no_cohort(tmp_path: Path) -> None:
    paint(tmp_path, 2, 2)
    lines = ["s0/0,s0/1,1", "s0/0,s1/0,0"]
    lines = [line.replace(",", ".png,") for line in lines]
    (tmp_path / "p.csv").write_text("\n".join(["probe,reference,mated", *lines]))
    data = read_data(tmp_path / "p.csv")
    assert data.pairs == (ListedPair(0, 1, True), ListedPair(0, 2, False))
    with pytest.raises(vk.InputError, match="of a folder or a CSV of images"):
        calibrate(embedder(), data, cohort=2)
