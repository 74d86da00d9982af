"""A modality and a sample check, registered alone, work everywhere: library, command line, batch, HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as PilImage
from typer.testing import CliRunner

import verifykit as vk
from tests.helpers.extensions import (
    PalmModality,
    registered_check,
    registered_palm,
    write_palm_model,
)
from tests.unit.server.running import running
from verifykit import modalities
from verifykit.cli.app import app
from verifykit.server.settings import ServerSettings

SIDE_PX = 24


@pytest.fixture(autouse=True)
def palm() -> Iterator[None]:
    with registered_palm():
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A palm model, and images of two palms, of none and of a blue one."""
    write_palm_model(tmp_path / "palm.onnx")
    rng = np.random.default_rng(3)
    one, other = (rng.integers(0, 200, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8) for _ in range(2))
    one[4], other[9] = 255, 255
    noisy = np.clip(one.astype(int) + rng.integers(-6, 7, one.shape), 0, 255).astype(np.uint8)
    noisy[4] = 255
    blue = np.zeros_like(one)
    blue[..., 2] = 200
    (tmp_path / "images").mkdir()
    images = {"one": one, "again": noisy, "other": other, "dark": one // 60, "blue": blue}
    for name, image in images.items():
        PilImage.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.stdout


def enroll_one(folder: Path) -> vk.Verifier:
    verifier = vk.Verifier(folder / "palm.onnx", "g.db", threshold=0.9)
    verifier.enroll("ada", "images/one.png")
    return verifier


def test_a_modality_works_in_the_library(folder: Path) -> None:
    verifier = enroll_one(folder)
    assert verifier.verify("ada", "images/again.png")
    assert not verifier.verify("ada", "images/other.png")
    with pytest.raises(vk.AcquisitionError) as refused:
        verifier.verify("ada", "images/dark.png")
    assert refused.value.reason == "no_palm"


def test_a_modality_works_on_the_command_line_and_in_batch(folder: Path) -> None:
    common = ("-g", "g.db", "-m", "palm.onnx")
    run("enroll", "ada", "images/one.png", *common)
    run("verify", "ada", "images/again.png", *common, "--threshold", "0.9")
    run("verify", "ada", "images/other.png", *common, "--threshold", "0.9", status=1)
    run("verify", "ada", "images/dark.png", *common, "--threshold", "0.9", status=2)
    run("identify-batch", "images", *common, "-o", "out.jsonl", "--threshold", "0.9")
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()[1:]]
    decisions = {row["image"]: row["decision"] for row in rows}
    assert decisions["again.png"] == "match"
    assert decisions["other.png"] == "no_match"
    assert decisions["dark.png"] == "no_palm"


def test_a_modality_and_a_check_work_over_http(folder: Path) -> None:
    enroll_one(folder)
    settings = ServerSettings("g.db", model="palm.onnx", with_signatures=False)
    with registered_check("palm"), running(settings) as service:
        (model,) = service.client.get("/v1/models").json()["models"]
        assert (model["modality"], model["label"]) == ("palm", "Palms")
        assert model["inputs"] == ["camera", "image"]

        def verify(name: str) -> httpx.Response:
            file = {"image": (name, Path("images", name).read_bytes())}
            return service.client.post("/v1/subjects/ada/verify?threshold=0.9", files=file)

        assert verify("again.png").json()["match"] is True
        assert verify("other.png").json()["match"] is False
        problem = verify("dark.png").json()
        assert (problem["code"], problem["hint"]) == ("no_palm", "Hold your palm into the light.")
        problem = verify("blue.png").json()
        assert (problem["code"], problem["hint"]) == ("too_blue", "Use white light.")


def test_a_check_works_in_the_library_on_the_command_line_and_in_batch(folder: Path) -> None:
    with registered_check("palm"):
        verifier = enroll_one(folder)
        with pytest.raises(vk.AcquisitionError, match="blue_share") as refused:
            verifier.verify("ada", "images/blue.png")
        assert refused.value.reason == "too_blue"
        warned = verifier.verify("ada", "images/blue.png", quality="warn")
        assert warned.warnings == ("too_blue",)
        common = ("-g", "g.db", "-m", "palm.onnx", "--threshold", "0.9")
        result = CliRunner().invoke(app, ["verify", "ada", "images/blue.png", *common])
        assert result.exit_code == 2
        assert "(too_blue)" in result.output
        run("identify-batch", "images", *common, "-o", "out.jsonl")
        rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()[1:]]
        assert {row["image"]: row["decision"] for row in rows}["blue.png"] == "too_blue"
    assert enroll_one(folder).verify("ada", "images/blue.png").warnings == ()


def test_a_model_of_an_unknown_modality_is_refused_with_what_to_do(folder: Path) -> None:
    modalities.unregister("palm")
    with pytest.raises(vk.ModelContractError, match=r"'palm' is not a known modality.*import"):
        vk.Verifier(folder / "palm.onnx")


def test_an_entry_point_registers_a_modality(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modalities.unregister("palm")

    class Point:
        def load(self) -> None:
            modalities.register(PalmModality())

    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda group: [Point()] if group == "verifykit.modalities" else [],
    )
    assert vk.Verifier(folder / "palm.onnx").spec.modality == "palm"


def test_a_second_modality_of_a_name_or_kind_is_refused() -> None:
    class Other(PalmModality):
        name = "hand"

    with pytest.raises(ValueError, match="'palm' with crop 'palm' is already registered"):
        modalities.register(Other())
