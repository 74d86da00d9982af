"""The examples of the README are run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from demo.signature_files import write_signatures
from tests.helpers.run_document import run_document

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"


@pytest.fixture
def image_folder(
    tmp_path: Path, portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    for path in portraits.values():
        shutil.copy(path, tmp_path)
    write_signatures(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_fewer_than_150_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


def test_every_example_of_the_readme_runs(image_folder: Path, face_model: Path) -> None:
    script = CHECKOUT / "tests/helpers/run_document.py"
    command = [sys.executable, "-I", str(script), str(README)]
    run = subprocess.run(command, cwd=image_folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 python blocks" not in run.stdout


def test_python_blocks_share_a_namespace_and_fail_by_their_line(image_folder: Path) -> None:
    document = image_folder / "doc.md"
    document.write_text("```python\nx = 2\n```\ntext\n```python\nassert x == 2\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_document(document)
    assert caught.traceback[-1].lineno == 6  # counted from zero


@pytest.mark.parametrize(
    ("shown", "accepted"),
    [
        ("score 0.512", True),
        ("score 0.6", False),
        ("points 0.512", False),
        ("...\ngone", False),
        ("score   0.51", True),
    ],
)
def test_what_a_command_prints_is_what_the_document_shows(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch, shown: str, accepted: bool
) -> None:
    program = image_folder / "bin" / "verifykit"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho score 0.515\necho more\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.parent / "python"))
    document = image_folder / "doc.md"
    document.write_text(f"```console\n$ verifykit compare a.jpg b.jpg\n{shown}\n```\n")
    if accepted:
        assert run_document(document) == {"python": 0, "console": 1}
    else:
        with pytest.raises(AssertionError, match="the document shows"):
            run_document(document)


def test_an_unchecked_command_is_an_error(image_folder: Path) -> None:
    document = image_folder / "doc.md"
    document.write_text("```console\n$ frobnicate\n```\n")
    with pytest.raises(AssertionError, match="not checked: frobnicate"):
        run_document(document)
