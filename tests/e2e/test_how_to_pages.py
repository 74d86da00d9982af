"""The examples of the pages on one command or one extra are run."""

from __future__ import annotations

import pytest

from tests.helpers.documents import DOCS
from tests.helpers.run_document import Run, run_document


@pytest.mark.parametrize(
    ("page", "python", "console"),
    [
        ("README", 1, 0),
        ("tutorial/first-steps", 5, 4),
        ("how-to/compare", 2, 4),
        ("how-to/identify", 2, 3),
        ("how-to/install", 1, 1),
        ("how-to/manage-a-gallery", 1, 14),
        ("how-to/models", 1, 5),
        ("how-to/templates", 5, 0),
        ("how-to/watch-scores", 2, 2),
        ("how-to/execution-providers", 1, 2),
    ],
)
@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_a_page_runs(page: str, python: int, console: int, in_process: Run) -> None:
    ran = run_document(DOCS / f"{page}.md", run=in_process)
    assert ran == {"python": python, "console": console}
