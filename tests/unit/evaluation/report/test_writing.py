"""The two files: what they hold, and that they are there whole or not at all."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.evaluation.report.reports import crops_of, model_result, report
from verifykit.errors import InputError
from verifykit.evaluation.report import require_report_libraries, write_report
from verifykit.evaluation.results import EvaluationReport

SMALL = report(model_result("one", skilled=False, people=False))
WHOLE = report(model_result("one"), model_result("two", 2, skilled=False, people=False))


def agrees(read: Any, record: Any) -> bool:
    """Whether what was read from JSON is the record, field by field."""
    if is_dataclass(record):
        names = [field.name for field in fields(record)]
        return set(read) == set(names) and all(
            agrees(read[name], getattr(record, name)) for name in names
        )
    if isinstance(record, dict):
        return read == {str(key): value for key, value in record.items()}
    if isinstance(record, tuple):
        return len(read) == len(record) and all(map(agrees, read, record))
    if isinstance(record, float) and not math.isfinite(record):
        return read is None
    return bool(read == record)


def test_the_numbers_come_back_from_json(tmp_path: Path) -> None:
    one = model_result("one")
    attack = replace(one.attacks[0], d_prime=math.inf, eer_threshold=math.nan)
    two = model_result("two", 2, skilled=False, people=False)
    found = report(replace(one, attacks=(attack, *one.attacks[1:])), two)
    data, page = write_report(found, tmp_path / "new" / "folder", crops_of(found))
    assert (data.name, page.name) == ("report.json", "report.html")
    read = json.loads(data.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert agrees(read, found)
    assert read["models"][0]["attacks"][0]["d_prime"] is None
    assert sorted(path.name for path in data.parent.iterdir()) == ["report.html", "report.json"]


def test_the_same_report_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys;"
        "from tests.unit.evaluation.report.test_writing import WHOLE, crops_of;"
        "from verifykit.evaluation.report import write_report;"
        "write_report(WHOLE, Path(sys.argv[1]), crops_of(WHOLE))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there")],
        cwd=Path(__file__).parents[4],
        env=environment,
        check=True,
    )
    for path in write_report(WHOLE, tmp_path / "here", crops_of(WHOLE)):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


def test_a_folder_that_is_a_file_is_left_alone(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(OSError, match="taken"):
        write_report(SMALL, taken, {})
    assert taken.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [taken]


def test_an_earlier_report_stays_whole_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in write_report(SMALL, tmp_path, {})}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(report(model_result("two", 2, skilled=False, people=False)), tmp_path, {})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_is_written_when_the_page_cannot_be_made(tmp_path: Path) -> None:
    broken: EvaluationReport = replace(SMALL, image_count="many")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Cannot specify ','"):
        write_report(broken, tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_without_the_extra_the_error_names_it(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # what makes an import fail
    with pytest.raises(InputError, match=rf'{library}.*pip install "verifykit-sdk\[evaluate\]"'):
        require_report_libraries()
    with pytest.raises(InputError, match="verifykit"):
        write_report(SMALL, tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


def test_with_the_extra_there_is_no_error() -> None:
    require_report_libraries()


def test_the_package_can_be_imported_without_the_extra() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('jinja2', 'matplotlib')));"
        "import verifykit.evaluation.report, verifykit.evaluation.report.charts"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
