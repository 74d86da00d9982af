"""Scores against several references, against a plain loop over the draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.unit.evaluation.people import People, made, pairs_of
from verifykit.evaluation.reference_scores import DRAWS, Pool, draw_scores
from verifykit.scoring import subject_score
from verifykit.spec import Fusion

KINDS = ("mated", "non_mated", "skilled")


def drawn(
    people: People, count: int, fusion: Fusion, sets: list[str] | None = None
) -> Iterator[tuple[str, int, int, float]]:
    """(kind, probe, draw's owner, score), one draw and one probe after the other."""
    random = np.random.default_rng((0, count))
    for owner, name in enumerate(sorted(set(people.subjects))):
        every = [i for i, subject in enumerate(people.subjects) if subject == name]
        genuine = [i for i in every if not people.forged[i]]
        if len(genuine) < count + 1:
            continue
        for _ in range(DRAWS):
            chosen = random.permutation(genuine).tolist()
            references = people.rows[chosen[:count]]
            for probe, subject in enumerate(people.subjects):
                if probe in chosen[:count]:
                    continue
                if subject == name:
                    kind = "skilled" if people.forged[probe] else "mated"
                elif people.forged[probe] or (sets and sets[probe] != sets[genuine[0]]):
                    continue
                else:
                    kind = "non_mated"
                yield kind, probe, owner, subject_score(people.rows[probe], references, fusion)


def as_rows(pool: Pool) -> list[tuple[int, int, float]]:
    columns = (pool.probe.tolist(), pool.reference.tolist(), pool.scores.tolist())
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize("fusion", ["mean", "max", "centroid", "spread"])
@pytest.mark.parametrize("count", [2, 3])
def test_several_references_are_those_of_a_plain_loop(fusion: Fusion, count: int) -> None:
    people = made(6, 4, forgeries=3)
    # One who has just too few images for three references is a stranger to the others all the same.
    genuine = [i for i, forged in enumerate(people.forged) if not forged]
    short = next(i for i in genuine if people.subjects[i] == "s03")
    few = people.only([i for i in range(len(people.rows)) if i != short])
    found = draw_scores(few.rows, few.subjects, few.forged, fusion, count)
    table = list(drawn(few, count, fusion))
    able = {owner for _, _, owner, _ in table}
    assert len(able) == {2: 6, 3: 5}[count]
    assert (found.reference_count, found.subjects, found.draws) == (count, len(able), DRAWS)
    labels = few.labels.tolist()
    for kind in KINDS:
        wanted = sorted(
            (labels[probe], owner, float(np.float32(score)))
            for name, probe, owner, score in table
            if name == kind
        )
        assert as_rows(getattr(found, kind)) == wanted
        assert getattr(found, kind).scores.dtype == np.float32


def test_the_scores_of_a_single_reference_are_those_of_all_pairs() -> None:
    people = made(7, 3, forgeries=2)
    found = draw_scores(people.rows, people.subjects, people.forged, "mean", 1)
    assert (found.subjects, found.draws, found.reference_count) == (7, 1, 1)
    labels = people.labels.tolist()
    names = {"mated": "mated", "non_mated": "random", "skilled": "skilled"}
    for kind, name in names.items():
        pairs = [(i, j, s) for each, i, j, s in pairs_of(people) if each == name]
        wanted = sorted((*sorted((labels[i], labels[j])), score) for i, j, score in pairs)
        rows = [(*sorted(row[:2]), row[2]) for row in as_rows(getattr(found, kind))]
        assert sorted(rows) == wanted


def test_nobody_is_enrolled_with_more_references_than_there_are_images_for() -> None:
    people = made(6, 4)
    nobody = draw_scores(people.rows, people.subjects, people.forged, "mean", 4)
    assert nobody.subjects == 0
    for kind in KINDS:
        pool = getattr(nobody, kind)
        assert (pool.scores.size, pool.probe.size, pool.reference.size) == (0, 0, 0)


def test_no_image_at_all() -> None:
    for count in (1, 2):
        found = draw_scores(np.zeros((0, 8), np.float32), [], [], "mean", count)
        assert found.subjects == 0
        assert [getattr(found, kind).scores.size for kind in KINDS] == [0, 0, 0]


def test_the_same_seed_gives_the_same_scores_and_another_one_others() -> None:
    people = made(6, 6)
    first, again, other = (
        draw_scores(people.rows, people.subjects, people.forged, "mean", 3, seed=seed)
        for seed in (1, 1, 2)
    )
    assert as_rows(first.non_mated) == as_rows(again.non_mated)
    assert as_rows(first.non_mated) != as_rows(other.non_mated)


@pytest.mark.parametrize("count", [1, 3])
def test_strangers_are_those_of_the_own_population(count: int) -> None:
    people = made(8, 5, forgeries=2)
    sets = [f"set{int(subject[1:]) % 2}" for subject in people.subjects]
    found = draw_scores(
        people.rows, people.subjects, people.forged, "spread", count, populations=sets
    )
    assert found.subjects == 8
    if count > 1:
        table = list(drawn(people, count, "spread", sets))
        labels = people.labels.tolist()
        for kind in KINDS:
            wanted = sorted((labels[p], o, s) for name, p, o, s in table if name == kind)
            assert as_rows(getattr(found, kind)) == wanted
    assert found.non_mated.scores.size == found.draws * {1: 2 * 6 * 25, 3: 8 * 3 * 5}[count]
    assert set((found.non_mated.probe + found.non_mated.reference) % 2) == {0}


def test_large_data_are_drawn_less_often_and_then_in_part() -> None:
    people = made(10, 5, forgeries=1)
    strangers = 10 * 9 * 5
    found = {
        most: draw_scores(people.rows, people.subjects, people.forged, "mean", 2, most=most)
        for most in (10**6, 3 * strangers, 100)
    }
    assert [each.draws for each in found.values()] == [DRAWS, 3, 1]
    for each in found.values():
        assert each.subjects == 10
        assert each.mated.scores.size == each.draws * 10 * 3
        assert each.skilled.scores.size == each.draws * 10
    assert found[3 * strangers].non_mated.scores.size == 3 * strangers
    # A binomial count: five standard deviations.
    assert abs(found[100].non_mated.scores.size - 100) < 5 * np.sqrt(100 * (1 - 100 / strangers))
    assert set(found[100].non_mated.reference.tolist()) == set(range(10))
