"""Every pair of images against a plain double loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluation.people import People, as_table, made, pairs_of
from verifykit.evaluation.pairs import count_pairs, every_pair

KINDS = ("mated", "random", "skilled")


@st.composite
def labelled(draw: st.DrawFn) -> tuple[People, list[str] | None]:
    """Any few images; populations need not follow subjects."""
    count = draw(st.integers(0, 12))
    names = draw(st.lists(st.sampled_from(["", "a", "b", "ä/1"]), min_size=count, max_size=count))
    forged = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    sets = draw(
        st.none() | st.lists(st.sampled_from(["x", "y", ""]), min_size=count, max_size=count)
    )
    rows = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return People(rows, names, forged), sets


@given(labelled())
def test_every_pair_is_that_of_a_double_loop(drawn: tuple[People, list[str] | None]) -> None:
    people, sets = drawn
    found = every_pair(people.rows, people.subjects, people.forged, sets)
    table = list(pairs_of(people, sets))
    counts = count_pairs(people.subjects, people.forged, sets)
    assert set(counts) == set(KINDS)
    for name in KINDS:
        kind = getattr(found, name)
        wanted = {frozenset((i, j)): score for each, i, j, score in table if each == name}
        assert as_table(kind) == wanted
        assert counts[name] == len(wanted)
        assert (kind.probe.dtype, kind.reference.dtype) == (np.int32, np.int32)
        assert kind.scores.dtype == np.float32


def test_the_imitation_is_the_reference_of_a_skilled_comparison() -> None:
    people = made(3, 4, forgeries=3)
    skilled = every_pair(people.rows, people.subjects, people.forged).skilled
    assert len(skilled.scores) == 3 * 4 * 3
    assert not any(people.forged[i] for i in skilled.probe)
    assert all(people.forged[i] for i in skilled.reference)
