"""The real face model, two people enrolled with it in a file, and command lines run in this process."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.run_document import Run
from verifykit.encoder import Encoder


@pytest.fixture(scope="session")
def encoder(face_model: Path) -> Encoder:
    return Encoder.open(face_model, threads=2)


@pytest.fixture
def verifier(encoder: Encoder, portraits: Mapping[str, Path], tmp_path: Path) -> vk.Verifier:
    """Two people enrolled in a gallery file."""
    verifier = vk.Verifier(encoder, gallery=tmp_path / "people.db")
    verifier.enroll("person_a", portraits["person_a_1"])
    verifier.enroll("person_b", portraits["person_b_1"])
    return verifier


@pytest.fixture
def portrait_folder(
    tmp_path: Path, portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return the current folder, which contains the portraits."""
    for path in portraits.values():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in a fifth of the time; those of the README are run as processes."""
    mains = {"verifykit": "verifykit.cli", "verifykit-export": "verifykit_export.cli"}
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(command: str) -> tuple[int, str, str]:
        words = shlex.split(command)
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            import_module(mains[words[0]]).main()
        return int(stop.value.code or 0), *capfd.readouterr()

    return run
