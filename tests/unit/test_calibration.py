"""Calibration files: bound to a model, and replacing its operating points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.models import calibration_digest
from verifykit.spec import Evidence, OperatingPoint

RED = solid_image(255, 0, 0)
SPEC = plain_spec(fusion="mean")
MINE = vk.Calibration(
    model="test-plain",
    spec_digest=SPEC.digest,
    fusion="mean",
    operating_points=(
        OperatingPoint(
            1e-2, 0.5, 400, 4, fmr_interval=(0.001, 0.02), fnmr=0.1, fnmr_interval=(0, 0.2)
        ),
    ),
    evidence=(Evidence("random_forgery", 1, 10.0, -5.0, 0.2, 40, 400),),
    default_fmr=1e-2,
    default_attack="random_forgery",
    data="staff",
    data_digest="f" * 64,
    subject_count=10,
    image_count=40,
    failures=(("no_face", 2),),
    multi_face="error",
    quality="strict",
    created="2026-11-25T20:00:00+00:00",
    verifykit_version="0.1.0",
)


def test_json_gives_the_same_calibration_and_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(MINE.to_json(), encoding="utf-8")
    again = vk.Calibration.read(path)
    assert again == MINE
    assert again.to_json() == MINE.to_json()


def test_a_calibration_replaces_the_points_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(MINE.to_json(), encoding="utf-8")
    for given in (MINE, path, str(path)):
        verifier = vk.Verifier(encoder(SPEC), calibration=given)
        decision = verifier.compare(RED, RED)
        assert (decision.threshold, decision.fmr) == (0.5, 1e-2)
        assert decision.llr == 5.0
        assert verifier.spec.digest == SPEC.digest
        assert (
            "staff: 40 images of 10 subjects, 2 more" in verifier.spec.provenance.calibration_data
        )
        with pytest.raises(vk.CalibrationError, match=r"FMR 0\.0001 requires at least 30000"):
            verifier.compare(RED, RED, fmr=1e-4)
    assert calibration_digest(MINE.apply(SPEC)) != calibration_digest(SPEC)


def test_decisions_state_the_population_of_their_rate() -> None:
    verifier = vk.Verifier(encoder(SPEC), calibration=replace(MINE, population="staff by day"))
    assert verifier.compare(RED, RED).population == "staff by day"
    assert verifier.compare(RED, RED).to_dict()["population"] == "staff by day"
    assert verifier.compare(RED, RED, threshold=0.5).population is None
    assert vk.Verifier(encoder(SPEC), calibration=MINE).compare(RED, RED).population is None


def test_a_calibration_of_format_1_states_no_population() -> None:
    body = {**json.loads(MINE.to_json()), "verifykit_calibration": 1}
    del body["population"]
    assert vk.Calibration.from_json(json.dumps(body)) == MINE


def test_a_gallery_stays_valid_under_another_calibration(tmp_path: Path) -> None:
    vk.Verifier(encoder(SPEC), gallery=tmp_path / "g.db").enroll("red", [RED])
    verifier = vk.Verifier(encoder(SPEC), gallery=tmp_path / "g.db", calibration=MINE)
    assert verifier.verify("red", RED).threshold == 0.5


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"spec_digest": "0" * 64}, "not of"), ({"fusion": "max"}, "fusion 'max'")],
)
def test_another_models_calibration_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(vk.CalibrationError, match=named):
        vk.Verifier(encoder(SPEC), calibration=replace(MINE, **changes))


def _changed(**changes: Any) -> str:
    return json.dumps({**json.loads(MINE.to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a calibration"),
        ("{}", "is not a calibration"),
        (_changed(verifykit_calibration=4), "format 4"),
        (_changed(verifykit_calibration=1, cohort={"rows_base64": ""}), "calibrate again"),
        (_changed(colour=1), "unknown key.* colour"),
        (_changed(operating_points=[{"fmr": 1e-2}]), r"operating_points\[0\]"),
        (_changed(evidence=None), "evidence"),
    ],
)
def test_a_file_that_is_not_a_calibration_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(vk.CalibrationError, match=named) as error:
        vk.Verifier(encoder(SPEC), calibration=path)
    assert "broken.json" in str(error.value)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vk.CalibrationError, match="No such file"):
        vk.Calibration.read(tmp_path / "none.json")
    (tmp_path / "picture.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(vk.CalibrationError, match="not text"):
        vk.Calibration.read(tmp_path / "picture.json")


def test_a_point_with_too_few_comparisons_is_refused() -> None:
    body = json.loads(MINE.to_json())
    body["operating_points"][0]["fmr"] = 1e-3
    with pytest.raises(vk.CalibrationError, match="requires 3000"):
        vk.Calibration.from_json(json.dumps(body))
