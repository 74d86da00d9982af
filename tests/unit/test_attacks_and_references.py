"""The applied threshold, by attack and by number of references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.batch import identify_batch
from verifykit.decision import DecisionOptions, DecisionRule
from verifykit.spec import OperatingPoint

POINTS = (
    OperatingPoint(1e-1, 0.30, 10**6, 1, "random_forgery"),
    OperatingPoint(1e-3, 0.50, 10**6, 1, "random_forgery"),
    OperatingPoint(1e-3, 0.40, 10**6, 1, "random_forgery", 3),
    OperatingPoint(5e-2, 0.95, 10**6, 1, "skilled_forgery"),
    OperatingPoint(1e-2, 0.98, 10**6, 1, "skilled_forgery"),
    OperatingPoint(5e-2, 0.90, 10**6, 1, "skilled_forgery", 3),
    OperatingPoint(5e-2, 0.85, 10**6, 1, "skilled_forgery", 5),
)
SPEC = plain_spec(
    operating_points=POINTS, default_fmr=5e-2, default_attack="skilled_forgery", fusion="mean"
)
REDS = [solid_image(255, 10 * number, 0) for number in range(12)]


def make_verifier(**options: Any) -> vk.Verifier:
    verifier = vk.Verifier(encoder(SPEC), **options)
    for count in (1, 2, 3, 4, 5, 12):
        verifier.enroll(f"{count}", REDS[:count])
    return verifier


@pytest.mark.parametrize(
    ("count", "threshold"), [(1, 0.95), (2, 0.95), (3, 0.90), (4, 0.90), (5, 0.85), (12, 0.85)]
)
def test_verify_decides_by_the_number_of_references(count: int, threshold: float) -> None:
    decision = make_verifier().verify(f"{count}", solid_image(200, 50, 50))
    assert decision.threshold == threshold
    assert (decision.fmr, decision.attack) == (5e-2, "skilled_forgery")
    assert decision.reference_count == count
    assert decision.to_dict()["reference_count"] == count
    assert decision.match == (decision.score >= threshold)


def test_a_rate_not_calibrated_for_many_references_uses_fewer() -> None:
    decision = make_verifier().verify("5", solid_image(200, 50, 50), fmr=1e-2)
    assert (decision.threshold, decision.fmr, decision.reference_count) == (0.98, 1e-2, 5)


def test_the_threshold_follows_the_number_of_references() -> None:
    verifier = vk.Verifier(encoder(SPEC))
    for number, expected in enumerate((0.95, 0.95, 0.90, 0.90, 0.85), start=1):
        verifier.enroll("a", REDS[number - 1])
        assert verifier.verify("a", solid_image(255, 0, 0)).threshold == expected


def test_compare_and_identify_decide_as_for_one_reference() -> None:
    verifier = make_verifier()
    decision = verifier.compare(solid_image(255, 0, 0), solid_image(255, 9, 0))
    assert (decision.threshold, decision.reference_count) == (0.95, 1)
    found = verifier.identify(solid_image(255, 40, 0), limit=9)
    assert len(found) == 6
    assert {(c.threshold, c.fmr, c.attack) for c in found} == {(0.95, 5e-2, "skilled_forgery")}
    assert found[0].to_dict()["attack"] == "skilled_forgery"
    # Whom verify accepts by the threshold of many references, identify may not name.
    probe = solid_image(255, 180, 0)
    assert 0.85 < verifier.verify("12", probe).score < 0.95
    assert verifier.verify("12", probe)
    assert verifier.identify(probe) == []


@pytest.mark.parametrize(
    ("usual", "call", "threshold", "fmr", "attack"),
    [
        ({}, {}, 0.90, 5e-2, "skilled_forgery"),
        ({}, {"attack": "skilled_forgery"}, 0.90, 5e-2, "skilled_forgery"),
        ({}, {"fmr": 1e-3, "attack": "random_forgery"}, 0.40, 1e-3, "random_forgery"),
        ({"attack": "random_forgery", "fmr": 1e-3}, {}, 0.40, 1e-3, "random_forgery"),
        ({"attack": "random_forgery", "fmr": 1e-3}, {"fmr": 1e-1}, 0.40, 1e-3, "random_forgery"),
        ({"fmr": 1e-1}, {"attack": "random_forgery"}, 0.40, 1e-3, "random_forgery"),
        ({"fmr": 1e-2}, {"attack": "skilled_forgery"}, 0.98, 1e-2, "skilled_forgery"),
        ({"threshold": 0.2}, {}, 0.2, None, None),
        ({"threshold": 0.2}, {"attack": "skilled_forgery"}, 0.90, 5e-2, "skilled_forgery"),
        ({"attack": "random_forgery", "fmr": 1e-3}, {"threshold": 0.2}, 0.2, None, None),
    ],
)
def test_a_call_overrides_the_verifier(
    usual: dict[str, Any],
    call: dict[str, Any],
    threshold: float,
    fmr: float | None,
    attack: str | None,
) -> None:
    decision = make_verifier(**usual).verify("3", solid_image(255, 0, 0), **call)
    assert (decision.threshold, decision.fmr, decision.attack) == (threshold, fmr, attack)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"attack": "mimicry"}, vk.InputError, "random_forgery, skilled_forgery, got 'mimicry'"),
        ({"attack": ""}, vk.InputError, "got ''"),
        ({"attack": 1}, vk.InputError, "got 1"),
        ({"attack": "skilled_forgery", "threshold": 0.4}, vk.InputError, "attack=skilled_forgery"),
        ({"attack": "skilled_forgery", "fmr": 1e-4}, vk.CalibrationError, "down to FMR 0.01"),
        ({"attack": "random_forgery"}, vk.CalibrationError, "no default.*'random_forgery'"),
    ],
)
def test_contradicting_options_are_refused_by_every_method(
    options: dict[str, Any], error: type[Exception], told: str
) -> None:
    verifier = make_verifier()
    with pytest.raises(error, match=told):
        vk.Verifier(encoder(SPEC), **options)
    for verb in (
        lambda: verifier.verify("3", solid_image(1, 2, 3), **options),
        lambda: verifier.compare(solid_image(1, 2, 3), solid_image(1, 2, 3), **options),
        lambda: verifier.identify(solid_image(1, 2, 3), **options),
        lambda: verifier.enroll("d", solid_image(1, 2, 3), **options),
        lambda: identify_batch(verifier, ".", "never", **options),
    ):
        with pytest.raises(error, match=told):
            verb()


def test_likeness_at_enrollment_uses_the_threshold_of_single_pairs() -> None:
    verifier = vk.Verifier(encoder(SPEC))
    verifier.enroll("a", REDS[:5])
    odd = solid_image(255, 180, 0)  # like the five enough to be verified, not like each of them
    assert verifier.verify("a", odd)
    (warning,) = verifier.enroll("a", odd).warnings
    assert "threshold 0.950" in warning
    verifier = vk.Verifier(encoder(SPEC))
    verifier.enroll("a", REDS[:5])
    assert verifier.enroll("a", odd, fmr=1e-1, attack="random_forgery").warnings == ()


def test_a_model_that_is_calibrated_for_several_references_only() -> None:
    several = tuple(point for point in POINTS if point.reference_count > 1)
    verifier = vk.Verifier(encoder(plain_spec(operating_points=several)), fmr=1e-3)
    assert (
        verifier.enroll("a", [REDS[0], solid_image(0, 0, 255)]).warnings == ()
    )  # nothing to judge it by
    with pytest.raises(vk.CalibrationError, match="with 3 references and more, not with 2"):
        verifier.verify("a", REDS[0])
    with pytest.raises(vk.CalibrationError, match="not with 1"):
        verifier.compare(REDS[0], REDS[1])
    verifier.enroll("a", REDS[1])
    assert verifier.verify("a", REDS[0]).threshold == 0.40


def test_rule_and_options_agree() -> None:
    for references in (1, 3, 7):
        requested = DecisionOptions(fmr=1e-3, attack="random_forgery").rule(SPEC, references)
        assert requested == DecisionRule.from_calibration(
            SPEC, 1e-3, None, "random_forgery", references=references
        )
        points = [p for p in POINTS if p.attack == "random_forgery" and p.fmr == 1e-3]
        expected = [p for p in points if p.reference_count <= references][-1]
        assert requested.threshold == expected.threshold
    assert np.isclose(DecisionRule.from_calibration(SPEC, None, 0.25).threshold, 0.25)


SPREAD = plain_spec(
    operating_points=(
        *POINTS,
        OperatingPoint(5e-2, 0.97, 10**6, 1, "skilled_forgery", 9),
    ),
    default_fmr=5e-2,
    default_attack="skilled_forgery",
    fusion="spread",
)


def test_other_fusions_do_not_use_points_of_fewer_references() -> None:
    verifier = vk.Verifier(encoder(SPREAD))
    verifier.enroll("5", REDS[:5])
    verifier.enroll("12", REDS)
    assert verifier.verify("5", REDS[0]).threshold == 0.85
    assert verifier.verify("12", REDS[0]).threshold == 0.97
    with pytest.raises(vk.CalibrationError, match=r"down to FMR 0.05 .*with 5 reference"):
        verifier.verify("5", REDS[0], fmr=1e-2)
    assert verifier.compare(REDS[0], REDS[1], fmr=1e-2).threshold == 0.98
    # A rate that one number of references can answer is no mistake of the verifier's.
    assert vk.Verifier(encoder(SPREAD), fmr=1e-2).compare(REDS[0], REDS[1]).fmr == 1e-2


def test_identify_takes_the_strictest_of_all_numbers_of_references() -> None:
    for spec, threshold in ((SPEC, 0.95), (SPREAD, 0.97)):
        verifier = vk.Verifier(encoder(spec))
        verifier.enroll("1", REDS[0])
        assert {found.threshold for found in verifier.identify(REDS[0])} == {threshold}
