"""Verification and comparison over HTTP give the library's decisions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from PIL import Image as PilImage

from tests.unit.server.conftest import OwnService
from tests.unit.server.running import Running, b64, files, problem
from verifykit.audit import read_log
from verifykit.types import Decision


def _of_library(answer: httpx.Response, decision: Decision, service: Running) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    spec = service.service.model(None).verifier.spec
    assert (body.pop("model"), body.pop("model_digest")) == ("face", spec.digest)
    wanted = decision.to_dict()
    assert body.keys() == wanted.keys()
    assert body["score"] == pytest.approx(wanted["score"], abs=1e-5)
    assert [body[key] for key in ("match", "threshold", "fmr", "detections")] == [
        wanted[key] for key in ("match", "threshold", "fmr", "detections")
    ]
    return body


def test_the_same_person_matches_and_another_does_not(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(image=pictures["person_a_1"])
    client.put("/v1/subjects/vera", files=sent).raise_for_status()
    verifier, path = service.service.model(None).verifier, "/v1/subjects/vera/verify"
    for name, match in (("person_a_2", True), ("person_b_1", False)):
        answer = client.post(path, files=files(image=pictures[name]))
        body = _of_library(answer, verifier.verify("vera", pictures[name]), service)
        assert body["match"] is match


def test_json_and_multipart_decide_alike(client: httpx.Client, pictures: dict[str, bytes]) -> None:
    probe, reference = pictures["person_a_1"], pictures["person_a_2"]
    multi = client.post("/v1/compare", files=files(probe=probe, reference=reference))
    json = client.post("/v1/compare", json={"probe": b64(probe), "reference": b64(reference)})
    assert multi.json().keys() == json.json().keys()
    assert multi.json()["score"] == pytest.approx(json.json()["score"], abs=1e-6)


def test_compare_is_the_librarys_compare(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    pair = (pictures["person_b_1"], pictures["impostor_1"])
    answer = client.post("/v1/compare", files=files(probe=pair[0], reference=pair[1]))
    decision = service.service.model(None).verifier.compare(*pair)
    assert _of_library(answer, decision, service)["match"] is False


def test_options_of_the_query_decide(client: httpx.Client, pictures: dict[str, bytes]) -> None:
    sent = files(probe=pictures["person_a_1"], reference=pictures["person_b_1"])
    assert client.post("/v1/compare", files=sent).json()["match"] is False
    loose = client.post("/v1/compare", files=sent, params={"threshold": -1}).json()
    assert (loose["match"], loose["threshold"], loose["fmr"]) == (True, -1.0, None)
    rate = client.post("/v1/compare", files=sent, params={"fmr": 0.01}).json()
    assert rate["fmr"] == 0.01


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("fmr=0.01&threshold=0.3", "invalid_value"),
        ("fmr=0", "invalid_value"),
        ("fmr=nan", "invalid_value"),
        ("threshold=1.1", "invalid_value"),
        ("attack=strong", "invalid_value"),
        ("multi_face=some", "invalid_value"),
        ("fmrr=0.1", "invalid_value"),
        ("fmr=1e-12", "not_calibrated"),
        ("fmr=5e-324", "not_calibrated"),
        ("attack=skilled_forgery", "not_calibrated"),
    ],
)
def test_an_option_that_is_not_possible_is_422(
    client: httpx.Client, pictures: dict[str, bytes], query: str, code: str
) -> None:
    sent = files(probe=pictures["person_a_1"], reference=pictures["person_a_2"])
    problem(client.post(f"/v1/compare?{query}", files=sent), 422, code)


def test_an_unknown_model_and_an_unknown_subject_are_404(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(image=pictures["person_a_1"])
    problem(client.post("/v1/subjects/nobody/verify", files=sent), 404, "subject_not_found")
    answer = client.post("/v1/subjects/nobody/verify?model=gait", files=sent)
    problem(answer, 404, "unknown_model")


def test_decisions_are_in_the_audit_log(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(image=pictures["impostor_2"])
    client.put("/v1/subjects/audited", files=sent).raise_for_status()
    decision = client.post("/v1/subjects/audited/verify", files=sent).json()
    problem(client.post("/v1/subjects/audited/verify", files=files(image=b"x")), 422, "unreadable")
    entries = [e for e in read_log(service.service.audit.path) if e.subject_id == "audited"]
    assert [(e.verb, e.decision, e.reason) for e in entries[1:]] == [
        ("verify", "match", None),
        ("verify", "refused", "unreadable"),
    ]
    assert (entries[1].score, entries[1].threshold) == (decision["score"], decision["threshold"])


def test_after_so_many_failures_of_a_subject_nobody_is_compared_with_it(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(failed_verifications=2, with_signatures=False) as found:
        for subject in ("one", "two"):
            found.client.put(
                f"/v1/subjects/{subject}", files=files(image=pictures["person_a_1"])
            ).raise_for_status()
        wrong = files(image=pictures["person_b_1"])
        for _ in range(2):
            answer = found.client.post("/v1/subjects/one/verify", files=wrong)
            assert answer.json()["match"] is False
        right = files(image=pictures["person_a_1"])
        answer = found.client.post("/v1/subjects/one/verify", files=right)
        problem(answer, 429, "too_many_failed_verifications")
        assert 800 < int(answer.headers["retry-after"]) <= 900
        assert found.client.post("/v1/subjects/two/verify", files=right).json()["match"] is True


def test_a_threshold_in_the_request_hides_no_failure(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(failed_verifications=2, with_signatures=False) as found:
        sent = files(image=pictures["person_a_1"])
        found.client.put("/v1/subjects/one", files=sent).raise_for_status()
        wrong = files(image=pictures["person_b_1"])
        for _ in range(2):
            answer = found.client.post("/v1/subjects/one/verify?threshold=-1", files=wrong)
            assert answer.json()["match"] is True
        answer = found.client.post("/v1/subjects/one/verify?threshold=-1", files=wrong)
        problem(answer, 429, "too_many_failed_verifications")


def test_the_rate_of_the_settings_is_the_usual_one(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(fmr=0.01, with_signatures=False) as found:
        sent = files(probe=pictures["person_a_1"], reference=pictures["person_a_2"])
        assert found.client.post("/v1/compare", files=sent).json()["fmr"] == 0.01
        answer = found.client.post("/v1/identify", files=files(image=pictures["person_a_1"]))
        assert answer.json()["faces"][0]["fmr"] == 0.01


def test_the_operator_refuses_turned_faces_and_a_request_may_turn_them(
    own_service: OwnService, pictures: Mapping[str, bytes]
) -> None:
    file = io.BytesIO()
    opened = PilImage.open(io.BytesIO(pictures["person_a_1"]))
    opened.transpose(PilImage.Transpose.ROTATE_180).save(file, "PNG")
    sent = {"probe": file.getvalue(), "reference": pictures["person_a_2"]}
    with own_service(turned="error") as service:
        refused = service.client.post("/v1/compare", files=sent)
        assert (refused.status_code, refused.json()["code"]) == (422, "turned")
        turned = service.client.post("/v1/compare?turned=upright", files=sent)
        assert turned.json()["match"] is True


def _box(answer: httpx.Response, number: int = 0) -> str:
    return ",".join(map(str, answer.json()["detections"][number]["box_px"]))


def test_a_face_may_be_given_for_each_image(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(probe=pictures["person_a_1"], reference=pictures["person_a_2"])
    found = client.post("/v1/compare", files=sent)
    points = found.json()["detections"][1]["landmarks_px"]
    flat = ",".join(str(value) for point in points for value in point)
    given = client.post("/v1/compare", files=sent, params={"face": ["-", flat]})
    assert given.status_code == 200, given.text
    assert given.json()["score"] == pytest.approx(found.json()["score"], abs=1e-5)
    assert given.json()["warnings"] == ["not_detected"]
    assert [each["score"] is None for each in given.json()["detections"]] == [False, True]

    client.put("/v1/subjects/given", files=files(image=pictures["person_a_1"])).raise_for_status()
    path, one = "/v1/subjects/given/verify", files(image=pictures["person_a_2"])
    near = client.post(path, files=one, params={"face": _box(found, 1)})
    assert near.json()["match"] is True
    assert near.json()["warnings"] == []
    problem(client.post(path, files=one, params={"face": "0,0,9,9"}), 422, "no_face")
    for wrong in ("0,0,9", "x", "0,0,0,0", "90000,0,9,9"):
        problem(client.post(path, files=one, params={"face": wrong}), 422, "invalid_value")
    problem(client.post("/v1/compare", files=sent, params={"face": "-"}), 422, "invalid_value")
    many = {"face": [_box(found, 1)] * 65}
    problem(client.post(path, files=one, params=many), 422, "invalid_value")


def test_a_face_may_be_given_for_an_enrolment_and_a_search(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(image=pictures["person_b_1"])
    pair = files(probe=pictures["person_b_1"], reference=pictures["person_b_2"])
    found = client.post("/v1/compare", files=pair)
    answer = client.put("/v1/subjects/boxed", files=sent, params={"face": _box(found)})
    assert answer.status_code == 201, answer.text
    probe = files(image=pictures["person_b_2"])
    (face,) = client.post(
        "/v1/identify", files=probe, params={"face": _box(found, 1), "limit": 100}
    ).json()["faces"]
    # Other tests enrol the same person.
    assert "boxed" in {each["subject_id"] for each in face["candidates"]}
    assert face["detection"]["score"] > 0.5
    problem(client.post("/v1/identify", files=probe, params={"face": "1,2"}), 422, "invalid_value")
