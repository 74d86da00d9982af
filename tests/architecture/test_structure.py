"""Rules about the product's sources; what offended before a rule was made is listed, and only may shrink.

The lists are the text files next to this one: what offends, and how often (or how many lines).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.source_sizes import sources
from tests.architecture import structure_rules as rules
from tests.architecture.snapshot import UPDATE, assert_allowed

CHECKOUT = Path(__file__).parents[2]
THIS = Path(__file__).name
PRODUCT = sources(CHECKOUT)
TESTS = sorted((CHECKOUT / "tests").rglob("*.py"))
RULES = (
    rules.long_functions,
    rules.sqlite_connections,
    rules.file_writes,
    rules.gallery_checks,
    rules.crop_checks,
)
Write = Callable[[str, str], Path]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_product_keeps_the_rule(
    rule: Callable[[list[Path], Path], rules.Offences],
) -> None:
    assert len(PRODUCT) > 100
    stored = Path(__file__).with_name(f"{rule.__name__}.txt")
    assert_allowed(rule(PRODUCT, CHECKOUT), stored, THIS)


def test_tests_do_not_use_private_names_of_the_product() -> None:
    found = rules.private_names(TESTS, PRODUCT, CHECKOUT)
    assert_allowed(found, Path(__file__).with_name("private_names.txt"), THIS)


def test_the_classes_that_the_rules_are_about_exist() -> None:
    galleries = rules.gallery_classes(PRODUCT, CHECKOUT)
    assert galleries >= {"MemoryGallery", "PostgresGallery", "SqliteGallery"}
    assert "Gallery" not in galleries
    crops = rules.crop_classes(PRODUCT, CHECKOUT)
    assert crops >= {"FivePointCrop", "PlainCrop", "SignatureCrop"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of a made-up checkout."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_function_of_61_lines_is_found(write: Write, tmp_path: Path) -> None:
    text = 'class A:\n    @property\n    def {}(self):\n        """One.\n\n        Two."""\n{}'
    line = "        x = 1\n"
    files = [
        write("verifykit/a.py", text.format("just", line * 60)),
        write(
            "verifykit/b.py", text.format("long", "        @x\n        def y(): 1\n" + line * 59)
        ),
        write("verifykit/c.py", text.format("empty", "")),
    ]
    assert rules.long_functions(files, tmp_path) == {"verifykit/b.py A.long": 61}


def test_sqlite_is_opened_in_one_place(write: Write, tmp_path: Path) -> None:
    text = "import sqlite3\nsqlite3.connect('x')\nother.connect('x')\n"
    files = [
        write("verifykit/_sqlite.py", text),
        write("verifykit/a.py", text),
        write("training/b.py", "from sqlite3 import connect, Row\n"),
    ]
    assert rules.sqlite_connections(files, tmp_path) == {
        "verifykit/a.py sqlite3.connect": 1,
        "training/b.py sqlite3.connect": 1,
    }


def test_files_are_replaced_in_one_place(write: Write, tmp_path: Path) -> None:
    text = (
        "import os\nimport tempfile\nfrom tempfile import mkstemp\nos.replace(a, b)\n"
        "tempfile.NamedTemporaryFile()\ntempfile.TemporaryDirectory()\npath.replace(other)\n"
        "'a'.replace('a', 'b')\ndataclasses.replace(a, b=1)\n"
    )
    files = [write("verifykit/_files.py", text), write("verifykit/a.py", text)]
    assert rules.file_writes(files, tmp_path) == {
        "verifykit/a.py tempfile.mkstemp": 1,
        "verifykit/a.py tempfile.NamedTemporaryFile": 1,
        "verifykit/a.py os.replace": 1,
        "verifykit/a.py Path.replace": 1,
    }


CHECKS = """
BOTH = (BlueGallery, RedGallery)
isinstance(x, vk.BlueGallery)
issubclass(x, str | RedGallery)
isinstance(x, BOTH)
type(x) is RedGallery
match x:
    case BlueGallery(): ...
isinstance(x, Gallery)
BlueGallery(x)
"""


def test_the_class_of_a_gallery_is_asked_for_in_its_package(write: Write, tmp_path: Path) -> None:
    text = "class Gallery(Protocol): ...\nclass BlueGallery: ...\nclass RedGallery(Gallery): ...\n"
    files = [
        write("verifykit/gallery/base.py", text + CHECKS),
        write("verifykit/a.py", CHECKS),
    ]
    assert rules.gallery_checks(files, tmp_path) == {
        "verifykit/a.py BlueGallery": 3,
        "verifykit/a.py RedGallery": 3,
    }


def test_the_class_of_a_crop_is_asked_for_in_the_modalities(write: Write, tmp_path: Path) -> None:
    text = "isinstance(spec.crop, PalmCrop)\nisinstance(x, CropSpec)\nisinstance(x, OtherCrop)\n"
    files = [
        write("verifykit/spec/crop.py", "class PalmCrop: ...\n"),
        write("verifykit/modalities/palm/crop.py", text),
        write("export/a.py", "class OtherCrop: ...\n" + text),
    ]
    assert rules.crop_checks(files, tmp_path) == {
        "export/a.py PalmCrop": 1,
        "export/a.py CropSpec": 1,
    }


def test_a_private_name_in_a_test_is_found(write: Write, tmp_path: Path) -> None:
    product = [
        write(
            "verifykit/a.py",
            "_LIMIT = 1\ndef _run(): ...\nclass _Own:\n    _kept: int\n"
            "    def __init__(self): self._held = 1\n    def _shared(self): ...\n",
        ),
        write("verifykit/_files.py", ""),
    ]
    test = write(
        "tests/test_a.py",
        "from verifykit.a import _Own, public\nfrom other import _Own\nfrom verifykit import _files\n"
        "patch.setattr('verifykit.a._LIMIT', 2)\npatch.setattr('verifykit._files.x', 2)\n"
        "patch.setattr(a, '_LIMIT', 2)\n"
        "public._held\npublic._held\npublic._kept = 1\npublic._foreign\npublic.__doc__\n"
        "class Fake:\n    def _shared(self): self._shared()\nprint('_run')\n",
    )
    assert rules.private_names([test], product, tmp_path) == {
        "tests/test_a.py _Own": 1,
        "tests/test_a.py _LIMIT": 2,
        "tests/test_a.py _held": 2,
        "tests/test_a.py _kept": 1,
    }


def test_the_lists_only_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = tmp_path / "list.txt"
    stored.write_text("a.py x 2\nb.py y 1\n")
    monkeypatch.delenv(UPDATE, raising=False)
    assert_allowed({"a.py x": 2, "b.py y": 1}, stored, THIS)
    for found in ({"a.py x": 3, "b.py y": 1}, {"a.py x": 1, "b.py y": 1}, {"a.py x": 2}):
        with pytest.raises(AssertionError, match=f"{UPDATE}=1 .*{THIS}"):
            assert_allowed(found, stored, THIS)
    with pytest.raises(AssertionError, match=r"c[.]py z: 1, allowed 0"):
        assert_allowed({"a.py x": 2, "b.py y": 1, "c.py z": 1}, stored, THIS)
    monkeypatch.setenv(UPDATE, "1")
    with pytest.raises(AssertionError, match="would grow by 1"):
        assert_allowed({"a.py x": 4}, stored, THIS)
    assert_allowed({"moved.py x": 2}, stored, THIS)
    assert stored.read_text() == "moved.py x 2\n"
    assert_allowed({}, stored, THIS)
    assert not stored.exists()
