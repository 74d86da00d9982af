"""The page on serving: its Python blocks, against a service at a free port."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from demo.service import served
from tests.helpers.documents import DOCS, blocks
from tests.helpers.run_document import NAMES

PAGE = DOCS / "how-to/serve.md"


@pytest.mark.usefixtures("face_model")
def test_the_page_on_serving_runs(
    portraits: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, of in NAMES.items():
        shutil.copy(portraits[Path(of).stem], tmp_path / name)
    PilImage.fromarray(np.full((240, 320, 3), 128, np.uint8)).save(tmp_path / "empty.png")
    monkeypatch.chdir(tmp_path)
    code = [text for language, text in blocks(PAGE) if language == "python"]
    assert len(code) == 2
    with served(tmp_path / "staff.db") as address:
        for text in code:
            assert "\nassert " in text
        named: dict[str, object] = {}
        exec("\n".join(code).replace("http://127.0.0.1:8000", address), named)
        named["service"].close()  # type: ignore[attr-defined]
