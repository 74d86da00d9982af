"""The page on the audit log, at a fixed time and for a fixed log id: its hashes come out as shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.helpers.run_document import run_document

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "audit-log.md"


def test_the_page_on_the_audit_log_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_process: Callable[[str], tuple[int, str, str]],
) -> None:
    minutes = count(1)

    def now() -> str:
        return f"2026-11-25T08:{next(minutes):02}:00.000Z"

    monkeypatch.setattr("verifykit.audit.log.now", now)
    monkeypatch.setattr("verifykit.audit.log.secrets.token_hex", lambda size: "5a" * size)
    monkeypatch.setattr("tests.helpers.run_document.NAMES", {})  # no portraits
    monkeypatch.chdir(tmp_path)
    statuses = []

    def run(command: str) -> tuple[int, str, str]:
        ran = in_process(command)
        statuses.append(ran[0])
        return ran

    assert run_document(PAGE, run=run) == {"python": 4, "console": 6}
    assert statuses == [0, 0, 1, 1, 0, 0]
    (shown,) = re.findall(
        r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert Path("alice.csv").read_text("utf-8") == shown
