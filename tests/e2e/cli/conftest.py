"""Run commands in this process, in a folder of portraits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from typer.main import get_command
from typer.testing import CliRunner, Result

from tests.helpers.command_results import Invoke
from tests.helpers.drawn_signatures import write_signers
from verifykit.cli.app import app
from verifykit.encoder import Encoder
from verifykit.modelfile import ModelFile
from verifykit.models import resolve


def _opened_once(path: Path) -> Iterator[None]:
    """Open a model once for all commands, since it takes most of their time."""
    opened = Encoder.open(path, threads=2)
    really_open = Encoder.open

    def open_(model: ModelFile, **options: Any) -> Encoder:
        is_default = model.path == path and options["providers"] == "auto"
        return opened if is_default else really_open(model, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "open", open_)
        yield


@pytest.fixture(scope="session", autouse=True)
def built_once() -> Iterator[None]:
    """Build the commands from their functions once, as in a process, and not for every call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(get_command))
        yield


@pytest.fixture(scope="module")
def opened_once(face_model: Path) -> Iterator[None]:
    """The real face model."""
    yield from _opened_once(face_model)


@pytest.fixture(scope="module")
def signature_opened_once() -> Iterator[None]:
    """The real signature model."""
    yield from _opened_once(resolve("signature"))


@pytest.fixture
def invoke(
    opened_once: None,
    portraits: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Invoke:
    """Run a command in a folder of the portraits by name."""
    for name, path in portraits.items():
        (tmp_path / f"{name}{path.suffix}").symlink_to(path)
    monkeypatch.chdir(tmp_path)

    return _run


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of drawn signatures: see drawn_signatures.py."""
    return write_signers(tmp_path_factory.mktemp("signers"))


@pytest.fixture
def sign(
    signature_opened_once: None, signers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Invoke:
    """Run a command in a folder of drawn signatures."""
    for name in ("people", "forged"):
        (tmp_path / name).symlink_to(signers / name)
    monkeypatch.chdir(tmp_path)
    return _run


def _run(*arguments: object, status: int) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def gallery(invoke: Invoke) -> str:
    invoke("enroll", "Ada 🙂/1", "person_a_1.jpg", "-g", "g.db", "--metadata", "team=a=b", status=0)
    invoke("enroll", "bea", "person_b_1.jpg", "-g", "g.db", status=0)
    return "g.db"
