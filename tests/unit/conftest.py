"""A small real image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from verifykit.types import Image


@pytest.fixture(scope="session")
def portrait(portraits: Mapping[str, Path]) -> PilImage.Image:
    """A portrait, 60 x 48 pixels: small, and not square."""
    with PilImage.open(portraits["person_a_2"]) as opened:
        return opened.convert("RGB").resize((48, 60), PilImage.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def upright(portrait: PilImage.Image) -> Image:
    return np.array(portrait)
