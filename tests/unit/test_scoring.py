"""Scores are exact, of one polarity, and independent of the batch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from verifykit.errors import InputError, TemplateFormatError
from verifykit.scoring import (
    FUSIONS,
    checked_embeddings,
    checked_fusion,
    cosine,
    fused_rows,
    paired_scores,
    reference_rows,
    score_matrix,
    subject_score,
    tile_scores,
    unit_rows,
)
from verifykit.spec import Fusion


def units(seed: int, count: int, size: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def exact_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the cosine by correctly rounded sums of Python floats."""
    x, y = [float(v) for v in a], [float(v) for v in b]
    dot = math.fsum(p * q for p, q in zip(x, y, strict=True))
    return dot / math.sqrt(math.fsum(p * p for p in x)) / math.sqrt(math.fsum(q * q for q in y))


@given(seed=st.integers(0, 10_000), size=st.integers(1, 300))
def test_cosine_is_the_textbook_one_and_symmetric(seed: int, size: int) -> None:
    a, b = units(seed, 2, size)
    assert cosine(a, b) == pytest.approx(exact_cosine(a, b), abs=2e-7)
    assert cosine(a, b) == cosine(b, a)
    assert -1.0 <= cosine(a, b) <= 1.0


@given(seed=st.integers(0, 10_000), size=st.integers(2, 200), count=st.integers(1, 12))
def test_each_fusion_is_what_its_name_says(seed: int, size: int, count: int) -> None:
    probe, *templates = units(seed, count + 1, size)
    scores = [exact_cosine(probe, template) for template in templates]
    centre = np.sum([t.astype(np.float64) for t in templates], axis=0)
    expected = {
        "max": max(scores),
        "mean": sum(scores) / count,
        "centroid": float(probe @ centre / np.linalg.norm(centre) / np.linalg.norm(probe)),
    }
    # |mean|^2 is the mean of all cosines among the templates, each with itself too.
    among = np.mean([exact_cosine(a, b) for a in templates for b in templates])
    expected["spread"] = min(1.0, max(-1.0, expected["mean"] / max(among, 1 / 16)))
    for fusion in FUSIONS:
        got = subject_score(probe, np.stack(templates), fusion)
        assert got == pytest.approx(expected[fusion], abs=1e-6), fusion


def test_one_template_scores_the_same_under_every_fusion() -> None:
    probe, template = units(3, 2, 128)
    scores = {subject_score(probe, template[None], fusion) for fusion in FUSIONS}
    assert max(scores) - min(scores) < 1e-7
    assert subject_score(template, template[None], "max") == pytest.approx(1.0, abs=1e-7)
    assert subject_score(-template, template[None], "max") == pytest.approx(-1.0, abs=1e-7)


@pytest.mark.parametrize("size", [1, 7, 128, 513])
def test_a_score_has_the_same_bits_alone_and_among_others(size: int) -> None:
    rows = unit_rows(units(1, 5000, size))
    probe = unit_rows(units(2, 1, size))[0]
    together = paired_scores(probe, rows)
    alone = np.array([paired_scores(probe, rows[i : i + 1])[0] for i in range(0, 5000, 97)])
    assert together[::97].tobytes() == alone.tobytes()
    source = units(1, 5000, size)
    assert all(
        unit_rows(source[i : i + 1]).tobytes() == rows[i].tobytes() for i in range(0, 5000, 97)
    )


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("sizes", [[1], [1, 1, 1], [3, 1, 2], [5] * 3, [1, 9000, 2]])
def test_the_rows_of_many_subjects_are_those_of_each_alone(
    fusion: Fusion, sizes: list[int]
) -> None:
    rows = unit_rows(np.random.default_rng(1).normal(size=(sum(sizes), 7)))
    together = fused_rows(rows, sizes, fusion)
    cuts = np.cumsum([0, *sizes])
    alone = [reference_rows(rows[a:b], fusion) for a, b in itertools.pairwise(cuts.tolist())]
    assert together.tobytes() == np.concatenate(alone).tobytes()
    assert fused_rows(rows[:0], [], fusion).shape == (0, 7)


def test_templates_that_cancel_out_have_no_centroid() -> None:
    template = units(4, 1, 16)[0]
    pair = np.stack([template, -template])
    assert not reference_rows(pair, "centroid").any()
    assert subject_score(template, pair, "centroid") == 0.0


@pytest.mark.parametrize(
    "values",
    [
        np.full((2, 4), np.nan, np.float32),
        np.full((2, 4), np.inf, np.float32),
        np.zeros((2, 4), np.float32),
        np.full((2, 4), 1.0, np.float32),
        np.full((2, 4), 1, np.int64),
        np.full(4, 0.5, np.float32),
        np.full((2, 3), 1 / math.sqrt(3), np.float32),
        np.array([["a"]]),
    ],
)
def test_invalid_embeddings_are_refused(values: NDArray[np.float32]) -> None:
    with pytest.raises(TemplateFormatError):
        checked_embeddings(values, 4)


def test_no_probes_are_accepted_and_no_templates_are_refused() -> None:
    assert checked_embeddings(np.empty((0, 4), np.float32), 4).shape == (0, 4)
    with pytest.raises(TemplateFormatError, match="at least one template"):
        subject_score(units(0, 1, 4)[0], np.empty((0, 4), np.float32), "max")
    with pytest.raises(TemplateFormatError):
        cosine(units(0, 1, 4)[0], units(0, 1, 5)[0])


def test_an_unknown_fusion_is_named() -> None:
    with pytest.raises(InputError, match="median"):
        checked_fusion("median")


@given(seed=st.integers(0, 10_000), probes=st.integers(1, 9), references=st.integers(1, 9))
def test_a_matrix_of_scores_is_that_of_single_pairs(
    seed: int, probes: int, references: int
) -> None:
    rows = units(seed, probes + references, 16)
    scores = score_matrix(rows[:probes], rows[probes:])
    for (i, probe), (j, reference) in itertools.product(
        enumerate(rows[:probes]), enumerate(rows[probes:])
    ):
        assert scores[i, j] == subject_score(probe, reference[None], "max")


@pytest.mark.parametrize("size", [2, 8, 128, 512])
def test_a_tile_has_the_scores_of_pairs_to_the_last_bit(size: int) -> None:
    probes, rows = units(1, 300, size), units(2, 700, size)
    # Orthogonal, equal and opposite rows: near zero float32 is finest, and rounding shows most.
    probes[:40] = np.roll(np.eye(size, dtype=np.float32), 1, axis=0)[np.arange(40) % size]
    rows[:40] = np.eye(size, dtype=np.float32)[np.arange(40) % size]
    rows[40:60] = -probes[40:60]
    found = tile_scores(probes, rows)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.stack([paired_scores(probe, rows) for probe in probes]))
