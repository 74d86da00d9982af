"""The OpenAPI document tells the truth about what is answered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.server.conftest import OwnService
from tests.unit.server.running import files

VERBS = {
    ("put", "/v1/subjects/{subject_id}"),
    ("get", "/v1/subjects/{subject_id}"),
    ("delete", "/v1/subjects/{subject_id}"),
    ("get", "/v1/subjects"),
    ("post", "/v1/subjects/{subject_id}/verify"),
    ("post", "/v1/compare"),
    ("post", "/v1/identify"),
    ("post", "/v1/inspect"),
    ("get", "/v1/models"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
}


@pytest.fixture(scope="module")
def document(service: Any) -> dict[str, Any]:
    answer = service.client.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def _operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_verb_is_described(document: dict[str, Any]) -> None:
    operations = _operations(document)
    assert operations.keys() == VERBS
    for operation in operations.values():
        assert operation["description"].endswith(".")
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)


def test_the_models_that_are_served_can_be_asked_for(document: dict[str, Any]) -> None:
    for operation in _operations(document).values():
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "model":
                assert parameter["schema"] == {"type": "string", "enum": ["face", "signature"]}
                assert not parameter["required"]


def test_bodies_are_multipart_or_json(document: dict[str, Any]) -> None:
    for (method, _), operation in _operations(document).items():
        assert ("requestBody" in operation) == (method in ("put", "post"))
        if "requestBody" in operation:
            kinds = operation["requestBody"]["content"].keys()
            assert kinds == {"multipart/form-data", "application/json"}


def test_every_error_is_a_problem_of_its_own_media_type(document: dict[str, Any]) -> None:
    for (method, path), operation in _operations(document).items():
        for status, response in operation["responses"].items():
            wanted = "application/problem+json" if int(status) >= 400 else "application/json"
            if path == "/metrics" and status == "200":
                wanted = "text/plain"
            if path == "/readyz" and status == "503":
                wanted = "application/json"
            assert list(response["content"]) == [wanted], (method, path, status)
            assert response["content"][wanted]["schema"], (method, path, status)
        secured = path not in ("/healthz", "/readyz")
        assert ("security" in operation) == secured


def test_answers_have_the_keys_that_are_described(
    own_service: OwnService, document: dict[str, Any], pictures: dict[str, bytes]
) -> None:
    one, other = pictures["person_a_1"], pictures["person_a_2"]
    with own_service(with_signatures=False) as found:
        client = found.client

        def keys(method: str, path: str, answer: httpx.Response) -> None:
            responses = _operations(document)[method, path]["responses"]
            content = responses[str(answer.status_code)]["content"]
            reference = next(iter(content.values()))["schema"]["$ref"]
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
            assert answer.json().keys() == schema["properties"].keys(), (method, path)

        subject, verify = "/v1/subjects/{subject_id}", "/v1/subjects/{subject_id}/verify"
        keys("put", subject, client.put("/v1/subjects/a", files=files(image=one)))
        keys("put", subject, client.put("/v1/subjects/a", files=files(image=one)))
        keys("get", subject, client.get("/v1/subjects/a"))
        keys("get", "/v1/subjects", client.get("/v1/subjects"))
        keys("post", verify, client.post("/v1/subjects/a/verify", files=files(image=other)))
        both = files(probe=one, reference=other)
        keys("post", "/v1/compare", client.post("/v1/compare", files=both))
        for path in ("/v1/identify", "/v1/inspect"):
            keys("post", path, client.post(path, files=files(image=other)))
        for path in ("/v1/models", "/healthz", "/readyz"):
            keys("get", path, client.get(path))
        keys("delete", subject, client.delete("/v1/subjects/a"))
