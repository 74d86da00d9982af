"""``verifykit doctor`` on sound and on broken installations."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from verifykit.cli.app import app
from verifykit.cli.doctor import diagnose


@pytest.fixture(scope="module", autouse=True)
def real() -> Iterator[Mapping[str, list[str]]]:
    """What brings which module, read once: a process asks once, and it takes most of a second."""
    found = importlib.metadata.packages_distributions()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "packages_distributions", lambda: found)
        yield found


@pytest.fixture
def bring(real: Mapping[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that a module is brought by these packages."""
    version = importlib.metadata.version

    def pretend(module: str, *packages: str) -> None:
        brought = {**real, module: list(packages)}
        monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: brought)
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: "1.0" if name in packages else version(name)
        )

    return pretend


def test_a_sound_installation(face_model: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--threads", "2", "--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["problems"]) == (0, [])
    for package in ("verifykit-sdk", "python", "numpy", "opencv-python-headless", "onnxruntime"):
        assert report["versions"][package]
    assert report["telemetry"] == "off"
    assert report["image_formats"]["JPEG"] is True
    assert {"WebP", "HEIC", "AVIF", "JPEG XL"} <= set(report["image_formats"])
    (face,) = (model for model in report["models"] if model["name"] == "face")
    assert (face["licence"], face["state"]) == ("Apache-2.0 AND MIT", "ready")
    (cpu,) = (provider for provider in report["providers"] if provider["name"] == "cpu")
    assert cpu["works"]
    assert 0.1 < cpu["embedding_ms"] < 10_000
    text = CliRunner().invoke(app, ["doctor", "--threads", "2"]).stdout
    assert "no problems found" in text
    assert "telemetry of onnxruntime: off" in text
    assert "one face embedding takes " in text


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("onnxruntime", ("onnxruntime", "onnxruntime-gpu")),
        ("cv2", ("opencv-python", "opencv-python-headless")),
    ],
)
def test_packages_that_overwrite_each_other(
    bring: Callable[..., None], module: str, packages: tuple[str, str], face_model: Path
) -> None:
    bring(module, *packages, packages[0])
    result = CliRunner().invoke(app, ["doctor", "--threads", "2", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 2
    assert set(packages) <= set(report["versions"])
    (problem,) = report["problems"]
    assert problem.startswith(f"{packages[0]} and {packages[1]} both bring the module {module}")


def test_another_projects_distribution_of_the_same_import_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face_model: Path
) -> None:
    info = tmp_path / "verifykit-9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: verifykit\nVersion: 9.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(app, ["doctor", "--threads", "2", "--json"])
    (problem,) = json.loads(result.stdout)["problems"]
    assert result.exit_code == 2
    assert problem.startswith(
        "the distribution verifykit 9.1, of another project, is installed too"
    )
    assert "pip uninstall verifykit" in problem
    text = CliRunner().invoke(app, ["doctor", "--threads", "2"]).stdout
    assert "problem: the distribution verifykit 9.1" in text


def test_without_a_model_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "empty"))
    report = diagnose()
    assert report["problems"] == []
    (face,) = (model for model in report["models"] if model["name"] == "face")
    assert face["state"] == "not built yet"
    assert not (tmp_path / "empty").exists()


@pytest.mark.filterwarnings("ignore::verifykit.session.TelemetryWarning")
def test_a_telemetry_that_is_on_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, face_model: Path
) -> None:
    monkeypatch.setattr("verifykit._environment.telemetry_is_off", lambda: False)
    report = diagnose(2)
    assert report["telemetry"] == "on"
    assert any("ORT_DISABLE_TELEMETRY=1" in problem for problem in report["problems"])


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("VERIFYKIT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    (problem,) = diagnose(2)["problems"]
    assert "set VERIFYKIT_HOME" in problem


def test_a_damaged_model_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face_model: Path
) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    data = bytearray(face_model.read_bytes())
    data[1000] ^= 1
    (tmp_path / "models" / "face.onnx").write_bytes(data)
    report = diagnose()
    (face,) = (model for model in report["models"] if model["name"] == "face")
    assert face["state"] == "unusable"
    assert "damaged" in report["problems"][0]
