"""Look-alikes: enrolled subjects who nearly reach the threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.drift_scores import calibrated_spec, filled, unit_rows
from tests.helpers.fake_encoder import encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.decision import DecisionOptions
from verifykit.enrollment import MOST_LOOK_ALIKES, look_alikes_of
from verifykit.gallery.duplicates import DuplicatePair, LookAlikes, count_look_alikes
from verifykit.scoring import subject_score
from verifykit.spec import OperatingPoint
from verifykit.types import Template

SPEC = calibrated_spec()


def _near(options: DecisionOptions, spec: vk.ModelSpec = SPEC) -> float | None:
    return options.margin_threshold(spec, DecisionOptions())


def test_the_margin_is_the_threshold_of_ten_times_the_rate() -> None:
    def at(fmr: float) -> float:
        return SPEC.operating_point(fmr).threshold

    assert _near(DecisionOptions()) == at(1e-3)
    assert _near(DecisionOptions(fmr=1e-5)) == at(1e-4)
    assert _near(DecisionOptions(threshold=at(1e-3))) == at(1e-2)
    # Between two points the stricter one holds, and no rate is above the highest.
    assert _near(DecisionOptions(fmr=5e-2)) == at(1e-1)
    assert _near(DecisionOptions(threshold=-1.0)) == at(1e-1)


def test_a_model_that_is_not_calibrated_for_random_forgeries_has_no_margin() -> None:
    skilled = OperatingPoint(1e-2, 0.2, 3_000_000, 30_000, "skilled_forgery")
    spec = plain_spec(operating_points=(skilled,), default_attack="skilled_forgery")
    assert _near(DecisionOptions(fmr=1e-2), spec) is None
    assert _near(DecisionOptions(threshold=0.3), plain_spec(operating_points=())) is None


def test_one_search_gives_the_warnings_and_the_number() -> None:
    gallery, asked = filled(SPEC, 300), []
    templates = [Template(row, SPEC.digest) for row in unit_rows(2, seed=9)]
    threshold, near = 0.265, 0.1

    def search(
        probes: np.ndarray,
        limit: int,
        least: float,  # type: ignore[type-arg]
    ) -> list[list[vk.Candidate]]:
        asked.append((limit, least))
        return gallery.search(probes, limit, least)

    warnings, count = look_alikes_of(search, "0001", templates, threshold, near)
    assert asked == [(MOST_LOOK_ALIKES + 1, near)]
    scores = {
        subject_id: max(
            subject_score(t.embedding, [gallery.get(subject_id).templates[0].embedding], "mean")
            for t in templates
        )
        for subject_id in gallery.subject_ids()
        if subject_id != "0001"
    }
    assert count == sum(score >= near for score in scores.values())
    assert count > 10
    assert len(warnings) == sum(score >= threshold for score in scores.values()) > 0
    assert look_alikes_of(search, "0001", templates, threshold, None) == (warnings, None)
    assert asked[-1] == (2, threshold)


def test_more_than_a_hundred_are_not_counted() -> None:
    gallery, (row,) = filled(SPEC, 300), unit_rows(1, seed=9)
    found = look_alikes_of(gallery.search, "x", [Template(row, SPEC.digest)], 0.9, -1.0)
    assert found == ([], MOST_LOOK_ALIKES)


def test_an_enrollment_counts_them_before_it_is_stored() -> None:
    points = (
        OperatingPoint(1e-2, 0.2, 3_000_000, 30_000),
        OperatingPoint(1e-3, 0.4, 3_000_000, 3000),
        OperatingPoint(1e-4, 0.9, 3_000_000, 300),
    )
    verifier = vk.Verifier(encoder(plain_spec(operating_points=points)))
    images = {"red": (255, 0, 0), "amber": (255, 190, 0), "green": (0, 255, 0)}
    counts = {name: verifier.enroll(name, solid_image(*color)) for name, color in images.items()}
    assert {name: report.look_alikes for name, report in counts.items()} == {
        "red": 0,
        "amber": 1,
        "green": 1,
    }
    assert not any(report.warnings for report in counts.values())
    # Its own earlier images are no look-alikes.
    assert verifier.enroll("red", solid_image(254, 1, 0)).look_alikes == 1
    off = verifier.enroll("red", solid_image(254, 2, 0), look_alikes=False)
    assert off.look_alikes is None
    assert off.to_dict()["look_alikes"] is None


def test_a_model_without_thresholds_counts_none() -> None:
    spec = plain_spec(operating_points=(), default_fmr=None)
    assert vk.Verifier(encoder(spec)).enroll("a", solid_image(1, 2, 3)).look_alikes is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], []),
        (
            [DuplicatePair("a", "b", 0.5), DuplicatePair("b", "c", 0.4)],
            [
                LookAlikes("b", 2, "a", 0.5),
                LookAlikes("a", 1, "b", 0.5),
                LookAlikes("c", 1, "b", 0.4),
            ],
        ),
    ],
)
def test_pairs_are_counted_by_subject(
    pairs: Sequence[DuplicatePair], expected: list[LookAlikes]
) -> None:
    assert count_look_alikes(pairs) == expected
    assert [set(each.to_dict()) for each in expected] == [
        {"subject_id", "count", "nearest_id", "score"}
    ] * len(expected)
