"""What decides when nothing is asked for."""

from __future__ import annotations

import pytest

from tests.helpers.model_specs import plain_spec
from verifykit.evaluation.calibrate import default_rate
from verifykit.spec import Attack, OperatingPoint

RANDOM: Attack = "random_forgery"
SKILLED: Attack = "skilled_forgery"


def points(
    random: list[float], skilled: list[float] | None = None, count: int = 1
) -> list[OperatingPoint]:
    rates = [(fmr, RANDOM) for fmr in random] + [(fmr, SKILLED) for fmr in skilled or []]
    return [OperatingPoint(fmr, 0.5, 10**8, 1, attack, count) for fmr, attack in rates]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (points([]), (None, RANDOM)),
        (points([1e-1]), (None, RANDOM)),
        (points([1e-1, 1e-2]), (1e-2, RANDOM)),
        (points([1e-2, 5e-3, 2e-3]), (2e-3, RANDOM)),
        (points([1e-2, 1e-3, 1e-4]), (1e-3, RANDOM)),
        (points([1e-4, 1e-5]), (None, RANDOM)),
        (points([1e-2], [1e-1]), (None, SKILLED)),
        (points([1e-3], [1e-2]), (1e-2, SKILLED)),
        (points([1e-3], [1e-1, 5e-2, 1e-2]), (5e-2, SKILLED)),
    ],
)
def test_the_default_is_never_lenient(
    found: list[OperatingPoint], expected: tuple[float | None, Attack]
) -> None:
    assert default_rate(found) == expected
    assert default_rate(found[::-1]) == expected
    # A model without a default says nothing about it.
    assert default_rate(found, plain_spec(default_fmr=None, operating_points=())) == expected


def test_the_default_is_a_rate_that_a_single_reference_reaches() -> None:
    several = points([1e-3], [1e-2, 5e-2], count=3)
    assert default_rate([*several, *points([1e-1, 1e-2])]) == (5e-2, SKILLED)
    assert default_rate([*points([1e-3], count=3), *points([1e-1, 1e-2])]) == (1e-2, RANDOM)
    # Where no single reference was measured, the fewest decide.
    assert default_rate([*points([1e-3], count=3), *points([1e-2], count=2)]) == (1e-2, RANDOM)


@pytest.mark.parametrize(
    ("default", "found", "expected"),
    [
        ((1e-4, RANDOM), points([1e-2, 1e-3, 1e-4]), (1e-4, RANDOM)),
        ((1e-4, RANDOM), points([1e-2, 1e-4], [1e-1, 5e-2]), (1e-4, RANDOM)),
        ((3e-4, RANDOM), points([1e-3, 1e-4]), (3e-4, RANDOM)),
        # Too few comparisons for it: the lowest that is usual.
        ((1e-4, RANDOM), points([1e-2, 1e-3]), (1e-3, RANDOM)),
        ((1e-4, RANDOM), points([1e-1]), (None, RANDOM)),
        ((5e-2, SKILLED), points([1e-3], [1e-1, 5e-2, 1e-2]), (5e-2, SKILLED)),
        ((2e-2, SKILLED), points([1e-3], [1e-1, 5e-2]), (5e-2, SKILLED)),
        ((5e-2, SKILLED), points([1e-3], [1e-1]), (None, SKILLED)),
        # Strangers say nothing about forgers.
        ((5e-2, SKILLED), points([1e-2, 1e-3]), (None, SKILLED)),
        # A single reference does not go down to it.
        ((1e-4, RANDOM), points([1e-2]) + points([1e-4], count=5), (1e-2, RANDOM)),
    ],
)
def test_a_models_own_default_goes_first(
    default: tuple[float, Attack],
    found: list[OperatingPoint],
    expected: tuple[float | None, Attack],
) -> None:
    fmr, attack = default
    spec = plain_spec(default_fmr=fmr, default_attack=attack)
    assert default_rate(found, spec) == expected
