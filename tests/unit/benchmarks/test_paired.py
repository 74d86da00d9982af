"""Paired draws of people: the difference of two networks has an interval of its own."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.distillation.data import HeldOut
from benchmarks.distillation.paired import Rows, measure, scores, tables
from verifykit.metrics import equal_error_rate, fnmr_at_fmr

PEOPLE, IMAGES = 40, 4


def _held_out() -> HeldOut:
    paths = [Path(f"{person:02}/{n}.png") for person in range(PEOPLE) for n in range(IMAGES)]
    pairs = list(combinations(paths, 2))
    return HeldOut(
        "made",
        [one for one, _ in pairs],
        [two for _, two in pairs],
        np.array([one.parent == two.parent for one, two in pairs]),
        np.array([[one.parent.name for one, _ in pairs], [two.parent.name for _, two in pairs]]),
    )


def _network(noise: float, pairs: HeldOut) -> Rows:
    """Return rows of a network: the same people and images, with more or less noise."""
    random = np.random.default_rng(1)
    paths = sorted({*pairs.first, *pairs.second})
    centres = random.normal(size=(PEOPLE, 16))
    apart = random.normal(size=(len(paths), 16))
    rows = np.repeat(centres, IMAGES, axis=0) + noise * apart
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(paths, rows.astype(np.float32), strict=True))


def test_rates_are_those_of_all_pairs_and_within_their_intervals() -> None:
    pairs = _held_out()
    found = scores(_network(1.0, pairs), pairs)
    used = np.ones(len(found), bool)
    eer, fnmr = measure(found, pairs, used)
    mated, others = found[pairs.mated], found[~pairs.mated]
    assert fnmr is not None
    assert eer.value == equal_error_rate(mated, others).eer
    assert fnmr.value == fnmr_at_fmr(mated, others, 1e-3)[0]
    for figure in (eer, fnmr):
        low, high = figure.interval()
        assert low < figure.value < high
    assert measure(found, pairs, pairs.mated | (np.arange(len(found)) % 9 == 0))[1] is None


def test_a_difference_is_sharper_than_its_two_rates() -> None:
    pairs = _held_out()
    used = np.ones(len(pairs.first), bool)
    better, worse = (
        measure(scores(_network(noise, pairs), pairs), pairs, used)[0] for noise in (1.0, 1.1)
    )
    assert better.interval()[1] > worse.interval()[0]  # these overlap
    low, high = better.less(worse).interval()
    assert low < better.value - worse.value < high < 0.0
    assert better.less(better).interval() == (0.0, 0.0)


def test_the_table_counts_the_pairs_that_all_could_embed() -> None:
    pairs = _held_out()
    networks = {"one": dict(_network(1.0, pairs)), "other": dict(_network(1.1, pairs))}
    del networks["other"][Path("00/0.png")]
    (table,) = tables(networks, [pairs], [("one", "other")])
    total = PEOPLE * IMAGES
    assert f"{total * (total - 1) // 2 - (total - 1):,} of" in str(table.title)
    text = [str(cell) for column in table.columns for cell in column.cells]
    assert "one less other" in text
    assert sum("(" in cell for cell in text) == 6


@pytest.mark.parametrize("missing", [True, False])
def test_a_pair_without_a_crop_has_no_score(*, missing: bool) -> None:
    pairs = _held_out()
    rows = dict(_network(1.0, pairs))
    if missing:
        del rows[Path("00/0.png")]
    assert int(np.isnan(scores(rows, pairs)).sum()) == missing * (PEOPLE * IMAGES - 1)
