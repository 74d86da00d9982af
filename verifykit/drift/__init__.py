"""Drift: whether a calibration's rates still hold for the people before the camera."""

from __future__ import annotations

from verifykit.drift.state import DriftReport, LevelCount
from verifykit.drift.watch import ScoreWatch

__all__ = ["DriftReport", "LevelCount", "ScoreWatch"]
