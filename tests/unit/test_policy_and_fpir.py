"""Policies, false positive identification rates, and the rate at a score."""

from __future__ import annotations

import math
from typing import Any

import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.spec import Evidence, OperatingPoint

POINTS = (
    OperatingPoint(1e-1, 0.70, 10**7, 10**6),
    OperatingPoint(1e-2, 0.90, 10**7, 10**5),
    OperatingPoint(1e-4, 0.98, 10**7, 10**3),
    OperatingPoint(1e-6, 0.999, 10**7, 10),
)
SPEC = plain_spec(
    operating_points=POINTS,
    default_fmr=1e-2,
    fusion="mean",
    evidence=(Evidence("random_forgery", 1, 10.0, -9.0, 0.3, 1000, 10**7),),
)
RED = solid_image(255, 0, 0)
POLICY = vk.Policy(accept_fmr=1e-4, review_fmr=1e-2)


def make_verifier(**options: Any) -> vk.Verifier:
    verifier = vk.Verifier(encoder(SPEC), **options)
    verifier.enroll("red", [RED])
    return verifier


def probes() -> list[tuple[float, Any]]:
    """Return images of decreasing likeness to red, with their scores."""
    verifier = make_verifier()
    shades = [solid_image(255, green, 0) for green in range(0, 256, 5)]
    return [(verifier.verify("red", shade).score, shade) for shade in shades]


def test_a_policy_accepts_reviews_and_refuses() -> None:
    verifier, seen = make_verifier(policy=POLICY), set()
    for score, shade in probes():
        for decision in (
            verifier.verify("red", shade),
            make_verifier().verify("red", shade, policy=POLICY),
            verifier.compare(RED, shade),
        ):
            expected = "accept" if score >= 0.98 else "review" if score >= 0.90 else "refuse"
            assert decision.outcome == expected
            assert bool(decision) == decision.match == (expected == "accept")
            assert (decision.threshold, decision.fmr) == (0.98, 1e-4)
            assert (decision.review_threshold, decision.review_fmr) == (0.90, 1e-2)
            assert decision.to_dict()["outcome"] == expected
        seen.add(expected)
    assert seen == {"accept", "review", "refuse"}


def test_without_a_policy_nothing_is_reviewed() -> None:
    for score, shade in probes():
        decision = make_verifier().verify("red", shade)
        assert decision.outcome == ("accept" if score >= 0.90 else "refuse")
        assert decision.review_threshold is None
        assert decision.review_fmr is None


def test_a_call_overrides_the_policy() -> None:
    verifier = make_verifier(policy=POLICY)
    assert verifier.verify("red", RED, fmr=1e-6).threshold == 0.999
    assert verifier.verify("red", RED, fmr=1e-6).review_fmr is None
    assert verifier.verify("red", RED, threshold=0.5).fmr is None
    assert make_verifier(fmr=1e-6).verify("red", RED, policy=POLICY).threshold == 0.98
    assert make_verifier(threshold=0.1).verify("red", RED, policy=POLICY).threshold == 0.98


def test_a_search_uses_the_accept_rate_of_the_policy() -> None:
    assert {c.threshold for c in make_verifier(policy=POLICY).identify(RED)} == {0.98}


@pytest.mark.parametrize(
    ("rates", "named"),
    [
        ((1e-2, 1e-4), "below accept_fmr"),
        ((0.0, 0.1), "accept_fmr must be a rate"),
        ((0.1, 1.0), "review_fmr must be a rate"),
        ((math.nan, 0.1), "accept_fmr must be a rate"),
        (("low", 0.1), "accept_fmr must be a number"),
        ((True, 0.1), "accept_fmr must be a number"),
    ],
)
def test_invalid_rates_are_refused(rates: tuple[Any, Any], named: str) -> None:
    with pytest.raises(vk.InputError, match=named):
        vk.Policy(*rates)


@pytest.mark.parametrize("other", [{"fmr": 1e-2}, {"threshold": 0.5}])
def test_a_policy_with_another_limit_is_refused(other: dict[str, float]) -> None:
    with pytest.raises(vk.InputError, match="give one of them"):
        make_verifier(policy=POLICY, **other)
    with pytest.raises(vk.InputError, match="give one of them"):
        make_verifier().verify("red", RED, policy=POLICY, **other)


def test_a_policy_of_another_type_is_refused() -> None:
    with pytest.raises(vk.InputError, match=r"must be a verifykit\.Policy"):
        make_verifier(policy=(1e-4, 1e-2))


def test_a_policy_below_the_calibration_is_refused_at_construction() -> None:
    with pytest.raises(vk.CalibrationError, match="30000000"):
        make_verifier(policy=vk.Policy(1e-7, 1e-2))


def test_a_decision_reports_the_rate_at_its_score() -> None:
    for score, shade in probes():
        for options in ({}, {"fmr": 1e-4}, {"threshold": 0.5}):
            decision = make_verifier().verify("red", shade, **options)
            assert decision.score_fmr is not None
            assert decision.llr == pytest.approx(10 * score - 9)
            for point in POINTS:
                assert (decision.score_fmr <= point.fmr) == (score >= point.threshold)
    plain = vk.Verifier(encoder(plain_spec(operating_points=(), default_fmr=None)), threshold=0.5)
    bare = plain.compare(RED, RED)
    assert (bare.score_fmr, bare.llr) == (None, None)


@pytest.mark.parametrize(
    ("size", "fpir", "fmr"), [(1, 1e-2, 1e-2), (50, 1e-2, 1e-4), (3, 0.2, 1e-2)]
)
def test_fpir_sets_the_threshold_for_this_gallery(size: int, fpir: float, fmr: float) -> None:
    verifier = vk.Verifier(encoder(SPEC))
    for number in range(size):
        verifier.enroll(f"{number}", [RED])
    found = verifier.identify(RED, fpir=fpir, limit=100)
    assert len(found) == size
    for candidate in found:
        assert candidate.fmr == fmr
        assert candidate.gallery_size == size
        assert candidate.fpir == pytest.approx(1 - (1 - fmr) ** size)
        assert candidate.fpir <= fpir * (1 + 1e-9)
        assert candidate.threshold == next(p.threshold for p in POINTS if p.fmr == fmr)


def test_an_fpir_below_the_calibration_is_refused_with_the_gallery_size() -> None:
    verifier = make_verifier()
    with pytest.raises(
        vk.CalibrationError, match=r"gallery of 1 subjects requires FMR 1e-07.*30000000"
    ):
        verifier.identify(RED, fpir=1e-7)


@pytest.mark.parametrize("other", [{"fmr": 1e-2}, {"threshold": 0.5}])
def test_fpir_with_another_limit_is_refused(other: dict[str, float]) -> None:
    with pytest.raises(vk.InputError, match="give one of them"):
        make_verifier().identify(RED, fpir=1e-2, **other)


@pytest.mark.parametrize("fpir", [0.0, 1.0, -0.1, math.nan, True, "low"])
def test_an_invalid_fpir_is_refused(fpir: Any) -> None:
    with pytest.raises(vk.InputError, match="fpir"):
        make_verifier().identify(RED, fpir=fpir)


def test_fpir_overrides_the_limit_of_the_verifier_and_keeps_its_attack() -> None:
    for options in ({"fmr": 1e-1}, {"threshold": 0.1}, {"policy": POLICY}):
        assert make_verifier(**options).identify(RED, fpir=1e-2)[0].threshold == 0.90
    verifier = make_verifier(fmr=1e-2, attack="random_forgery")
    assert verifier.identify(RED, fpir=1e-2)[0].attack == "random_forgery"


def test_a_search_of_an_empty_gallery_finds_no_subject() -> None:
    assert vk.Verifier(encoder(SPEC)).identify(RED, fpir=1e-2) == []
