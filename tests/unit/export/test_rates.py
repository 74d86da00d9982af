"""Defaults, and intervals against drawing subjects again."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

from export.rates import default_point, rates_with_intervals
from training.data import Record
from training.evaluate import evaluate_verification
from verifykit.spec import OperatingPoint


def people(subjects: int, images: int, forgeries: int = 0) -> tuple[np.ndarray, list[Record]]:
    random = np.random.default_rng(subjects)
    rows, records = [], []
    for subject in range(subjects):
        centre = random.normal(size=8)
        for number in range(images + forgeries):
            rows.append(centre + random.normal(0, 0.8, 8))
            records.append(Record(Path(f"{subject}-{number}"), f"s{subject}", number >= images))
    found = np.asarray(rows, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), records


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], (None, "random_forgery")),
        ([(1e-1, "random_forgery")], (None, "random_forgery")),
        ([(1e-1, "random_forgery"), (1e-2, "random_forgery")], (1e-2, "random_forgery")),
        (
            [(1e-2, "random_forgery"), (1e-3, "random_forgery"), (1e-4, "random_forgery")],
            (1e-3, "random_forgery"),
        ),
        ([(1e-2, "random_forgery"), (1e-1, "skilled_forgery")], (None, "skilled_forgery")),
        ([(1e-3, "random_forgery"), (1e-2, "skilled_forgery")], (1e-2, "skilled_forgery")),
        (
            [(f, "skilled_forgery") for f in (1e-1, 5e-2, 1e-2)] + [(1e-3, "random_forgery")],
            (5e-2, "skilled_forgery"),
        ),
    ],
)
def test_the_default_is_never_lenient(points, expected) -> None:  # type: ignore[no-untyped-def]
    made = [OperatingPoint(fmr, 0.5, 10**6, 1, attack) for fmr, attack in points]
    assert default_point(made) == expected


def test_the_default_is_a_rate_that_a_single_reference_reaches() -> None:
    single = [OperatingPoint(fmr, 0.5, 10**6, 1) for fmr in (1e-1, 1e-2)]
    several = OperatingPoint(1e-3, 0.5, 10**6, 1, reference_count=3)
    assert default_point([several, *single]) == (1e-2, "random_forgery")


def test_intervals_are_those_of_drawing_subjects_again() -> None:
    rows, records = people(9, 5)
    rates, scores = evaluate_verification(rows, records)
    owner = np.array([int(record.subject[1:]) for record in records])
    random = np.random.default_rng(1)
    for found in rates_with_intervals(rows, records, rates, scores):
        assert found.fmr_interval[0] <= found.fmr <= found.fmr_interval[1]
        assert found.fnmr_interval[0] <= found.fnmr <= found.fnmr_interval[1]
        draws = []
        for _ in range(300):
            drawn = random.integers(0, 9, 9)
            mated = [
                rows[i] @ rows[j] < found.threshold
                for subject in drawn
                for i, j in combinations(np.flatnonzero(owner == subject), 2)
            ]
            draws.append(np.mean(mated))
        expected = np.percentile(draws, (2.5, 97.5))
        assert found.fnmr_interval == pytest.approx(tuple(expected), abs=0.05)
