"""Thresholds for other people: requested by name, stated by decisions, kept in files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image
from tests.helpers.model_specs import plain_spec
from tests.unit.test_calibration import MINE
from verifykit.models import calibration_digest, render_card
from verifykit.spec import BandRate, Evidence, ModelSpec, OperatingPoint, Population

RED, ORANGE = solid_image(255, 0, 0), solid_image(255, 90, 0)
ANY = Population(
    name="any",
    description="staff and visitors",
    operating_points=(OperatingPoint(1e-2, 0.9, 400, 3, fmr_interval=(0, 0.02), fnmr=0.3),),
    usual_fnmr=(0.1,),
    default_fmr=1e-2,
    default_attack="random_forgery",
    bands=(BandRate("age <18", 1e-2, 20, 400, 0.05, (0.03, 0.08), 0.01, (0.002, 0.02)),),
    bands_data="other people",
    notes=("age >=90 is left out: 2 people",),
)
SPEC = plain_spec(
    fusion="mean",
    operating_points=(OperatingPoint(1e-2, 0.5, 400, 4),),
    evidence=(Evidence("random_forgery", 1, 10.0, -5.0, 0.2, 40, 400),),
    default_fmr=1e-2,
    population="staff",
    populations=(ANY,),
)


def test_a_verifier_decides_by_the_thresholds_of_the_population() -> None:
    usual = vk.Verifier(encoder(SPEC)).compare(RED, ORANGE)
    assert (usual.threshold, usual.population, usual.match) == (0.5, "staff", True)
    verifier = vk.Verifier(encoder(SPEC), population="any")
    found = verifier.compare(RED, RED)
    assert (found.threshold, found.fmr, found.population) == (0.9, 1e-2, "staff and visitors")
    assert found.llr is None
    assert found.score_fmr == 1e-2
    assert found.to_dict()["population"] == "staff and visitors"
    assert verifier.spec.digest == SPEC.digest
    verifier.enroll("red", [RED])
    assert verifier.verify("red", RED).threshold == 0.9
    assert verifier.identify(RED)[0].threshold == 0.9


def test_a_gallery_stays_valid_under_every_population(tmp_path: Path) -> None:
    vk.Verifier(encoder(SPEC), gallery=tmp_path / "g.db").enroll("red", [RED])
    verifier = vk.Verifier(encoder(SPEC), gallery=tmp_path / "g.db", population="any")
    assert verifier.verify("red", RED).threshold == 0.9


@pytest.mark.parametrize(("spec", "known"), [(SPEC, "'any'"), (plain_spec(), "none")])
def test_an_unknown_population_is_an_error_that_lists_the_known_ones(
    spec: ModelSpec, known: str
) -> None:
    with pytest.raises(vk.CalibrationError, match=f"population 'children'; it has: {known}"):
        vk.Verifier(encoder(spec), population="children")


def test_the_population_is_that_of_the_calibration_if_there_is_one() -> None:
    mine = replace(MINE, spec_digest=SPEC.digest)
    with pytest.raises(vk.CalibrationError, match="it has: none"):
        vk.Verifier(encoder(SPEC), calibration=mine, population="any")
    other = replace(ANY, description="mine")
    verifier = vk.Verifier(
        encoder(SPEC), calibration=replace(mine, populations=(other,)), population="any"
    )
    assert verifier.compare(RED, RED).population == "mine"


def test_files_hold_populations_and_older_ones_have_none() -> None:
    assert ModelSpec.from_json(SPEC.to_json()) == SPEC
    calibration = replace(MINE, populations=(ANY,))
    assert vk.Calibration.from_json(calibration.to_json()) == calibration
    old = json.loads(SPEC.to_json())
    del old["populations"]
    old["schema"] = 4
    assert ModelSpec.from_json(json.dumps(old)) == replace(SPEC, populations=())
    with pytest.raises(vk.ModelContractError, match="populations is not of schema 4"):
        ModelSpec.from_json(json.dumps({**json.loads(SPEC.to_json()), "schema": 4}))
    older = json.loads(MINE.to_json())
    del older["populations"]
    older["verifykit_calibration"] = 2
    assert vk.Calibration.from_json(json.dumps(older)) == MINE


def test_digests_change_only_where_there_is_a_population() -> None:
    without = replace(SPEC, populations=())
    assert SPEC.digest == without.digest
    assert calibration_digest(SPEC) != calibration_digest(without)
    # That of version 0.1, which knew of no populations.
    assert calibration_digest(without) == (
        "06719140b758a4bb0186e2b2d14fccf75760b587dcc992d4e698989181d7c512"
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": " "}, "a name"),
        ({"operating_points": (), "usual_fnmr": ()}, "an operating point"),
        ({"usual_fnmr": (0.1, 0.2)}, "2 values for 1 operating points"),
    ],
)
def test_an_incomplete_population_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(vk.ModelContractError, match=named):
        replace(ANY, **changes)  # type: ignore[arg-type]


def test_the_card_shows_thresholds_price_and_bands() -> None:
    card = render_card(SPEC)
    assert '## Population "any"' in card
    assert '`population="any"` or `--population any`' in card
    assert (
        "| random_forgery | 1 | 0.01 (default) | 0 to 0.02 | 0.9000 | 3 | 400 | 30.00% | 10.00% |"
        in card
    )
    assert "| age <18 | 20 | 400 | 0.01 | 0.05 | 0.03 to 0.08 | 0.01 | 0.002 to 0.02 |" in card
    assert "- age >=90 is left out: 2 people" in card
    assert "## Population" not in render_card(replace(SPEC, populations=()))
