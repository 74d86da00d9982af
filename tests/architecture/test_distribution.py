"""What is distributed, and under which name."""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).parents[2]
# Another project owns the distribution `verifykit`; ours is `verifykit-sdk`.
OLD_FORM = re.compile(
    r"\bpip3? (install|download|wheel|uninstall)\b[^\n`]*[ \"']verifykit(?![\w./=-])"
)
_NAMES_THE_OTHER = (
    "docs/adr/0016-the-distribution-is-verifykit-sdk.md",
    "verifykit/cli/doctor.py",
    "tests/e2e/cli/test_doctor.py",
)


def test_the_wheel_holds_nothing_but_verifykit() -> None:
    wheel = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    targets = wheel["tool"]["hatch"]["build"]["targets"]["wheel"]
    places = [targets["sources"].get(path, path) for path in targets["only-include"]]
    assert len(places) == 4
    assert {place.split("/")[0] for place in places} == {
        "verifykit",
        "verifykit_training",
        "verifykit_export",
    }


@pytest.mark.skipif(not find_spec("hatchling"), reason="needs hatchling to build without a network")
def test_a_built_wheel_holds_nothing_but_verifykit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CHECKOUT)
    name = importlib.import_module("hatchling.build").build_wheel(os.fspath(tmp_path))
    assert name.startswith("verifykit_sdk-")
    with zipfile.ZipFile(tmp_path / name) as archive:
        top = {entry.split("/")[0] for entry in archive.namelist()}
        assert "verifykit/_models/registry.toml" in archive.namelist()
    (metadata,) = (entry for entry in top if entry.endswith(".dist-info"))
    assert top - {metadata} == {"verifykit", "verifykit_training", "verifykit_export"}


def test_the_old_form_is_recognised() -> None:
    old = ['pip install "verifykit[cpu]"', "pip install verifykit", "pip install -U 'verifykit'"]
    new = [
        'pip install "verifykit-sdk[cpu]"',
        "pip install verifykit-sdk",
        "pip install ./verifykit",
    ]
    assert [bool(OLD_FORM.search(line)) for line in (*old, *new)] == [True] * 3 + [False] * 3


def test_no_text_installs_the_other_projects_distribution() -> None:
    sources = [
        path
        for folder in ("verifykit", "training", "export", "demo", "benchmarks", "tests", "docs")
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".html", ".js")
    ]
    singles = (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "Makefile",
        ".ci/run",
        "pyproject.toml",
    )
    left_out = [CHECKOUT / each for each in _NAMES_THE_OTHER] + [Path(__file__)]
    offending = [
        f"{path.relative_to(CHECKOUT)}: {found[0]}"
        for path in (*sources, *(CHECKOUT / each for each in singles))
        if not any(path == each or each in path.parents for each in left_out)
        for found in OLD_FORM.finditer(path.read_text(encoding="utf-8"))
    ]
    assert offending == []
