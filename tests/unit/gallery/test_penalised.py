"""A search with penalties is the loop over all subjects, in any gallery and at any moment of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.helpers.model_specs import plain_spec
from verifykit.gallery import MemoryGallery, searcher, take_snapshot
from verifykit.gallery.penalised import PenalisedSearch, PenalisedSnapshot
from verifykit.scoring import FUSIONS, subject_score
from verifykit.spec import Cohort, Fusion
from verifykit.types import Candidate, Embeddings, Template

SIZE = 6


def clustered(seed: int, count: int) -> NDArray[np.float32]:
    """Return unit rows of which half are near to each other, as look-alikes are."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, SIZE))
    rows[::2] = random.normal(size=SIZE) + 0.3 * rows[::2]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def filled(fusion: Fusion, stored: dict[str, NDArray[np.float32]]) -> MemoryGallery:
    gallery = MemoryGallery(spec_digest="d" * 64, embedding_size=SIZE, fusion=fusion)
    for name, rows in stored.items():
        gallery.add(name, [Template(row, "d" * 64) for row in rows])
    return gallery


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    subjects=st.integers(0, 120),
    limit=st.integers(1, 40),
    threshold=st.sampled_from([-1.0, 0.0, 0.4, 0.8]),
    typical=st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
    fusion=st.sampled_from(FUSIONS),
)
def test_it_is_the_loop_over_all_subjects(
    seed: int, subjects: int, limit: int, threshold: float, typical: float, fusion: Fusion
) -> None:
    pool = clustered(seed, 2 * subjects + 5)
    stored = {f"{n:03}": pool[5 + 2 * n : 7 + 2 * n] for n in range(subjects)}
    cohort = Cohort.of(clustered(seed, 9), 3, typical)
    gallery, spec = filled(fusion, stored), plain_spec(cohort=cohort, fusion=fusion)
    expected = []
    for probe in pool[:5]:
        scores = {name: subject_score(probe, rows, fusion, cohort) for name, rows in stored.items()}
        over = sorted((-score, name) for name, score in scores.items() if score >= threshold)
        expected.append([(-score, name) for score, name in over[:limit]])
    snapshot = take_snapshot(gallery, SIZE, fusion, cohort)
    assert isinstance(snapshot, PenalisedSnapshot)
    for search in (searcher(gallery, spec), snapshot.search):
        found = search(pool[:5], limit, threshold)
        assert [[(c.score, c.subject_id) for c in each] for each in found] == expected
        assert {c.threshold for each in found for c in each} <= {threshold}
        assert search(pool[:0], limit, threshold) == []


def test_without_a_cohort_it_is_the_gallerys_own() -> None:
    gallery = filled("max", {"a": clustered(0, 1)})
    assert searcher(gallery, plain_spec()) == gallery.search


def test_a_subject_who_is_removed_meanwhile_is_left_out() -> None:
    rows = clustered(1, 3)
    gallery = filled("max", {name: rows[n][None] for n, name in enumerate("abc")})

    def search(probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        found = gallery.search(probes, limit, threshold)
        if "b" in gallery.subject_ids():
            gallery.remove("b")
        return found

    def rows_of(name: str) -> NDArray[np.float32] | None:
        return (
            None
            if name not in gallery.subject_ids()
            else gallery.get(name).templates[0].embedding[None]
        )

    found = PenalisedSearch(search, rows_of, Cohort.of(rows, 1, 0.0))(rows[:1], 5, -1.0)
    assert {c.subject_id for c in found[0]} == {"a", "c"}


def test_few_candidates_are_requested_where_few_can_be_among_the_best() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(4000, SIZE)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    requested: list[int] = []
    gallery = filled("max", {f"{n:04}": row[None] for n, row in enumerate(rows)})

    def search(probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        requested.append(limit)
        return gallery.search(probes, limit, threshold)

    of = partial(dict.get, {f"{n:04}": row[None] for n, row in enumerate(rows)})
    cohort = Cohort.of(rows[:9], 3, 0.9)
    PenalisedSearch(search, of, cohort)(rows[:1], 5, 0.0)
    assert requested == [32]


@pytest.mark.parametrize(("threshold", "most"), [(-1.0, 12), (0.985, 20)])
def test_references_are_read_only_of_those_who_may_be_among_the_best(
    threshold: float, most: int
) -> None:
    rows = clustered(4, 2000)
    stored = {f"{n:04}": row[None] for n, row in enumerate(rows)}
    gallery, read = filled("max", stored), list[str]()

    def rows_of(name: str) -> NDArray[np.float32]:
        read.append(name)
        return stored[name]

    search = PenalisedSearch(gallery.search, rows_of, Cohort.of(rows[:9], 3, 1.0))
    found = search(rows[1:2], 5, threshold)[0]
    assert found[0].subject_id == "0001"
    assert len(found) <= 5
    assert len(found) <= len(read) <= most


@pytest.mark.parametrize(("limit", "threshold"), [(0, 0.5), (1, float("nan"))])
def test_impossible_questions(limit: int, threshold: float) -> None:
    gallery = filled("max", {})
    search = searcher(gallery, plain_spec(cohort=Cohort.of(clustered(0, 2), 1, 0.0)))
    with pytest.raises(ValueError, match=r"limit|threshold"):
        search(clustered(0, 1), limit, threshold)
