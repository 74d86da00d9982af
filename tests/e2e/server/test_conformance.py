"""schemathesis: whatever is asked, the answer is as the OpenAPI document says, and never a 500."""

from __future__ import annotations

import copy
import gc
import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if importlib.util.find_spec("schemathesis") is None:
    pytest.skip("needs the extra fuzz", allow_module_level=True)

import requests
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.unit.server.running import Running, b64, files, running
from verifykit.server import ServerSettings

LIST = "/v1/subjects"
PEOPLE = ("person_a_1", "person_a_2", "person_b_1")
VERBS = {
    ("PUT", "/v1/subjects/{subject_id}"): {200, 201, 409, 422},
    ("GET", "/v1/subjects/{subject_id}"): {200, 404, 422},
    ("DELETE", "/v1/subjects/{subject_id}"): {200, 404, 422},
    ("GET", LIST): {200, 404, 422},
    ("POST", "/v1/subjects/{subject_id}/verify"): {200, 404, 422},
    ("POST", "/v1/compare"): {200, 422},
    ("POST", "/v1/identify"): {200, 422},
    ("POST", "/v1/inspect"): {200, 422},
    ("GET", "/v1/models"): {200},
    ("GET", "/healthz"): {200},
    ("GET", "/readyz"): {200},
    ("GET", "/metrics"): {200},
}
"""Every operation, and the answers that must have been seen when all examples were tried."""

# A picture of the right kind may show nobody, and a subject may be enrolled already: 422 and 409 are right.
NOT_HERE = [positive_data_acceptance]


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """A collection while hypothesis parses a lambda can be a SystemError in early versions of Python 3.11."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def service(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = ServerSettings(
        str(tmp_path_factory.mktemp("conformance") / "staff.db"),
        failed_verifications=0,
        max_images=3,
    )
    load_all_checks()
    with running(settings) as found:
        yield found


@pytest.fixture(scope="module")
def document(service: Running) -> dict[str, Any]:
    """The service's own, and stricter: no key that is described may be missing in an answer.

    Without API keys: the service is open, and other tests are about those.
    """
    described: dict[str, Any] = service.client.get("/openapi.json").json()
    for operations in described["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    for answer in described["components"]["schemas"].values():
        answer["required"] = list(answer.get("properties", ()))
    return described


def test_every_operation_is_tried(document: dict[str, Any]) -> None:
    described = {(m.upper(), path) for path, found in document["paths"].items() for m in found}
    assert described == set(VERBS)


@pytest.mark.parametrize("examples", [12, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "path"), VERBS)
def test_answers_are_as_they_are_described(
    service: Running,
    document: dict[str, Any],
    pictures: dict[str, bytes],
    method: str,
    path: str,
    examples: int,
) -> None:
    operation = schemathesis.openapi.from_dict(document)[path][method]
    chosen = {name: pictures[name] for name in PEOPLE}
    service.client.put("/v1/subjects/somebody", files=files(image=chosen["person_a_1"]))
    seen: Counter[int] = Counter()
    with requests.Session() as session:
        session.trust_env = False

        def ask(case: Case) -> None:
            answer = case.call(base_url=str(service.client.base_url), session=session)
            seen[answer.status_code] += 1
            case.validate_response(answer, excluded_checks=NOT_HERE)

        meant_well = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        _try(ask, st.builds(_with_people, meant_well, _people(chosen)), 3 * examples)
        _try(ask, meant_well, examples)
        if "parameters" in operation.definition.raw or "requestBody" in operation.definition.raw:
            _try(ask, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), examples)
    assert VERBS[method, path] <= set(seen), seen


def test_an_answer_that_is_not_described_is_found(
    service: Running, document: dict[str, Any]
) -> None:
    """The checks can fail: the service is described otherwise than it answers."""
    wrong = copy.deepcopy(document)
    models, listed = (wrong["paths"][path]["get"]["responses"] for path in ("/v1/models", LIST))
    del models["200"]
    listed["200"]["content"]["application/json"]["schema"] = {"type": "array"}
    schema = schemathesis.openapi.from_dict(wrong)
    for path, said in (("/v1/models", "Undocumented status code"), (LIST, "violates schema")):
        case = schema[path]["GET"].Case()
        answer = case.call(base_url=str(service.client.base_url))
        with pytest.raises(FailureGroup, match=said):
            case.validate_response(answer, excluded_checks=NOT_HERE)


def _try(ask: Any, cases: st.SearchStrategy[Case], examples: int) -> None:
    everything = settings(
        max_examples=examples, database=None, suppress_health_check=list(HealthCheck)
    )
    everything(given(cases)(ask))()


def _people(pictures: Mapping[str, bytes]) -> st.SearchStrategy[tuple[bytes, bytes, str, bool]]:
    """Two pictures, a subject's name, and whether the question is to be plain."""
    picture = st.sampled_from(sorted(pictures)).map(pictures.__getitem__)
    names = st.sampled_from(["somebody", "somebody", "anybody", "%2E%2E%2Fetc"])
    return st.tuples(picture, picture, names, st.booleans())


def _with_people(case: Case, people: tuple[bytes, bytes, str, bool]) -> Case:
    """With real faces in the body and a likely name in the path, to get beyond decoding."""
    one, other, name, is_plain = people
    if "subject_id" in (case.path_parameters or {}):
        case.path_parameters["subject_id"] = name
    if is_plain:
        case.query = {"on_existing": "append"} if case.method == "PUT" else {}
    if isinstance(case.body, dict):
        encode = b64 if case.media_type == "application/json" else bytes
        parts = {"image": one, "probe": one, "reference": other}
        if case.method == "PUT":
            parts = {"image": [one], "images": [one, other]}
            case.body.pop("metadata", None)
        for key in case.body:
            value = parts[key]
            case.body[key] = (
                [encode(each) for each in value] if isinstance(value, list) else encode(value)
            )
    return case
