"""Centres of people: none resembles one person alone."""

from __future__ import annotations

import numpy as np
import pytest

from verifykit.errors import InputError
from verifykit.evaluation.cohort import LEAST_PEOPLE, MOST_CENTRES, make_cohort
from verifykit.scoring import penalties, unit_rows


def people(kinds: int, each: int, images: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Return images of people around centres of their kind."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(kinds, 16))
    persons = np.repeat(centres, each, axis=0) + 0.4 * random.normal(size=(kinds * each, 16))
    rows = np.repeat(persons, images, axis=0) + 0.1 * random.normal(
        size=(kinds * each * images, 16)
    )
    return unit_rows(rows), [f"p{n // images}" for n in range(len(rows))]


def test_each_centre_is_the_mean_of_eight_people_or_more() -> None:
    rows, subjects = people(6, 20, 3)
    cohort = make_cohort(rows, subjects)
    assert 2 <= len(cohort.centres) <= 120 // LEAST_PEOPLE
    persons = unit_rows([rows[3 * n : 3 * n + 3].mean(axis=0) for n in range(120)])
    nearest = np.sort(cohort.centres @ persons.T, axis=1)[:, ::-1]
    assert (nearest[:, 0] < 0.999).all()  # none is a person
    assert (nearest[:, LEAST_PEOPLE - 1] > 0.5).all()


def test_a_quarter_exceeds_what_is_typical() -> None:
    rows, subjects = people(5, 40, 2)
    cohort = make_cohort(rows, subjects)
    assert np.mean(penalties(cohort, rows) > 0) == pytest.approx(0.25, abs=0.01)
    others = people(1, 50, 2, seed=9)[0]
    mine = make_cohort(rows, subjects, typical_of=others)
    assert np.mean(penalties(mine, others) > 0) == pytest.approx(0.25, abs=0.02)
    assert (mine.centres == cohort.centres).all()


def test_look_alikes_are_who_is_lowered() -> None:
    """People of one crowded kind get penalties, scattered ones do not."""
    crowd, names = people(1, 60, 2, seed=1)
    random = np.random.default_rng(2)
    scattered = unit_rows(random.normal(size=(200, 16)))
    rows = np.concatenate([crowd, scattered])
    cohort = make_cohort(rows, [*names, *(f"q{n}" for n in range(200))], typical_of=scattered)
    assert np.median(penalties(cohort, crowd)) > 0.1
    assert np.median(penalties(cohort, scattered)) == 0.0


def test_the_same_seed_gives_the_same_cohort() -> None:
    rows, subjects = people(4, 30, 1)
    assert make_cohort(rows, subjects, seed=3) == make_cohort(rows, subjects, seed=3)


def test_many_people_have_at_most_so_many_centres() -> None:
    rows, subjects = people(300, 12, 1)
    assert len(make_cohort(rows, subjects).centres) <= MOST_CENTRES


def test_too_few_people() -> None:
    rows, subjects = people(1, 15, 2)
    with pytest.raises(InputError, match="a cohort of 15 subjects: it takes 16 at least"):
        make_cohort(rows, subjects)
