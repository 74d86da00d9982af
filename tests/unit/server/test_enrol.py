"""Enrolment over HTTP: pictures in, a report out, and the subject in the gallery."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.unit.server.running import Running, b64, files, problem
from verifykit.audit import read_log


def test_a_new_subject_is_201_with_the_librarys_report(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    answer = client.put(
        "/v1/subjects/anna",
        files=files(image=[pictures["person_a_1"], pictures["person_a_2"]]),
        data={"metadata": json.dumps({"team": "blue"})},
    )
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    report = answer.json()
    assert report["accepted"] == ["image 1", "image 2"]
    assert (report["subject_id"], report["template_count"]) == ("anna", 2)
    stored = service.service.model(None).verifier.gallery.get("anna")
    assert (len(stored.templates), stored.metadata) == (2, {"team": "blue"})


def test_json_stores_the_same_as_multipart(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    picture = pictures["person_b_1"]
    client.put("/v1/subjects/multi", files=files(image=picture)).raise_for_status()
    body = {"images": [b64(picture)], "metadata": {"team": "red"}}
    assert client.put("/v1/subjects/json", json=body).status_code == 201
    gallery = service.service.model(None).verifier.gallery
    one, other = gallery.get("multi").templates[0], gallery.get("json").templates[0]
    assert one.embedding.tolist() == other.embedding.tolist()
    assert gallery.get("json").metadata == {"team": "red"}


def test_an_enrolled_subject_is_409_and_untouched_unless_pictures_are_appended(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    path, one = "/v1/subjects/twice", files(image=pictures["person_a_1"])
    assert client.put(path, files=one).status_code == 201
    problem(client.put(path, files=one), 409, "subject_exists")
    assert len(service.service.model(None).verifier.gallery.get("twice").templates) == 1
    answer = client.put(path, files=one, params={"on_existing": "append"})
    assert (answer.status_code, answer.json()["template_count"]) == (200, 2)


def test_pictures_that_cannot_be_used_are_named_beside_those_that_were_taken(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(image=[pictures["person_a_1"], b"no picture"])
    report = client.put("/v1/subjects/mixed", files=sent).json()
    assert report["accepted"] == ["image 1"]
    assert [(each["image"], each["reason"]) for each in report["refused"]] == [
        ("image 2", "unreadable")
    ]


def test_what_was_refused_is_in_the_audit_log_and_not_in_the_gallery(
    service: Running, client: httpx.Client
) -> None:
    problem(client.put("/v1/subjects/ghost", files=files(image=b"x")), 422, "unreadable")
    problem(client.get("/v1/subjects/ghost"), 404, "subject_not_found")
    entries = [e for e in read_log(service.service.audit.path) if e.subject_id == "ghost"]
    assert [(e.verb, e.decision, e.reason) for e in entries] == [
        ("enroll", "refused", "unreadable")
    ]


def test_an_enrolment_is_in_the_audit_log(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent = files(image=pictures["person_a_1"])
    client.put("/v1/subjects/logged", files=sent).raise_for_status()
    (entry,) = [e for e in read_log(service.service.audit.path) if e.subject_id == "logged"]
    assert (entry.verb, entry.decision, entry.key_id) == ("enroll", "enrolled", None)
    assert entry.model_digest == service.service.model(None).verifier.spec.digest


@pytest.mark.parametrize(
    "subject_id", ["a/b", "a/verify", "../../etc/passwd", "ä €", "100%", "a?b#c", "%2F", "+"]
)
def test_any_subject_id_is_one_segment(
    client: httpx.Client, pictures: dict[str, bytes], subject_id: str
) -> None:
    segment = "".join(f"%{byte:02X}" for byte in subject_id.encode())
    path = f"/v1/subjects/{segment}"
    answer = client.put(path, files=files(image=pictures["person_a_1"]))
    assert answer.json()["subject_id"] == subject_id
    assert client.get(path).json()["subject_id"] == subject_id
    verified = client.post(f"{path}/verify", files=files(image=pictures["person_a_2"]))
    assert verified.json()["subject_id"] == subject_id
    assert client.delete(path).json()["removed_templates"] == 1


@pytest.mark.parametrize("segment", ["%00", "%FF", "%20", "%E2%80%AE", "x" * 256, "y" * 766])
def test_a_subject_id_that_the_library_refuses_is_422(
    client: httpx.Client, pictures: dict[str, bytes], segment: str
) -> None:
    sent = files(image=pictures["person_a_1"])
    problem(client.put(f"/v1/subjects/{segment}", files=sent), 422, "invalid_value")


def test_the_same_idempotency_key_enrols_once_whatever_the_boundary(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    sent, key = files(image=pictures["person_a_1"]), {"Idempotency-Key": "once"}
    first = client.put("/v1/subjects/idem", files=sent, headers=key)
    again = client.put("/v1/subjects/idem", files=sent, headers=key)
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(service.service.model(None).verifier.gallery.get("idem").templates) == 1


def test_an_idempotency_key_is_not_taken_for_another_request(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    key = {"Idempotency-Key": "taken"}
    one, other = files(image=pictures["person_a_1"]), files(image=pictures["person_b_1"])
    assert client.put("/v1/subjects/idem-1", files=one, headers=key).status_code == 201
    for path, sent in (("idem-1", other), ("idem-2", one), ("idem-1?quality=warn", one)):
        answer = client.put(f"/v1/subjects/{path}", files=sent, headers=key)
        problem(answer, 422, "idempotency_key_reused")


def test_an_enrolment_that_failed_can_be_sent_again_under_its_key(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    key, sent = {"Idempotency-Key": "retry"}, files(image=pictures["impostor_1"])
    assert client.put("/v1/subjects/retried", files=sent).status_code == 201
    problem(client.put("/v1/subjects/retried", files=sent, headers=key), 409, "subject_exists")
    client.delete("/v1/subjects/retried").raise_for_status()
    assert client.put("/v1/subjects/retried", files=sent, headers=key).status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_has_its_length(
    client: httpx.Client, pictures: dict[str, bytes], key: str
) -> None:
    sent = files(image=pictures["person_a_1"])
    answer = client.put("/v1/subjects/long", files=sent, headers={"Idempotency-Key": key})
    problem(answer, 422, "invalid_value")
