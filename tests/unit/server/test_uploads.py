"""Bodies of requests: what is taken, and what each mistake is called."""

from __future__ import annotations

import base64
import io
import json
import textwrap
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


def test_base64_as_clients_send_it(client: httpx.Client, pictures: dict[str, bytes]) -> None:
    image = pictures["person_a_1"]
    image += bytes(
        1 + -len(image) % 3
    )  # after the end of the JPEG, so that there is padding to leave out
    plain = b64(image)
    assert plain.endswith("==")
    for text in (
        plain,
        base64.encodebytes(image).decode(),
        "\r\n".join(textwrap.wrap(plain, 64)),
        base64.urlsafe_b64encode(image).decode(),
        plain.rstrip("="),
        base64.urlsafe_b64encode(image).decode().rstrip("="),
        f"data:image/jpeg;base64,{plain}",
        f"data:image/jpeg;base64,{base64.encodebytes(image).decode()}",
    ):
        answer = client.post("/v1/inspect", json={"image": text})
        assert answer.status_code == 200, answer.text
        assert answer.json()["samples"]


@pytest.mark.parametrize(
    ("body", "detail", "hint"),
    [
        ({"images": ["%%"]}, "images[0] is not base64", "data:image/jpeg;base64,"),
        ({"images": ["abcde"]}, "5 characters", "data:image/jpeg;base64,"),
        ({"images": ["data:image/jpeg,eA=="]}, "begins with data:image/jpeg;base64,", "data URL"),
        ({"images": [1]}, "images[0] must be an image in base64", "data:image/jpeg;base64,"),
        ({"images": "eA=="}, "must be a list", '{"images": ["..."]}'),
        ({"image": "eA=="}, "unknown key 'image': known are images", "Name the key images."),
    ],
)
def test_the_hint_says_how_an_image_is_sent(
    client: httpx.Client, pictures: dict[str, bytes], body: dict[str, Any], detail: str, hint: str
) -> None:
    found = problem(client.put(PATH, json=body), 422, "invalid_value")
    assert detail in found["detail"]
    assert hint in found["hint"]


def test_hints_about_other_bodies(client: httpx.Client, pictures: dict[str, bytes]) -> None:
    image = pictures["person_a_1"]
    raw = client.put(PATH, content=image, headers={"Content-Type": "image/jpeg"})
    found = problem(raw, 415, "unsupported_media_type")
    assert "'image/jpeg'" in found["detail"]
    assert "multipart/form-data" in found["hint"]
    form = client.post("/v1/inspect", data={"image": b64(image)})
    assert "base64" in problem(form, 415, "unsupported_media_type")["hint"]
    part = client.put(PATH, files=files(file=image))
    assert problem(part, 422, "invalid_value")["hint"] == "Name the part image."
