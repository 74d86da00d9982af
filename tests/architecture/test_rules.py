"""Rules about the files themselves."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.architecture.file_length import too_long

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("verifykit", "training", "export", "demo", "benchmarks", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*.py"))
NAMELESS = {"utils", "util", "common", "helpers", "helper", "core", "base", "manager", "misc"}


def test_no_source_is_longer_than_300_lines() -> None:
    assert SOURCES
    assert too_long(SOURCES) == []


def test_the_length_check_counts(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("x\n" * 300)
    (tmp_path / "long.py").write_text("x\n" * 301)
    assert len(too_long([tmp_path / "short.py", tmp_path / "long.py"])) == 1


def test_every_room_has_a_name_of_its_own() -> None:
    for path in SOURCES:
        assert not NAMELESS & set(path.relative_to(CHECKOUT).with_suffix("").parts), path


@pytest.mark.parametrize(
    "pattern",
    [
        r"NotImplementedError|\bTO" + r"DO\b|\bFIX" + r"ME\b",
        r"""["'(= ]/(tmp|root|home)/""",
        r"\.\./" + "shared",
        r"pickle\.(load|dump|Unpickler)|allow_" + "pickle=True",
    ],
)
def test_no_source_holds(pattern: str) -> None:
    offending = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line}"
        for path in SOURCES
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert offending == []


def test_the_three_packages_are_typed_and_the_commands_exist() -> None:
    for package in ("verifykit", "training", "export"):
        assert (CHECKOUT / package / "py.typed").is_file()
    points = distribution("verifykit").entry_points
    assert {point.group for point in points} == {"console_scripts", "verifykit.builders"}
    for point in points:
        assert callable(point.load()), point
