"""What is served, and whether it is well."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.helpers.second_model import write_second_model
from tests.unit.server.conftest import OwnService
from tests.unit.server.running import Running, files
from verifykit.errors import CalibrationError, GalleryKeyError, InputError


def test_models_say_what_their_files_say(service: Running, client: httpx.Client) -> None:
    body = client.get("/v1/models").json()
    assert body["liveness"] is False
    assert [model["name"] for model in body["models"]] == ["face", "signature"]
    for model in body["models"]:
        spec = service.service.model(model["name"]).verifier.spec
        assert (model["spec_digest"], model["licence"]) == (spec.digest, spec.licence)
        assert (model["modality"], model["default_fmr"]) == (spec.modality, spec.default_fmr)
        assert [(p["fmr"], p["threshold"]) for p in model["fmrs"]] == [
            (point.fmr, point.threshold) for point in spec.operating_points
        ]
        assert model["population"] == spec.population
        assert [each["name"] for each in model["populations"]] == [
            each.name for each in spec.populations
        ]


def test_a_service_decides_by_the_population_of_its_settings(own_service: OwnService) -> None:
    with own_service(population="any") as found:
        spec = found.service.model("face").verifier.spec
        (every,) = spec.populations
        assert spec.operating_points == every.operating_points
        (face, signature) = found.client.get("/v1/models").json()["models"]
        assert (face["population"], face["default_fmr"]) == (every.description, every.default_fmr)
        (described,) = face["populations"]
        price = [(p["fmr"], p["fnmr"], p["usual_fnmr"]) for p in described["fmrs"]]
        assert price == [
            (p.fmr, p.fnmr, usual)
            for p, usual in zip(every.operating_points, every.usual_fnmr, strict=True)
        ]
        assert all(now > before for _, now, before in price)
        assert described["bands"][0]["band"] == "age 0 to <7"
        assert len(described["bands"]) == len(every.bands)
        # The setting is the default model's.
        assert signature["populations"] == []
    with (
        pytest.raises(CalibrationError, match=r"population 'adults'; it has: 'any'"),
        own_service(population="adults"),
    ):
        pass


def test_signatures_have_a_gallery_of_their_own(
    own_service: OwnService, signatures: dict[str, bytes], tmp_path: Path
) -> None:
    with own_service() as found:
        client, path = found.client, "/v1/subjects/sign?model=signature"
        assert (tmp_path / "own.signatures.db").exists()
        assert client.get("/v1/subjects?model=signature").json()["subjects"] == []
        first = signatures["ada_1"]
        assert client.put(path, files=files(image=first)).status_code == 201
        verify = "/v1/subjects/sign/verify?model=signature"
        decision = client.post(verify, files=files(image=first)).json()
        assert (decision["match"], decision["model"]) == (True, "signature")
        assert _counts(client) == {"face": 0, "signature": 1}


def _counts(client: httpx.Client) -> dict[str, int]:
    models = client.get("/v1/models").json()["models"]
    return {model["name"]: model["gallery"]["subject_count"] for model in models}


def test_models_say_what_a_page_needs(client: httpx.Client) -> None:
    face, signature = client.get("/v1/models").json()["models"]
    assert (face["label"], face["inputs"], face["live_hints"]) == (
        "Faces",
        ["camera", "image"],
        True,
    )
    assert face["options"] == {
        "multi_face": ["error", "largest", "all"],
        "quality": ["strict", "warn"],
        "attack": ["random_forgery"],
    }
    assert (signature["label"], signature["inputs"], signature["live_hints"]) == (
        "Signatures",
        ["pen", "image"],
        False,
    )
    assert signature["options"]["multi_face"] == []
    assert set(signature["options"]["attack"]) == {"random_forgery", "skilled_forgery"}
    assert {model["gallery"]["kind"] for model in (face, signature)} == {"file"}


def test_any_number_of_models_each_with_its_gallery(
    own_service: OwnService, face_model: Path, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    second = write_second_model(face_model, tmp_path / "second.onnx")
    plain = write_second_model(
        face_model, tmp_path / "plain.onnx", name="plain-1", modality="plain"
    )
    models = tuple((str(file), str(file.with_suffix(".db"))) for file in (second, plain))
    with own_service(models=models) as found:
        client = found.client
        listed = client.get("/v1/models").json()["models"]
        assert [(model["name"], model["label"]) for model in listed] == [
            ("face", "Faces"),
            ("face-2", "Faces"),
            ("plain-1", "Images"),
        ]
        assert listed[2]["options"]["quality"] == []
        names = client.get("/openapi.json").json()["paths"]["/v1/compare"]["post"]["parameters"]
        (query,) = [each["schema"] for each in names if each["name"] == "model"]
        assert query["enum"] == ["face", "face-2", "plain-1"]
        sent = files(image=pictures["person_a_1"])
        for name in ("face-2", "plain-1"):
            path = f"/v1/subjects/{name}?model={name}"
            assert client.put(path, files=sent).status_code == 201
            verify = client.post(f"/v1/subjects/{name}/verify?model={name}", files=sent).json()
            assert (verify["match"], verify["model"]) == (True, name)
        assert client.post("/v1/subjects/face-2/verify", files=sent).status_code == 404
        assert _counts(client) == {"face": 0, "face-2": 1, "plain-1": 1}
    assert not (tmp_path / "own.signatures.db").exists()


def test_signatures_are_an_alias_for_one_more_model(
    own_service: OwnService, face_model: Path, tmp_path: Path
) -> None:
    second = write_second_model(face_model, tmp_path / "second.onnx")
    models = ((str(second), str(tmp_path / "second.db")),)
    with own_service(models=models, signatures=str(tmp_path / "signs.db")) as found:
        assert list(_counts(found.client)) == ["face", "face-2", "signature"]


def test_signatures_alone_are_served_once(own_service: OwnService) -> None:
    with own_service(model="signature") as found:
        assert list(_counts(found.client)) == ["signature"]


def test_a_model_is_served_once(own_service: OwnService, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="'face' is already served"),
        own_service(models=(("face", str(tmp_path / "other.db")),)),
    ):
        pass


def test_with_a_key_both_galleries_are_encrypted(
    own_service: OwnService,
    pictures: dict[str, bytes],
    signatures: dict[str, bytes],
    tmp_path: Path,
) -> None:
    key = b"k" * 32
    with own_service(key=key) as found:
        assert str(key) not in repr(found.service.settings)
        for query, picture in (
            ("", pictures["person_a_1"]),
            ("?model=signature", signatures["ada_1"]),
        ):
            path = f"/v1/subjects/secret-name{query}"
            found.client.put(path, files=files(image=picture)).raise_for_status()
    with own_service(key=key) as found:
        sent = files(image=pictures["person_a_2"])
        answer = found.client.post("/v1/subjects/secret-name/verify", files=sent)
        assert answer.json()["match"] is True
    for name in ("own.db", "own.signatures.db"):
        assert b"secret-name" not in (tmp_path / name).read_bytes()
    with pytest.raises(GalleryKeyError), own_service():
        pass


def test_without_signatures_there_is_one_model(own_service: OwnService) -> None:
    with own_service(with_signatures=False) as found:
        assert [m["name"] for m in found.client.get("/v1/models").json()["models"]] == ["face"]


def test_ready_says_what_is_missing_and_alive_says_nothing(
    own_service: OwnService, tmp_path: Path
) -> None:
    with own_service(with_signatures=False) as found:
        ready = found.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"status": "ready", "missing": [], "warnings": []},
        )
        gallery = tmp_path / "own.db"
        gallery.rename(tmp_path / "elsewhere.db")
        ready = found.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "not ready",
            "missing": ["the gallery of face"],
            "warnings": [],
        }
        assert found.client.get("/healthz").json() == {"status": "ok"}
        (tmp_path / "elsewhere.db").rename(gallery)
        assert found.client.get("/readyz").status_code == 200
        (tmp_path / "own.db.server").rename(tmp_path / "elsewhere.server")
        assert found.client.get("/readyz").json()["missing"] == ["the state file"]


def test_metrics_count_decisions_refusals_and_runs(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(with_signatures=False) as found:
        sent = files(probe=pictures["person_a_1"], reference=pictures["person_a_2"])
        found.client.post("/v1/compare", files=sent).raise_for_status()
        found.client.post("/v1/compare", files=files(probe=b"x", reference=b"x"))
        answer = found.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        for line in (
            'verifykit_decisions_total{outcome="match",verb="compare"} 1.0',
            'verifykit_refusals_total{reason="unreadable"} 1.0',
            "verifykit_batch_images_sum 2.0",
            "verifykit_queue_length 0.0",
        ):
            assert line in lines


def test_the_page_and_its_files_are_served_with_their_types(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name, kind in (("app.js", "text/javascript"), ("style.css", "text/css")):
        answer = client.get(f"/static/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert f"/static/{name}" in page.text
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404
