"""Runs the command ``verifykit-export`` in this process, and looks at what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from verifykit_export.cli import main

__all__ = ["command", "refused"]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["verifykit-export", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], status: int, target: Path, *, because: str) -> None:
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert because in error
    assert list(target.parent.iterdir()) == []
