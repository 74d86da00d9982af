"""Responses: validated when they are created, with everything in them."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from pydantic import ValidationError

from verifykit.server.schemas import (
    DecisionResponse,
    EnrolmentResponse,
    IdentifyResponse,
    encode,
)
from verifykit.types import Candidate, Decision, Detection, EnrollmentReport, Identification

BOX = Detection((1.0, 2.0, 3.0, 4.0), ((0.0, 0.0),) * 5, 0.9)
DECISION = Decision(match=True, score=0.5, threshold=0.4, fmr=None, detections=(BOX,))


def _decided(decision: Decision) -> DecisionResponse:
    return DecisionResponse(**vars(decision), model="face", model_digest="d1")


def _found(**changes: Any) -> IdentifyResponse:
    candidate = replace(Candidate("a", 0.5, 0.4), **changes)
    face = Identification(BOX, (), (candidate,), 0.4, None)
    return IdentifyResponse(faces=(face,), model="face", model_digest="d1")


def test_a_decision_is_answered_as_the_library_gives_it() -> None:
    body = json.loads(encode(_decided(DECISION)))
    assert body == {**DECISION.to_dict(), "model": "face", "model_digest": "d1"}


def test_an_enrolment_has_the_fields_of_the_report() -> None:
    assert [f.name for f in fields(EnrolmentResponse)] == [f.name for f in fields(EnrollmentReport)]


def test_half_a_surrogate_pair_in_metadata_is_answered() -> None:
    body = json.loads(encode(_found(metadata={"\ud800": "\udfff"})))
    assert body["faces"][0]["candidates"][0]["metadata"] == {"\ud800": "\udfff"}


@pytest.mark.parametrize("changes", [{"score": math.nan}, {"score": "high"}, {"warnings": 3}])
def test_what_the_schema_does_not_allow_is_refused_at_any_depth(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="candidates"):
        _found(**changes)


def test_a_number_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        _decided(replace(DECISION, score=math.inf))
    with pytest.raises(ValueError, match="JSON"):
        encode(_found(metadata={"a": math.nan}))
