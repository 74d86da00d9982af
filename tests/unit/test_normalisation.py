"""Adaptive s-norm against its formula, and in decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.errors import ModelContractError
from verifykit.scoring import PairNormalisation, cohort_statistics, normalise
from verifykit.spec import Cohort, ModelSpec, OperatingPoint

RANDOM = np.random.default_rng(0)


def units(count: int, size: int) -> np.ndarray:
    rows = RANDOM.normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def formula(cohort: np.ndarray, nearest: int, a: np.ndarray, b: np.ndarray) -> float:
    sides = []
    for row in (a, b):
        highest = sorted((float(row @ other) for other in cohort), reverse=True)[:nearest]
        mean = sum(highest) / nearest
        deviation = (sum((score - mean) ** 2 for score in highest) / nearest) ** 0.5
        sides.append((float(a @ b) - mean) / deviation)
    return sum(sides) / 2


def test_normalised_scores_are_those_of_the_formula() -> None:
    cohort, left, right = units(30, 8), units(20, 8), units(20, 8)
    chosen = Cohort.of(cohort, 7)
    scores = np.sum(left * right, axis=1).astype(np.float32)
    found = normalise(scores, cohort_statistics(chosen, left), cohort_statistics(chosen, right))
    for a, b, score, value in zip(left, right, scores, found, strict=True):
        assert value == pytest.approx(formula(cohort, 7, a, b), abs=1e-4)
        normal = PairNormalisation.of(
            cohort_statistics(chosen, a[None]), cohort_statistics(chosen, b[None])
        )
        assert normal.apply(float(score)) == pytest.approx(float(value), abs=1e-5)
        assert normal.undo(normal.apply(float(score))) == pytest.approx(float(score), abs=1e-9)
        other = PairNormalisation.of(
            cohort_statistics(chosen, b[None]), cohort_statistics(chosen, a[None])
        )
        assert other == normal


def test_a_cohort_of_equal_rows_does_not_divide_by_zero() -> None:
    cohort = Cohort.of(np.repeat(units(1, 4), 3, axis=0), 3)
    found = cohort_statistics(cohort, units(5, 4))
    assert (found.deviation > 0).all()


@pytest.mark.parametrize("nearest", [1, 4])
def test_a_cohort_requires_at_least_two_rows(nearest: int) -> None:
    with pytest.raises(ModelContractError, match="nearest must be 2 to"):
        Cohort.of(units(3, 4), nearest)


@pytest.mark.parametrize("text", ["no base64!", "AAAA"])
def test_an_invalid_cohort_is_refused(text: str) -> None:
    with pytest.raises(ModelContractError, match="rows_base64"):
        Cohort(text, 4, 2)


COHORT = Cohort.of(
    np.eye(4, dtype=np.float32)[[0, 1, 2]] * 0.8 + np.float32(0.6) * np.eye(4, dtype=np.float32)[3],
    2,
)
SPEC = plain_spec(
    operating_points=(
        OperatingPoint(1e-1, 1.0, 10**7, 10**6),
        OperatingPoint(1e-2, 2.0, 10**7, 10**5),
        OperatingPoint(1e-3, 4.0, 10**7, 10**4),
    ),
    default_fmr=1e-2,
    fusion="mean",
    cohort=COHORT,
)


def normalised(verifier: vk.Verifier, rows: np.ndarray, probe: Any) -> tuple[float, float]:
    """Return cosine and normalised score of a probe and the mean of rows."""
    mean, row = rows.mean(axis=0), verifier.extract(probe).embedding
    return float(mean @ row), formula(COHORT.rows, 2, row, mean)


def test_a_decision_keeps_its_cosine_and_has_a_threshold_of_its_own() -> None:
    verifier = vk.Verifier(encoder(SPEC))
    images = [solid_image(200, 30, 0), solid_image(180, 60, 20)]
    verifier.enroll("a", images)
    rows = np.stack([verifier.extract(image).embedding for image in images])
    thresholds = set()
    for green in range(0, 256, 15):
        shade = solid_image(200, green, 40)
        score, placed = normalised(verifier, rows, shade)
        for decision, at in (
            (verifier.verify("a", shade), 2.0),
            (verifier.verify("a", shade, fmr=1e-3), 4.0),
        ):
            assert decision.score == pytest.approx(score, abs=1e-6)
            assert decision.match == (decision.score >= decision.threshold)
            if abs(placed - at) > 1e-3:
                assert decision.match == (placed >= at)
                assert (decision.score_fmr <= decision.fmr) == decision.match  # type: ignore[operator]
            thresholds.add(round(decision.threshold, 6))
    assert len(thresholds) > 10


def test_the_review_threshold_is_that_of_the_pair() -> None:
    verifier = vk.Verifier(encoder(SPEC), policy=vk.Policy(1e-3, 1e-1))
    decision = verifier.compare(solid_image(255, 0, 0), solid_image(0, 255, 0))
    assert decision.outcome == "refuse"
    assert decision.review_threshold is not None
    assert decision.review_threshold < decision.threshold


def test_compare_does_not_depend_on_the_order() -> None:
    verifier = vk.Verifier(encoder(SPEC))
    one, other = solid_image(200, 30, 0), solid_image(90, 60, 200)
    assert verifier.compare(one, other) == verifier.compare(other, one)


def test_a_bare_threshold_stays_a_cosine() -> None:
    decision = vk.Verifier(encoder(SPEC), threshold=0.5).compare(
        solid_image(255, 0, 0), solid_image(9, 9, 9)
    )
    assert decision.threshold == 0.5


@pytest.mark.parametrize("options", [{}, {"fmr": 1e-2}, {"fpir": 1e-2}])
def test_a_search_with_normalised_scores_is_refused(options: dict[str, float]) -> None:
    verifier = vk.Verifier(encoder(SPEC))
    assert verifier.enroll("a", solid_image(255, 0, 0)).warnings == ()
    with pytest.raises(vk.CalibrationError, match="normalises scores by a cohort"):
        verifier.identify(solid_image(255, 0, 0), **options)
    assert verifier.identify(solid_image(255, 0, 0), threshold=0.5)


def test_a_specification_contains_its_cohort() -> None:
    again = ModelSpec.from_json(SPEC.to_json())
    assert again == SPEC
    assert again.digest == replace(SPEC, cohort=None).digest
    body = json.loads(SPEC.to_json())
    body["cohort"]["nearest"] = 9
    with pytest.raises(ModelContractError, match="nearest"):
        ModelSpec.from_json(json.dumps(body))
