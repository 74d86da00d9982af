"""Operating points against plain loops over pairs, and over the draws of references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

from export.reference_counts import DRAWS, FMRS, draw_scores, measured_points
from training.data import Record
from verifykit.scoring import subject_score
from verifykit.spec import Attack, Fusion


def people(subjects: int, images: int, forgeries: int = 0) -> tuple[np.ndarray, list[Record]]:
    """Rows of (D,) unit length; a forgery lies farther from its subject than a genuine image."""
    random = np.random.default_rng(subjects)
    rows, records = [], []
    for subject in range(subjects):
        centre = random.normal(size=8)
        for number in range(images + forgeries):
            forged = number >= images
            rows.append(centre + random.normal(0, 1.2 if forged else 0.8, 8))
            records.append(Record(Path(f"{subject}-{number}"), f"s{subject}", forged))
    order = random.permutation(len(rows))
    found = np.asarray(rows, np.float32)[order]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found, [records[i] for i in order]


def test_points_of_a_single_reference_are_those_of_all_pairs() -> None:
    rows, records = people(8, 4, forgeries=2)
    measured = measured_points(rows, records, "mean", counts=(1,))
    assert [(m.point.attack, m.point.fmr) for m in measured] == [
        ("random_forgery", 1e-1),
        ("random_forgery", 5e-2),
        ("random_forgery", 2e-2),
        ("random_forgery", 1e-2),
        ("skilled_forgery", 1e-1),
        ("skilled_forgery", 5e-2),
    ]
    for each in measured:
        point, others, mated = each.point, [], []
        for i, j in combinations(range(len(records)), 2):
            same = records[i].subject == records[j].subject
            forged = records[i].is_forgery + records[j].is_forgery
            score = float(rows[i] @ rows[j])
            if same and not forged:
                mated.append(score)
            if point.attack == "random_forgery" and not same and not forged:
                others.append(score)
            if point.attack == "skilled_forgery" and same and forged == 1:
                others.append(score)
        assert point.reference_count == 1
        assert point.non_mated_count == len(others)
        # The threshold lies one step above a score, and another order of summing rounds otherwise.
        assert point.false_match_count >= sum(score > point.threshold + 1e-6 for score in others)
        assert point.false_match_count <= sum(score > point.threshold - 1e-6 for score in others)
        assert point.false_match_count == int(point.fmr * len(others))
        assert each.fnmr == pytest.approx(np.mean(np.array(mated) < point.threshold), abs=0.03)


def drawn(
    rows: np.ndarray, records: list[Record], count: int, fusion: Fusion
) -> Iterator[tuple[str, int, int, float]]:
    """(kind, probe, draw's owner, score), one probe and one draw after the other."""
    random = np.random.default_rng((0, count))
    names = sorted({record.subject for record in records})
    for owner, name in enumerate(names):
        genuine = [i for i, r in enumerate(records) if r.subject == name and not r.is_forgery]
        if len(genuine) < count + 1:
            continue
        for _ in range(DRAWS):
            chosen = random.permutation(genuine)
            references = rows[chosen[:count]]
            for probe, record in enumerate(records):
                if probe in chosen[:count]:
                    continue
                if record.subject == name:
                    kind = "skilled_forgery" if record.is_forgery else "mated"
                elif record.is_forgery:
                    continue
                else:
                    kind = "random_forgery"
                yield kind, probe, owner, subject_score(rows[probe], references, fusion)


@pytest.mark.parametrize("fusion", ["mean", "max", "centroid", "spread"])
@pytest.mark.parametrize("count", [2, 3])
def test_points_of_several_references_are_those_of_a_plain_loop(fusion: Fusion, count: int) -> None:
    rows, records = people(9, 5, forgeries=7)
    some = draw_scores(rows, records, fusion, count)
    assert (some.subjects, some.draws) == (9, DRAWS)
    table = list(drawn(rows, records, count, fusion))
    for kind, found in (
        ("mated", some.mated),
        ("random_forgery", some.non_mated),
        ("skilled_forgery", some.skilled),
    ):
        wanted = sorted(score for name, _, _, score in table if name == kind)
        assert np.array_equal(np.sort(found), np.array(wanted, np.float32))
    measured = measured_points(rows, records, fusion, counts=(count,))
    attacks: tuple[Attack, ...] = ("random_forgery", "skilled_forgery")
    for attack in attacks:
        scores = np.array([score for name, _, _, score in table if name == attack])
        distinct = {(probe, owner) for name, probe, owner, _ in table if name == attack}
        points = [m.point for m in measured if m.point.attack == attack]
        assert [point.fmr for point in points] == [
            fmr
            for fmr in FMRS[attack]
            if len(distinct) >= 3 / fmr and np.mean(scores == 1.0) <= fmr
        ]
        for point in points:
            assert point.reference_count == count
            assert point.non_mated_count == len(distinct)
            assert len(scores) == DRAWS * len(distinct)
            share = np.mean(scores >= point.threshold)
            # Draws that repeat give equal scores, which match together.
            assert point.fmr - 2 * DRAWS / len(scores) < share <= point.fmr + 1e-12
            assert point.false_match_count == pytest.approx(share * len(distinct), abs=1.0)
            assert point.false_match_count <= point.fmr * point.non_mated_count
    # 9 writers: 360 strangers' images at them, 63 forgeries; every draw's would be twenty times that.
    assert {m.point.non_mated_count for m in measured} == {360, 63}


def test_nobody_is_measured_with_more_references_than_there_are_images_for() -> None:
    rows, records = people(6, 4)
    assert {m.point.reference_count for m in measured_points(rows, records, "mean")} == {1, 2, 3}
    nobody = draw_scores(rows, records, "mean", 4)
    assert (nobody.subjects, nobody.mated.size, nobody.non_mated.size, nobody.skilled.size) == (
        (0,) * 4
    )


def test_a_few_subjects_say_nothing_of_several_references() -> None:
    rows, records = people(6, 4)
    records_of_two = [r for r in records if r.subject in ("s0", "s1")]
    short = [r for r in records if r.subject not in ("s0", "s1")]
    kept, seen = [], dict.fromkeys((r.subject for r in short), 0)
    for record in short:
        seen[record.subject] += 1
        kept += [record] if seen[record.subject] <= 3 else []
    mixed = [records.index(record) for record in (*records_of_two, *kept)]
    points = measured_points(rows[mixed], [records[i] for i in mixed], "mean")
    assert {m.point.reference_count for m in points} == {1, 2}


def test_too_few_pairs_give_no_point() -> None:
    assert measured_points(*people(2, 3), "mean") == ()


def test_the_same_seed_gives_the_same_scores_and_another_one_others() -> None:
    rows, records = people(6, 6)
    first, again, other = (draw_scores(rows, records, "mean", 3, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.non_mated, again.non_mated)
    assert not np.array_equal(first.non_mated, other.non_mated)


def test_under_mean_a_threshold_falls_with_the_references() -> None:
    """Why a point of fewer references is the strict one."""
    rows, records = people(12, 12, forgeries=12)
    measured = measured_points(rows, records, "mean", counts=(1, 3, 5, 10))
    for fmr in (1e-1, 5e-2):
        for attack in ("random_forgery", "skilled_forgery"):
            found = [
                m.point.threshold
                for m in measured
                if (m.point.attack, m.point.fmr) == (attack, fmr)
            ]
            assert len(found) == 4
            assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("count", [1, 3])
def test_strangers_are_those_of_the_own_set(count: int) -> None:
    rows, records = people(12, 5, forgeries=2)
    named = [replace(r, subject=f"set{i % 2}/{r.subject}") for i, r in enumerate(records)]
    parts = [draw_scores(rows[i::2], named[i::2], "mean", count) for i in (0, 1)]
    whole = draw_scores(rows, named, "mean", count)
    assert whole.subjects == sum(part.subjects for part in parts)
    for kind in ("mated", "non_mated", "skilled"):
        together = np.concatenate([getattr(part, kind) for part in parts])
        assert np.array_equal(getattr(whole, kind), together)
