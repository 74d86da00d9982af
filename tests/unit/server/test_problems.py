"""Every error of the library has its status and code, and no internal one tells anything."""

from __future__ import annotations

import errno
import json
import re
import sqlite3
from pathlib import Path

import httpx
import pytest
from psycopg.errors import DiskFull

import verifykit as vk
from tests.unit.server.conftest import OwnService
from tests.unit.server.running import files, problem
from verifykit.errors import AuditError
from verifykit.modalities import reason_hints
from verifykit.server.errors import CODES, ProblemError, as_problem, hint_for, kind_of
from verifykit.verifier import Verifier

CHECKOUT = Path(__file__).parents[3]


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (vk.AcquisitionError("two", reason="several_faces"), 422, "several_faces"),
        (vk.AcquisitionError("new", reason="never_heard_of"), 422, "never_heard_of"),
        (vk.ImageError("damaged"), 422, "unreadable"),
        (vk.InputError("limit"), 422, "invalid_value"),
        (vk.CalibrationError("1e-12"), 422, "not_calibrated"),
        (vk.SubjectNotFoundError("secret"), 404, "subject_not_found"),
        (vk.SubjectExistsError("secret"), 409, "subject_exists"),
        (vk.TemplateMismatchError("another"), 409, "model_mismatch"),
        (vk.GalleryLockedError("secret"), 503, "gallery_unavailable"),
        (vk.GalleryError("secret"), 503, "gallery_unavailable"),
        (AuditError("secret"), 503, "audit_unavailable"),
        (OSError(errno.ENOSPC, "secret"), 507, "storage_full"),
        (_caused(vk.GalleryError("secret"), OSError(errno.EDQUOT, "x")), 507, "storage_full"),
        (
            _caused(
                vk.GalleryError("secret"), sqlite3.OperationalError("database or disk is full")
            ),
            507,
            "storage_full",
        ),
        (
            _caused(vk.GalleryError("secret"), DiskFull("could not extend file")),
            507,
            "storage_full",
        ),
        (_caused(AuditError("secret"), OSError(errno.ENOSPC, "x")), 507, "storage_full"),
        (vk.ModelContractError("secret"), 500, "internal"),
        (vk.ProviderError("secret"), 500, "internal"),
        (ValueError("secret"), 500, "internal"),
        (OSError(errno.EIO, "secret"), 500, "internal"),
    ],
)
def test_an_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    found = as_problem(error)
    assert (found.status, found.code) == (status, code)
    body = json.loads(bytes(found.response("id-1").body))
    assert (body["status"], body["code"], body["request_id"]) == (status, code, "id-1")
    assert "secret" not in json.dumps(body)
    assert ("Retry-After" in found.headers) == (status == 503)


def test_a_problem_stays_what_it_is() -> None:
    mine = ProblemError("queue_full", "three", retry_s=0.2)
    assert as_problem(mine) is mine
    assert mine.headers == {"Retry-After": "1"}


def test_every_reason_code_of_the_library_has_a_hint_of_its_own() -> None:
    text = (CHECKOUT / "docs/reference/errors.md").read_text(encoding="utf-8")
    section = text.partition("## Reason codes")[2]
    reasons = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)
    assert len(reasons) >= 12
    for reason in reasons:
        assert kind_of(reason).status == 422, reason
        assert hint_for(reason) == reason_hints()[reason]


def test_hints_are_sentences() -> None:
    for code, kind in CODES.items():
        assert re.fullmatch(r"[a-z_]+", code)
        assert kind.hint[0].isupper()
        assert kind.hint.endswith(".")
        assert 400 <= kind.status < 600


def test_an_error_that_nobody_expected_is_500_and_stays_secret(
    own_service: OwnService, pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*_: object, **__: object) -> object:
        raise RuntimeError("secret")

    with own_service(with_signatures=False) as found:
        monkeypatch.setattr(Verifier, "compare", compare)
        sent = files(probe=pictures["person_a_1"], reference=pictures["person_a_2"])
        answer = found.client.post("/v1/compare", files=sent, headers={"X-Request-Id": "mine"})
        body = problem(answer, 500, "internal")
        assert "secret" not in answer.text
        assert body["request_id"] == "mine"
        assert "content-security-policy" in answer.headers


def test_an_address_and_a_method_that_are_not_there(client: httpx.Client) -> None:
    problem(client.get("/v2/subjects"), 404, "not_found")
    problem(client.get("/v1/subjects/"), 404, "not_found")
    problem(client.get("/static/nothing.js"), 404, "not_found")
    answer = client.post("/v1/subjects/a")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, PUT"
    assert client.delete("/v1/subjects").headers["allow"] == "GET"
