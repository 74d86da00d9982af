"""Bodies of requests: what is taken, and what each mistake is called."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image as PilImage

from tests.unit.server.running import b64, files, problem
from verifykit.server.errors import ProblemError
from verifykit.server.uploads import Upload

PATH = "/v1/subjects/uploader"


@pytest.mark.parametrize("kind", ["image/jpeg", "text/plain", "application/xml", ""])
def test_another_media_type_is_415(client: httpx.Client, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    problem(client.put(PATH, content=b"x", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_request"),
        (b"{", "bad_request"),
        (b"\xff\xfe\xfd", "bad_request"),
        (b'{"images": [NaN]}', "bad_request"),
        (b"[" * 100_000, "bad_request"),
        (b"[]", "invalid_value"),
        (b'"images"', "invalid_value"),
        (b"{}", "invalid_value"),
        (b'{"images": []}', "invalid_value"),
        (b'{"images": "eA=="}', "invalid_value"),
        (b'{"images": [1]}', "invalid_value"),
        (b'{"images": ["%%"]}', "invalid_value"),
        (b'{"images": ["\xc3\xa4"]}', "invalid_value"),
        (b'{"images": ["eA=="], "metadata": [1]}', "invalid_value"),
        (b'{"images": ["eA=="], "name": "a"}', "invalid_value"),
        (b'{"images": ["eA==", "eA==", "eA==", "eA=="]}', "too_many_images"),
        (b'{"images": ["eA=="]}', "unreadable"),
    ],
)
def test_a_json_body_that_is_wrong(client: httpx.Client, body: bytes, code: str) -> None:
    answer = client.put(PATH, content=body, headers={"Content-Type": "application/json"})
    problem(answer, 400 if code == "bad_request" else 422, code)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"files": files(picture=b"x")}, "invalid_value"),
        ({"files": files(image=[b"x"] * 4)}, "too_many_images"),
        ({"files": files(image=b"x"), "data": {"metadata": "{"}}, "bad_request"),
        ({"files": files(image=b"x"), "data": {"metadata": "[1]"}}, "invalid_value"),
        ({"files": files(image=b"x"), "data": {"metadata": ["{}", "{}"]}}, "invalid_value"),
        ({"files": files(image=b"x"), "data": {"team": "blue"}}, "invalid_value"),
        ({"files": files(metadata=b"{}"), "data": {"image": "text"}}, "invalid_value"),
        ({"files": files(image=b"")}, "unreadable"),
    ],
)
def test_a_multipart_body_that_is_wrong(
    client: httpx.Client, sent: dict[str, Any], code: str
) -> None:
    problem(client.put(PATH, **sent), 400 if code == "bad_request" else 422, code)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b"no boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nnameless\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
        ),
        ("multipart/form-data; boundary=b; charset=nothing", b"--b\r\n"),
    ],
)
def test_multipart_that_is_malformed_is_400_or_holds_no_picture(
    client: httpx.Client, kind: str, body: bytes
) -> None:
    answer = client.put(PATH, content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code, answer.json()["code"])
    assert answer.json()["code"] in ("bad_request", "invalid_value")


def test_verification_takes_one_picture(client: httpx.Client, pictures: dict[str, bytes]) -> None:
    one = pictures["person_a_1"]
    two = files(image=[one, one])
    problem(client.post("/v1/inspect", files=two), 422, "invalid_value")
    problem(client.post("/v1/inspect", json={"images": [b64(one)]}), 422, "invalid_value")
    problem(client.post("/v1/inspect", json={}), 422, "invalid_value")
    problem(client.post("/v1/compare", files=files(probe=one)), 422, "invalid_value")
    both = files(probe=one, reference=one, image=one)
    problem(client.post("/v1/compare", files=both), 422, "invalid_value")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    client: httpx.Client,
) -> None:
    file = io.BytesIO()
    PilImage.new("1", (2001, 2000)).save(file, "PNG")
    for path in ("/v1/inspect", "/v1/identify"):
        answer = client.post(path, files=files(image=file.getvalue()))
        assert "4000000" in problem(answer, 422, "unreadable")["detail"].replace(",", "")


def test_a_large_upload_is_not_written_to_a_temporary_file(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rollover(self: object) -> None:
        raise AssertionError("a picture went into a temporary file")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", rollover)
    sent = files(image=b"\x00" * 8_000_000)
    problem(client.post("/v1/inspect", files=sent), 422, "unreadable")


def test_metadata_keeps_its_types() -> None:
    metadata = {"a": [1, 2.5, None, True], "é": {"b": "\U0001f600"}}
    body = json.dumps({"images": ["eA=="], "metadata": metadata}).encode()
    upload = Upload(body, {})
    assert upload.images("image", "images", most=1) == [b"x"]
    assert upload.metadata() == metadata
    assert Upload(None, {"metadata": [json.dumps(metadata)]}).metadata() == metadata
    assert Upload(None, {}).metadata() is None
    assert Upload(b'{"metadata": null}', {}).metadata() is None
    with pytest.raises(ProblemError, match="sent once"):
        Upload(None, {"metadata": ["{}", "{}"]}).metadata()
