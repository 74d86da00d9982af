"""Two rates with a zone between them, a rate for a whole gallery, and what a decision says of its score."""

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


def verifier(**options: Any) -> vk.Verifier:
    made = vk.Verifier(encoder(SPEC), **options)
    made.enroll("red", [RED])
    return made


def probes() -> list[tuple[float, Any]]:
    """Pictures of a falling likeness to red, with their scores."""
    made = verifier()
    shades = [solid_image(255, green, 0) for green in range(0, 256, 5)]
    return [(made.verify("red", shade).score, shade) for shade in shades]


def test_a_policy_accepts_reviews_and_refuses() -> None:
    made, seen = verifier(policy=POLICY), set()
    for score, shade in probes():
        for decision in (
            made.verify("red", shade),
            verifier().verify("red", shade, policy=POLICY),
            made.compare(RED, shade),
        ):
            wanted = "accept" if score >= 0.98 else "review" if score >= 0.90 else "refuse"
            assert decision.outcome == wanted
            assert bool(decision) == decision.match == (wanted == "accept")
            assert (decision.threshold, decision.fmr) == (0.98, 1e-4)
            assert (decision.review_threshold, decision.review_fmr) == (0.90, 1e-2)
            assert decision.to_dict()["outcome"] == wanted
        seen.add(wanted)
    assert seen == {"accept", "review", "refuse"}


def test_without_a_policy_nothing_is_reviewed() -> None:
    for score, shade in probes():
        decision = verifier().verify("red", shade)
        assert decision.outcome == ("accept" if score >= 0.90 else "refuse")
        assert decision.review_threshold is None
        assert decision.review_fmr is None


def test_one_call_goes_over_what_holds_for_all() -> None:
    made = verifier(policy=POLICY)
    assert made.verify("red", RED, fmr=1e-6).threshold == 0.999
    assert made.verify("red", RED, fmr=1e-6).review_fmr is None
    assert made.verify("red", RED, threshold=0.5).fmr is None
    assert verifier(fmr=1e-6).verify("red", RED, policy=POLICY).threshold == 0.98
    assert verifier(threshold=0.1).verify("red", RED, policy=POLICY).threshold == 0.98


def test_a_search_decides_by_what_the_policy_accepts() -> None:
    assert {c.threshold for c in verifier(policy=POLICY).identify(RED)} == {0.98}


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
def test_rates_that_make_no_policy(rates: tuple[Any, Any], named: str) -> None:
    with pytest.raises(vk.InputError, match=named):
        vk.Policy(*rates)


@pytest.mark.parametrize("beside", [{"fmr": 1e-2}, {"threshold": 0.5}])
def test_a_policy_beside_another_limit_is_refused(beside: dict[str, float]) -> None:
    with pytest.raises(vk.InputError, match="give one of them"):
        verifier(policy=POLICY, **beside)
    with pytest.raises(vk.InputError, match="give one of them"):
        verifier().verify("red", RED, policy=POLICY, **beside)


def test_something_else_is_no_policy() -> None:
    with pytest.raises(vk.InputError, match=r"must be a verifykit\.Policy"):
        verifier(policy=(1e-4, 1e-2))


def test_a_policy_below_the_data_is_refused_at_once() -> None:
    with pytest.raises(vk.CalibrationError, match="30000000"):
        verifier(policy=vk.Policy(1e-7, 1e-2))


def test_a_decision_says_how_far_its_score_was_from_the_limit() -> None:
    for score, shade in probes():
        for options in ({}, {"fmr": 1e-4}, {"threshold": 0.5}):
            decision = verifier().verify("red", shade, **options)
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
    made = vk.Verifier(encoder(SPEC))
    for number in range(size):
        made.enroll(f"{number}", [RED])
    found = made.identify(RED, fpir=fpir, limit=100)
    assert len(found) == size
    for candidate in found:
        assert candidate.fmr == fmr
        assert candidate.gallery_size == size
        assert candidate.fpir == pytest.approx(1 - (1 - fmr) ** size)
        assert candidate.fpir <= fpir * (1 + 1e-9)
        assert candidate.threshold == next(p.threshold for p in POINTS if p.fmr == fmr)


def test_fpir_beyond_the_data_names_the_gallery_and_the_pairs_needed() -> None:
    made = verifier()
    with pytest.raises(
        vk.CalibrationError, match=r"gallery of 1 subjects requires FMR 1e-07.*30000000"
    ):
        made.identify(RED, fpir=1e-7)


@pytest.mark.parametrize("beside", [{"fmr": 1e-2}, {"threshold": 0.5}])
def test_fpir_beside_another_limit_is_refused(beside: dict[str, float]) -> None:
    with pytest.raises(vk.InputError, match="give one of them"):
        verifier().identify(RED, fpir=1e-2, **beside)


@pytest.mark.parametrize("fpir", [0.0, 1.0, -0.1, math.nan, True, "low"])
def test_what_is_no_fpir(fpir: Any) -> None:
    with pytest.raises(vk.InputError, match="fpir"):
        verifier().identify(RED, fpir=fpir)


def test_fpir_goes_over_the_verifiers_own_limit_and_keeps_its_attack() -> None:
    for options in ({"fmr": 1e-1}, {"threshold": 0.1}, {"policy": POLICY}):
        assert verifier(**options).identify(RED, fpir=1e-2)[0].threshold == 0.90
    made = verifier(fmr=1e-2, attack="random_forgery")
    assert made.identify(RED, fpir=1e-2)[0].attack == "random_forgery"


def test_nobody_is_found_in_an_empty_gallery() -> None:
    assert vk.Verifier(encoder(SPEC)).identify(RED, fpir=1e-2) == []
