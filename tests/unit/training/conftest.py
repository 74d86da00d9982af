"""Fixtures for the tests of training; without torch (the extra ``train``) none of them is collected."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("lightning_fabric") else ["test_*.py"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test here computes with torch."""
