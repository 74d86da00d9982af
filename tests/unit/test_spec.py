from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.model_specs import (
    DETECTOR,
    FACE_CROP,
    FACE_INPUT,
    POINTS,
    face_spec,
    older_json,
    plain_spec,
    signature_spec,
)
from verifykit.errors import CalibrationError, ModelContractError
from verifykit.models import calibration_digest
from verifykit.spec import Attack, InputSpec, ModelSpec, OperatingPoint


@pytest.mark.parametrize(
    "spec", [face_spec(), plain_spec(), signature_spec(), face_spec(default_fmr=None)]
)
def test_json_round_trip(spec: ModelSpec) -> None:
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    assert again.digest == spec.digest
    assert again.to_json() == spec.to_json()


@given(
    scale=st.floats(1e-6, 10.0),
    mean=st.tuples(*[st.floats(-300, 300)] * 3),
    std=st.tuples(*[st.floats(0.01, 300)] * 3),
)
def test_every_float_survives_json(
    scale: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    spec = face_spec(input=replace(FACE_INPUT, scale=scale, mean=mean, std=std))
    assert ModelSpec.from_json(spec.to_json()).digest == spec.digest


@pytest.mark.parametrize("points", [POINTS, ()])
@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_specification_of_an_older_schema_is_read(
    schema: int, points: tuple[OperatingPoint, ...]
) -> None:
    spec = face_spec(operating_points=points)
    old = ModelSpec.from_json(older_json(spec, schema))
    assert old == spec
    assert (old.digest, calibration_digest(old)) == (spec.digest, calibration_digest(spec))


def test_later_keys_are_refused_in_an_older_schema() -> None:
    body = json.loads(older_json(face_spec(), 2))
    body["operating_points"][0]["fnmr"] = 0.5
    with pytest.raises(ModelContractError, match="fnmr is not of schema 2"):
        ModelSpec.from_json(json.dumps(body))


def test_an_int_written_for_a_float_gives_the_same_digest() -> None:
    assert face_spec(input=replace(FACE_INPUT, scale=1)).digest == face_spec().digest


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": "c" * 64},
        {"input": replace(FACE_INPUT, color="bgr")},
        {"input": replace(FACE_INPUT, mirror=True)},
        {"crop": replace(FACE_CROP, detector=replace(DETECTOR, score_threshold=0.9))},
    ],
)
def test_digest_changes_with_weights_input_and_crop(changes: dict[str, object]) -> None:
    assert face_spec(**changes).digest != face_spec().digest


def test_digest_does_not_change_with_calibration() -> None:
    recalibrated = face_spec(operating_points=POINTS[:1], default_fmr=1e-2, fusion="mean")
    assert recalibrated.digest == face_spec().digest


def _broken(**changes: object) -> str:
    body = json.loads(face_spec().to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = body
        for parent in parents:
            target = target[int(parent) if parent.isdigit() else parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return json.dumps(body)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        (_broken(schema=6), "schema 6"),
        (_broken(schema=2), "fmr_interval is not of schema 2"),
        (_broken(schema=2, operating_points=[]), "evidence is not of schema 2"),
        (_broken(schema=2, operating_points=[], evidence=None), "cohort is not of schema 2"),
        (_broken(schema=3), "population is not of schema 3"),
        (_broken(schema=None), "schema None"),
        (_broken(schema=1), "reference_count is not of schema 1"),
        (_broken(colour="rgb"), "unknown key(s) colour"),
        (_broken(licence=None), "missing key(s) licence"),
        (_broken(licence=" "), "licence is empty"),
        (_broken(input__color="hsv"), "spec.input.color"),
        (_broken(input__height_px="112"), "spec.input.height_px"),
        (_broken(input__height_px=True), "spec.input.height_px"),
        (_broken(input__mean=[0.0]), "mean has 1"),
        (_broken(input__std=[0.0, 1.0, 1.0]), "std not zero"),
        (_broken(crop__kind="magic"), "unknown kind 'magic'"),
        (_broken(crop__landmarks_px=[[1.0, 2.0]]), "five landmarks"),
        (_broken(crop__landmarks_px=[[1.0]] * 5), "landmarks_px[0]"),
        (_broken(crop__detector__long_sides_px=[]), "long_sides_px is empty"),
        (_broken(crop__height_px=96), "crop is 96x112"),
        (_broken(embedding_size=5), "embedding_size is 5"),
        (_broken(operating_points=[{"fmr": 0.1}]), "operating_points[0]"),
        (
            _broken(
                schema=1,
                operating_points=[{"fmr": 0.1}],
                evidence=None,
                cohort=None,
                population=None,
                populations=None,
            ),
            "operating_points[0]",
        ),
        (
            _broken(
                schema=1,
                operating_points=[7],
                evidence=None,
                cohort=None,
                population=None,
                populations=None,
            ),
            "operating_points[0]",
        ),
        (
            _broken(
                schema=1,
                operating_points=7,
                evidence=None,
                cohort=None,
                population=None,
                populations=None,
            ),
            "operating_points",
        ),
        (_broken(operating_points__0__reference_count=None), "missing key(s) reference_count"),
        (_broken(operating_points__0__reference_count=0), "reference_count must be at least 1"),
    ],
)
def test_a_broken_specification_is_refused_and_the_key_is_named(text: str, named: str) -> None:
    with pytest.raises(ModelContractError) as error:
        ModelSpec.from_json(text)
    assert named in str(error.value)


def test_an_operating_point_requires_three_over_fmr_comparisons() -> None:
    OperatingPoint(1e-6, 0.5, 3_000_000, 3)
    with pytest.raises(ModelContractError, match="3000000 non-mated"):
        OperatingPoint(1e-6, 0.5, 2_999_999, 3)
    with pytest.raises(ModelContractError, match="fmr must be in"):
        OperatingPoint(0.0, 0.5, 10, 0)


@pytest.mark.parametrize(
    ("requested", "found"), [(None, 1e-4), (1e-4, 1e-4), (0.5, 1e-2), (5e-3, 1e-4), (1e-6, 1e-6)]
)
def test_the_rate_of_the_point_is_not_above_the_requested_one(
    requested: float | None, found: float
) -> None:
    assert face_spec().operating_point(requested).fmr == found


def test_calibration_errors_name_the_required_comparisons() -> None:
    with pytest.raises(
        CalibrationError, match=r"down to FMR 1e-06.*FMR 1e-07 requires at least 3000000"
    ):
        face_spec().operating_point(1e-7)
    with pytest.raises(CalibrationError, match="not calibrated for attack 'skilled_forgery'"):
        face_spec().operating_point(1e-2, "skilled_forgery")
    with pytest.raises(CalibrationError, match="no default"):
        face_spec(default_fmr=None).operating_point()
    with pytest.raises(ValueError, match="fmr must be in"):
        face_spec().operating_point(0.0)


# Thresholds fall with the references; many references are calibrated less far down than single pairs.
COUNTED = tuple(
    OperatingPoint(fmr, 0.9 - 0.1 * k - fmr, 10**6, 1, attack, count)
    for attack, table in (
        ("random_forgery", {1: (1e-1, 1e-2, 1e-3, 1e-4), 5: (1e-1, 1e-3)}),
        ("skilled_forgery", {1: (1e-1, 5e-2, 1e-2), 3: (5e-2, 1e-2), 5: (1e-1, 5e-2), 10: (1e-1,)}),
    )
    for k, (count, fmrs) in enumerate(table.items())
    for fmr in fmrs
)


@pytest.mark.parametrize("attack", ["random_forgery", "skilled_forgery"])
@pytest.mark.parametrize("references", [*range(1, 13), 100])
@pytest.mark.parametrize("fmr", [0.5, 1e-1, 7e-2, 5e-2, 2e-2, 1e-2, 5e-3, 1e-3, 1e-4, 1e-5])
def test_the_most_references_that_reach_the_rate_decide(
    attack: Attack, references: int, fmr: float
) -> None:
    expected = None
    for point in COUNTED:
        if point.attack == attack and point.reference_count <= references and point.fmr <= fmr:
            best = (expected.reference_count, expected.fmr) if expected else (0, 0.0)
            if (point.reference_count, point.fmr) > best:
                expected = point
    spec = face_spec(operating_points=COUNTED, fusion="mean")
    if expected is None:
        with pytest.raises(CalibrationError, match="is calibrated down to FMR"):
            spec.operating_point(fmr, attack, references)
    else:
        assert spec.operating_point(fmr, attack, references) == expected


def test_points_of_more_references_than_there_are_do_not_decide() -> None:
    several = tuple(replace(point, reference_count=3) for point in POINTS)
    spec = face_spec(operating_points=several)
    assert spec.operating_point(references=4).reference_count == 3
    with pytest.raises(CalibrationError, match="with 3 references and more, not with 2: "):
        spec.operating_point(references=2)
    with pytest.raises(ValueError, match="references must be at least 1, got 0"):
        spec.operating_point(references=0)


def test_the_default_rate_is_one_of_the_default_attack() -> None:
    spec = face_spec(operating_points=COUNTED, default_fmr=5e-2, default_attack="skilled_forgery")
    assert spec.operating_point(references=4).fmr == 5e-2
    assert spec.operating_point(references=4).reference_count == 3
    assert spec.operating_point(1e-3, "random_forgery").fmr == 1e-3
    with pytest.raises(CalibrationError, match="no default false match rate for attack 'random_"):
        spec.operating_point(attack="random_forgery")


def test_grey_input_has_one_channel() -> None:
    assert InputSpec(28, 28, "grey", 1 / 255, (0.5,), (0.5,)).channels == 1
