"""The page on identifying many pictures runs as it stands there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.run_document import run_document

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "batch-identification.md"


@pytest.mark.usefixtures("face_model")
def test_the_page_runs(
    portraits: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in portraits.values():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_document(PAGE) == {"python": 7, "console": 4}
