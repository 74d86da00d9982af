"""Rules about the files themselves."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("verifykit", "training", "export", "demo", "benchmarks", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*.py"))
NAMELESS = {"utils", "util", "common", "helpers", "helper", "core", "manager", "misc"}
PICKLES = "pickle=True"
# Insightface's files and torch's checkpoints are pickles: read by a class that finds no name but its own, and
# made by its tests.
FOREIGN_PICKLES = {
    "export/verifykit_export/checkpoint_file.py",
    "verifykit/insightface_bin.py",
    "tests/unit/evaluation/test_insightface_bin.py",
    "tests/e2e/test_training_cli.py",
}


def test_every_module_has_a_name_of_its_own() -> None:
    for path in SOURCES:
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        assert parts[:2] == ("tests", "helpers") or not NAMELESS & set(parts), path


@pytest.mark.parametrize(
    "pattern",
    [
        r"NotImplementedError|\bTO" + r"DO\b|\bFIX" + r"ME\b",
        r"""["'(= ]/(tmp|root|home)/""",
        r"\.\./" + "shared",
        r"pickle\.(load|dump|Unpickler)|allow_" + PICKLES,
    ],
)
def test_no_source_holds(pattern: str) -> None:
    offending = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line}"
        for path in SOURCES
        if path != Path(__file__)
        and not (pattern.endswith(PICKLES) and str(path.relative_to(CHECKOUT)) in FOREIGN_PICKLES)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert offending == []


def test_the_three_packages_are_typed_and_the_commands_exist() -> None:
    for package in ("verifykit", "training/verifykit_training", "export/verifykit_export"):
        assert (CHECKOUT / package / "py.typed").is_file()
    points = distribution("verifykit-sdk").entry_points
    assert {point.group for point in points} == {
        "console_scripts",
        "pyinstaller40",
        "verifykit.builders",
    }
    for point in points:
        assert callable(point.load()), point
