"""The package gives everything that its rooms make public."""

from __future__ import annotations

import importlib

import verifykit.metrics

ROOMS = ("acquisition", "distributions", "intervals", "likelihood", "open_set", "rates")


def test_every_public_name_is_at_the_top() -> None:
    names = [
        name
        for room in ROOMS
        for name in importlib.import_module(f"verifykit.metrics.{room}").__all__
    ]
    assert verifykit.metrics.__all__ == sorted(names)
