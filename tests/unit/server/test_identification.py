"""Identification and inspection over HTTP."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from PIL import Image as PilImage

from tests.unit.server.conftest import OwnService
from tests.unit.server.running import Running, b64, files, problem
from verifykit.audit import read_log


def _side_by_side(*pictures: bytes) -> bytes:
    opened = [PilImage.open(io.BytesIO(p)).convert("RGB").resize((400, 500)) for p in pictures]
    file = io.BytesIO()
    PilImage.fromarray(np.hstack([np.asarray(picture) for picture in opened])).save(file, "PNG")
    return file.getvalue()


def test_each_face_finds_its_subject_and_nobody_else(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(with_signatures=False) as found:
        for name in ("person_a_1", "person_b_1"):
            path = f"/v1/subjects/{name}"
            found.client.put(path, files=files(image=pictures[name])).raise_for_status()
        both = files(image=_side_by_side(pictures["person_a_2"], pictures["person_b_2"]))
        problem(found.client.post("/v1/identify", files=both), 422, "several_faces")
        answer = found.client.post("/v1/identify?multi_face=all&limit=1", files=both).json()
        names = {face["candidates"][0]["subject_id"] for face in answer["faces"]}
        assert names == {"person_a_1", "person_b_1"}
        assert answer["model_digest"] == found.service.model(None).verifier.spec.digest

        stranger = found.client.post("/v1/identify", files=files(image=pictures["impostor_1"]))
        (face,) = stranger.json()["faces"]
        assert face["candidates"] == []
        entries = [e for e in read_log(found.service.audit.path) if e.verb == "identify"]
        assert [(e.decision, e.subject_id, e.reason) for e in entries] == [
            ("refused", None, "several_faces"),
            *(("match", face["candidates"][0]["subject_id"], None) for face in answer["faces"]),
            ("no_match", None, None),
        ]


def test_json_is_taken_and_options_decide(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(with_signatures=False) as found:
        for name in ("person_a_1", "person_b_1", "obama"):
            path = f"/v1/subjects/{name}"
            found.client.put(path, files=files(image=pictures[name])).raise_for_status()
        body = {"image": b64(pictures["person_a_2"])}
        everybody = found.client.post("/v1/identify?threshold=-1&limit=2", json=body).json()
        ((best, second),) = [face["candidates"] for face in everybody["faces"]]
        assert best["subject_id"] == "person_a_1"
        assert best["score"] > second["score"]
        rated = found.client.post("/v1/identify?fpir=0.01", json=body).json()["faces"][0]
        assert (rated["gallery_size"], rated["fpir"]) == (3, pytest.approx(0.01, rel=0.9))
        problem(found.client.post("/v1/identify?fpir=0.1&fmr=0.1", json=body), 422, "invalid_value")
        for limit in (0, 101):
            answer = found.client.post(f"/v1/identify?limit={limit}", json=body)
            problem(answer, 422, "invalid_value")


def test_a_good_frame_has_one_sample_and_nothing_to_change(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    before = list(read_log(service.service.audit.path))
    body = client.post("/v1/inspect", files=files(image=pictures["person_a_2"])).json()
    extractor = service.service.model(None).verifier.encoder.extractor
    (wanted,) = extractor.samples(pictures["person_a_2"])
    (sample,) = body["samples"]
    assert wanted.detection is not None
    assert sample["detection"] == wanted.detection.to_dict()
    assert sample["quality"] == dict(wanted.quality)
    assert (body["reasons"], body["hints"], sample["reasons"]) == ([], [], [])
    with PilImage.open(io.BytesIO(pictures["person_a_2"])) as opened:
        assert (body["height_px"], body["width_px"]) == (opened.height, opened.width)
    assert list(read_log(service.service.audit.path)) == before


def test_a_frame_that_cannot_be_used_says_why_and_what_to_do(
    client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    grey = io.BytesIO()
    PilImage.new("RGB", (320, 240), (120, 120, 120)).save(grey, "PNG")
    both = _side_by_side(pictures["person_a_2"], pictures["person_b_2"])
    dark = io.BytesIO()
    with PilImage.open(io.BytesIO(pictures["person_a_2"])) as opened:
        opened.convert("RGB").point(lambda value: value // 14).save(dark, "PNG")
    for frame, reason, word in (
        (grey.getvalue(), "no_face", "face"),
        (both, "several_faces", "One person"),
        (dark.getvalue(), "too_dark", "light"),
    ):
        answer = client.post("/v1/inspect", files=files(image=frame))
        assert answer.status_code == 200
        body = answer.json()
        assert body["reasons"][0] == reason
        assert word in body["hints"][0]
        assert len(body["hints"]) == len(body["reasons"])


def test_a_frame_that_is_no_picture_is_an_error(client: httpx.Client) -> None:
    problem(client.post("/v1/inspect", files=files(image=b"no picture")), 422, "unreadable")
