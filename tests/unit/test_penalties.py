"""Penalties of look-alikes against their formula, and in decisions and searches."""

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
from verifykit.scoring import (
    paired_scores,
    penalised,
    penalties,
    scores_of,
    subject_score,
    unit_rows,
)
from verifykit.spec import Cohort, ModelSpec, OperatingPoint

RANDOM = np.random.default_rng(0)


def units(count: int, size: int) -> np.ndarray:
    rows = RANDOM.normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def formula(cohort: Cohort, row: np.ndarray) -> float:
    cosines = sorted((float(row @ centre) for centre in cohort.centres), reverse=True)
    mean = sum(cosines[: cohort.nearest]) / cohort.nearest / float(np.linalg.norm(row))
    return cohort.factor * max(mean - cohort.typical, 0.0)


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_penalties_are_those_of_the_formula(factor: float) -> None:
    cohort, rows = Cohort.of(units(30, 8), 7, 0.45, factor), 0.7 * units(50, 8)
    found = penalties(cohort, rows)
    assert found == pytest.approx([formula(cohort, row) for row in rows], abs=1e-6)
    assert 0 < (found == 0).sum() < 50
    alone = [penalties(cohort, row[None])[0] for row in rows]
    assert alone == found.tolist()  # equal bits


@pytest.mark.parametrize(
    ("centres", "size", "nearest"), [(58, 128, 5), (256, 128, 10), (40, 257, 39)]
)
def test_penalties_of_many_rows_have_the_bits_of_each_alone(
    centres: int, size: int, nearest: int
) -> None:
    cohort, rows = Cohort.of(units(centres, size), nearest, 0.0), units(200, size)
    found = penalties(cohort, rows)
    expected = [
        np.sort(paired_scores(row, cohort.centres))[-nearest:].astype(np.float64).mean()
        for row in unit_rows(rows)
    ]
    assert found.tolist() == np.maximum(expected, 0.0).tolist()
    assert found.tolist() == [penalties(cohort, row[None])[0] for row in rows]
    assert (found > 0).any()


def test_scores_lose_half_of_each_side() -> None:
    cohort, left, right = Cohort.of(units(30, 8), 3, 0.2), units(20, 8), units(20, 8)
    for a, b in zip(left, right, strict=True):
        expected = float(a @ b) - (formula(cohort, a) + formula(cohort, b)) / 2
        score = scores_of(a, b[None], cohort)[0]
        assert score == pytest.approx(max(expected, -1.0), abs=1e-6)
        assert score == scores_of(b, a[None], cohort)[0]
        assert subject_score(a, b[None], "mean", cohort) == score
    assert penalised(np.array([-0.9], np.float32), 1.0, 1.0).tolist() == [-1.0]


def test_people_without_penalty_keep_their_cosine() -> None:
    rows = units(20, 8)
    cohort = Cohort.of(units(30, 8), 3, 1.0)
    for row in rows:
        assert (scores_of(row, rows, cohort) == scores_of(row, rows, None)).all()


@pytest.mark.parametrize(
    ("nearest", "typical", "message"),
    [(0, 0.0, "nearest must be 1 to"), (4, 0.0, "nearest must be 1 to"), (1, 1.5, "typical")],
)
def test_an_impossible_cohort_is_refused(nearest: int, typical: float, message: str) -> None:
    with pytest.raises(ModelContractError, match=message):
        Cohort.of(units(3, 4), nearest, typical)


@pytest.mark.parametrize("factor", [0.0, -1.0, 10.1, float("nan")])
def test_a_factor_out_of_range_is_refused(factor: float) -> None:
    with pytest.raises(ModelContractError, match="factor is above 0"):
        Cohort.of(units(3, 4), 1, 0.0, factor)


@pytest.mark.parametrize("text", ["no base64!", "AAAA"])
def test_invalid_centres_are_refused(text: str) -> None:
    with pytest.raises(ModelContractError, match="centres_base64"):
        Cohort(text, 4, 2, 0.0)


COHORT = Cohort.of(
    np.eye(4, dtype=np.float32)[[0, 1, 2]] * 0.8 + np.float32(0.6) * np.eye(4, dtype=np.float32)[3],
    2,
    0.6,
)
SPEC = plain_spec(
    operating_points=(
        OperatingPoint(1e-1, 0.7, 10**7, 10**6),
        OperatingPoint(1e-2, 0.8, 10**7, 10**5),
        OperatingPoint(1e-3, 0.9, 10**7, 10**4),
    ),
    default_fmr=1e-2,
    fusion="mean",
    cohort=COHORT,
)


def test_decisions_and_searches_have_one_score() -> None:
    verifier = vk.Verifier(encoder(SPEC))
    references = [solid_image(200, 30, 0), solid_image(180, 60, 20)]
    verifier.enroll("a", references)
    verifier.enroll("b", solid_image(0, 30, 200))
    rows = np.stack([verifier.extract(image).embedding for image in references])
    matches = set()
    for green in range(0, 256, 15):
        shade = solid_image(200, green, 40)
        probe = verifier.extract(shade).embedding
        expected = float(probe @ rows.mean(axis=0))
        expected -= (formula(COHORT, probe) + formula(COHORT, rows.mean(axis=0))) / 2
        decision = verifier.verify("a", shade)
        assert decision.score == pytest.approx(expected, abs=1e-5)
        assert (decision.threshold, decision.match) == (0.8, decision.score >= 0.8)
        found = {c.subject_id: c.score for c in verifier.identify(shade, threshold=-1.0)}
        assert found["a"] == decision.score
        assert ("a" in {c.subject_id for c in verifier.identify(shade)}) == decision.match
        matches.add(decision.match)
    assert matches == {True, False}


def test_compare_does_not_depend_on_the_order() -> None:
    verifier = vk.Verifier(encoder(SPEC))
    one, other = solid_image(200, 30, 0), solid_image(90, 60, 200)
    assert verifier.compare(one, other) == verifier.compare(other, one)


def test_a_specification_contains_its_cohort() -> None:
    again = ModelSpec.from_json(SPEC.to_json())
    assert again == SPEC
    assert again.digest == replace(SPEC, cohort=None).digest
    body = json.loads(SPEC.to_json())
    body["cohort"]["nearest"] = 9
    with pytest.raises(ModelContractError, match="nearest"):
        ModelSpec.from_json(json.dumps(body))


def test_a_cohort_of_schema_3_is_refused_with_advice() -> None:
    body: dict[str, Any] = json.loads(SPEC.to_json())
    body["schema"] = 3
    del body["population"], body["populations"]
    body["cohort"] = {"rows_base64": "", "embedding_size": 4, "nearest": 2}
    with pytest.raises(ModelContractError, match="calibrate the model again"):
        ModelSpec.from_json(json.dumps(body))
    body["cohort"] = None
    assert ModelSpec.from_json(json.dumps(body)) == replace(SPEC, cohort=None)
