"""A user without a name and a home folder, and an application made by PyInstaller."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

# Libraries of the developers' environment that the application does not use.
LEFT_OUT = (
    *("torch", "torchvision", "scipy", "sklearn", "pyarrow", "dask", "distributed", "matplotlib"),
    *(
        "hypothesis",
        "pytest",
        "albumentations",
        "mkdocs",
        "celery",
        "psycopg",
        "fastapi",
        "uvicorn",
    ),
    *("jinja2", "tkinter", "verifykit_training", "schemathesis"),
)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root becomes another user")
def test_a_nameless_user_without_home_is_told_what_to_set(
    portraits: Mapping[str, Path], face_model: Path
) -> None:
    # The effective user stays, which can read this Python wherever it is; the user asked for is the real one.
    code = (
        "import os, sys; os.setresuid(12345, -1, -1)\n"
        "sys.argv = ['verifykit', *sys.argv[1:]]\n"
        "from verifykit.cli import main; main()\n"
    )
    away = {"HOME", "VERIFYKIT_HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"}
    environment = {name: value for name, value in os.environ.items() if name not in away}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    for verb in (["models", "list"], ["doctor"], ["compare", "a.jpg", "b.jpg"]):
        told = run(*verb)
        assert told.returncode == 2, told.stdout
        assert "VERIFYKIT_HOME" in told.stdout + told.stderr
        assert "Traceback" not in told.stderr
    images = [str(portraits[name]) for name in ("person_a_1", "person_a_2")]
    signed = run("compare", *images, "-m", "signature", "--quality", "warn")
    assert "VERIFYKIT_HOME" not in signed.stderr
    home = face_model.parents[1]
    for verb in (["models", "list"], ["doctor", "--threads", "1"], ["compare", *images]):
        told = run(*verb, VERIFYKIT_HOME=str(home))
        assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_application_made_by_pyinstaller_builds_the_model_and_compares(
    portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text("from verifykit.cli import main\n\nmain()\n")
    excluded = [word for name in LEFT_OUT for word in ("--exclude-module", name)]
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"]
    subprocess.run([*command, *excluded, "app.py"], cwd=tmp_path, check=True, capture_output=True)
    app = str(tmp_path / "dist" / "app" / "app")
    environment = {**os.environ, "VERIFYKIT_HOME": str(tmp_path / "home"), "PYTHONPATH": ""}
    for arguments in (
        ["compare", str(portraits["person_a_1"]), str(portraits["person_a_2"])],
        ["doctor", "--threads", "1"],
        ["models", "card", "signature"],
    ):
        run = subprocess.run(
            [app, *arguments], env=environment, capture_output=True, text=True, check=False, cwd="/"
        )
        assert run.returncode == 0, run.stdout + run.stderr
