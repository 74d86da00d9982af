"""The page on people who are enrolled twice: it runs, and the table in it is the one that is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.documents import DOCS
from tests.helpers.run_document import Run, run_document, same_output

PAGE = DOCS / "how-to" / "duplicates-and-clusters.md"


@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_the_page_on_duplicates_and_clusters_runs(in_process: Run) -> None:
    assert run_document(PAGE, run=in_process) == {"python": 2, "console": 6}
    (shown,) = re.findall(
        r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    written = Path("clusters.csv").read_text("utf-8").splitlines()
    for line, expected in zip(written, shown.splitlines(), strict=True):
        cells = zip(line.split(","), expected.split(","), strict=True)
        # A box moves by a tenth of a pixel from one OpenCV to another.
        assert all(a == b or same_output(_in_hundreds(a), _in_hundreds(b)) for a, b in cells), line


def _in_hundreds(cell: str) -> str:
    return f"{float(cell) / 100:.4f}" if re.fullmatch(r"\d+\.\d", cell) else cell
