"""The comparisons that data ask for, with images that gave no template."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluation.people import as_table, made, pairs_of
from verifykit.datasets import ListedPair
from verifykit.evaluation.pairs import columns, score_comparisons
from verifykit.scoring import cosine

PEOPLE = made(5, 4, forgeries=2)
COUNT = len(PEOPLE.rows)
LOST = st.dictionaries(st.integers(0, COUNT - 1), st.just("no_face"))


def _kind(pair: ListedPair) -> str:
    return "mated" if pair.mated else "skilled" if pair.is_skilled else "random"


@st.composite
def listed(draw: st.DrawFn) -> list[ListedPair]:
    """Any pairs, also twice, also the other way round, as their images' subjects have them."""
    pairs = []
    for one, other in draw(
        st.lists(st.tuples(*[st.integers(0, COUNT - 1)] * 2).filter(lambda p: p[0] != p[1]))
    ):
        same = PEOPLE.subjects[one] == PEOPLE.subjects[other]
        forgeries = PEOPLE.forged[one] + PEOPLE.forged[other]
        if same and forgeries == 2:
            continue
        pairs.append(
            ListedPair(one, other, same and not forgeries, is_skilled=same and forgeries == 1)
        )
    return pairs


@given(listed(), LOST)
def test_listed_pairs_in_their_order_and_as_often_as_listed(
    pairs: list[ListedPair], lost: dict[int, str]
) -> None:
    found = score_comparisons(PEOPLE.data(pairs), PEOPLE.embedded(lost))
    usable = [p for p in pairs if p.probe not in lost and p.reference not in lost]
    for name in ("mated", "random", "skilled"):
        kind = getattr(found, name)
        mine = [p for p in usable if _kind(p) == name]
        ends = list(zip(kind.probe.tolist(), kind.reference.tolist(), strict=True))
        assert ends == [(p.probe, p.reference) for p in mine]
        wanted = [cosine(PEOPLE.rows[p.probe], PEOPLE.rows[p.reference]) for p in mine]
        assert kind.scores.tolist() == wanted
        assert kind.scores.dtype == np.float32
    assert found.lost_mated == sum(p.mated for p in pairs) - sum(p.mated for p in usable)
    assert found.lost_non_mated == len(pairs) - len(usable) - found.lost_mated


@given(LOST, st.booleans())
def test_every_pair_of_what_gave_a_template(lost: dict[int, str], by_population: bool) -> None:
    populations = [f"p{int(subject[1:]) % 2}" for subject in PEOPLE.subjects]
    people = PEOPLE
    if by_population:
        people = replace(PEOPLE, groups=[{"population": name} for name in populations])
    found = score_comparisons(people.data(), people.embedded(lost))
    table = list(pairs_of(people, populations if by_population else None))
    missing = {"mated": 0, "random": 0, "skilled": 0}
    for name in missing:
        mine = {frozenset((i, j)): score for kind, i, j, score in table if kind == name}
        there = {ends: score for ends, score in mine.items() if not ends & set(lost)}
        assert as_table(getattr(found, name)) == there
        missing[name] = len(mine) - len(there)
    assert found.lost_mated == missing["mated"]
    assert found.lost_non_mated == missing["random"] + missing["skilled"]


def test_nothing_gave_a_template() -> None:
    nothing = PEOPLE.embedded(dict.fromkeys(range(COUNT), "missing"))
    assert nothing.rows.shape[0] == 0
    for pairs in (None, [ListedPair(0, 1, mated=False), ListedPair(2, 3, mated=True)]):
        found = score_comparisons(PEOPLE.data(pairs), nothing)
        assert [len(k.scores) for k in (found.mated, found.random, found.skilled)] == [0, 0, 0]
        assert found.lost_mated == (5 * 6 if pairs is None else 1)
        assert found.lost_non_mated == (10 * 16 + 5 * 4 * 2 if pairs is None else 1)


def test_columns_of_images() -> None:
    people = replace(made(2, 1), forged=[False, True], groups=[{"population": "x"}, {"age": "3"}])
    images = people.data().images
    assert columns(images) == (people.subjects, [False, True], ["x", ""])
