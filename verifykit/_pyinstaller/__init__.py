"""Hooks for PyInstaller, which finds this package by the entry point ``pyinstaller40``."""

from __future__ import annotations

from pathlib import Path


def hook_folders() -> list[str]:
    """Return where ``hook-verifykit.py`` is."""
    return [str(Path(__file__).parent)]
