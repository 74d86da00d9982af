"""Who is enrolled twice: against a plain loop over all pairs, at every fusion and limit."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.model_specs import face_spec
from tests.unit.gallery.files import DIGEST, SIZE, reopen, units
from verifykit.decision import rule_for_pairs
from verifykit.errors import CalibrationError, GalleryError
from verifykit.gallery import Gallery, MemoryGallery
from verifykit.gallery.duplicates import (
    DuplicatePair,
    find_duplicates,
    read_enrolled,
)
from verifykit.scoring import subject_score
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Template


def near(row: Embeddings, seed: int, noise: float) -> Embeddings:
    moved = row + noise * units(seed, 1)[0]
    return np.asarray(moved / np.linalg.norm(moved), np.float32)


def fill(gallery: Gallery, people: int = 40) -> None:
    """Every fifth person is somebody else again; all have one to three templates."""
    for i in range(people):
        own = units(1000 + (i - 1 if i % 5 == 1 else i), 1)[0]
        rows = [near(own, 10 * i + k, 0.4) for k in range(1 + i % 3)]
        gallery.add(f"s{i:02}", [Template(row, DIGEST) for row in rows])


def by_loops(gallery: Gallery, threshold: float, fusion: Fusion) -> list[DuplicatePair]:
    found = []
    for one, other in combinations(sorted(gallery.subject_ids()), 2):
        a, b = (np.stack([t.embedding for t in gallery.get(who).templates]) for who in (one, other))
        score = max(
            *(subject_score(row, b, fusion) for row in a),
            *(subject_score(row, a, fusion) for row in b),
        )
        if score >= threshold:
            found.append(DuplicatePair(one, other, score))
    return sorted(found, key=lambda pair: (-pair.score, pair.subject_id, pair.other_id))


@pytest.mark.parametrize("fusion", ["max", "mean", "centroid", "spread"])
@pytest.mark.parametrize("threshold", [0.6, 0.0, -1.0])
def test_it_finds_what_a_loop_over_all_pairs_finds(
    path: Path, fusion: Fusion, threshold: float
) -> None:
    """From -1 on everybody is on every list, so that lists are longer than any first limit."""
    with reopen(path, fusion=fusion) as gallery:
        fill(gallery)
        found = find_duplicates(gallery, threshold)
        assert found == by_loops(gallery, threshold, fusion)
        if threshold == 0.6:
            assert {(p.subject_id, p.other_id) for p in found} == {
                (f"s{i:02}", f"s{i + 1:02}") for i in range(0, 40, 5)
            }
        if threshold == -1.0:
            assert len(found) == 40 * 39 // 2


def test_equal_scores_are_ordered_by_id_and_progress_is_told() -> None:
    gallery = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    for name in "dbca":
        gallery.add(name, [Template(units(1, 1)[0], DIGEST)])
    seen: list[tuple[int, int]] = []
    found = find_duplicates(gallery, 0.9, on_template=lambda *told: seen.append(told))
    assert [pair.subject_id + pair.other_id for pair in found] == [
        "ab", "ac", "ad", "bc", "bd", "cd",
    ]  # fmt: skip
    assert seen == [(0, 4), (4, 4)]


@pytest.mark.parametrize("people", [0, 1])
def test_a_gallery_of_nobody_or_one_has_no_duplicates(people: int) -> None:
    gallery = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    fill(gallery, people)
    assert find_duplicates(gallery, -1.0) == []
    assert read_enrolled(gallery).comparison_count == 0


def test_comparisons_are_counted_as_different_scores() -> None:
    gallery = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    counts = [1, 1, 1, 2, 3]
    for i, count in enumerate(counts):
        gallery.add(str(i), [Template(row, DIGEST) for row in units(i, count)])
    wanted = sum(1 if a == b == 1 else a + b for a, b in combinations(counts, 2))
    assert read_enrolled(gallery).comparison_count == wanted


def test_a_subject_who_is_removed_meanwhile_is_left_out() -> None:
    class Leaving(MemoryGallery):
        def get(self, subject_id: str):  # type: ignore[no-untyped-def]
            if subject_id == "s01" and "s01" in self._entries:
                self.remove("s01")
            return super().get(subject_id)

    gallery = Leaving(spec_digest=DIGEST, embedding_size=SIZE)
    fill(gallery, 6)
    assert "s01" not in read_enrolled(gallery).subject_ids
    assert [(p.subject_id, p.other_id) for p in find_duplicates(gallery, 0.6)] == []


def test_a_gallery_that_answers_too_little_is_an_error() -> None:
    class Broken(MemoryGallery):
        def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
            return super().search(probes, limit, threshold)[1:]

    gallery = Broken(spec_digest=DIGEST, embedding_size=SIZE)
    fill(gallery, 6)
    with pytest.raises(GalleryError, match="answered 11 of 12 probes"):
        find_duplicates(gallery, 0.6)


@pytest.mark.parametrize(
    ("comparisons", "fmr"), [(0, 1e-4), (1, 1e-4), (9_000, 1e-4), (20_000, 1e-6), (999_999, 1e-6)]
)
def test_the_rate_is_that_of_less_than_one_false_pair(comparisons: int, fmr: float) -> None:
    rule = rule_for_pairs(face_spec(), comparisons)
    assert rule.fmr == fmr
    assert comparisons * fmr < 1


def test_a_calibration_that_ends_too_early_says_what_it_would_mean() -> None:
    with pytest.raises(CalibrationError) as caught:
        rule_for_pairs(face_spec(), 5_000_000)
    said = str(caught.value)
    for part in (
        "5,000,000 comparisons",
        "FMR 2e-07",
        "down to FMR 1e-06",
        "about 5 ",
        "fmr=1e-06",
    ):
        assert part in said, said
    assert rule_for_pairs(face_spec(), 5_000_000, strict=False).fmr == 1e-6


def test_a_model_that_is_not_calibrated_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not calibrated"):
        rule_for_pairs(face_spec(operating_points=(), default_fmr=None), 10)
