"""The real face model, and two people enrolled with it in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import verifykit as vk
from verifykit.encoder import Encoder


@pytest.fixture(scope="session")
def encoder(face_model: Path) -> Encoder:
    return Encoder.open(face_model, threads=2)


@pytest.fixture
def verifier(encoder: Encoder, portraits: Mapping[str, Path], tmp_path: Path) -> vk.Verifier:
    """Two people enrolled in a gallery file."""
    verifier = vk.Verifier(encoder, gallery=tmp_path / "people.db")
    verifier.enroll("person_a", portraits["person_a_1"])
    verifier.enroll("person_b", portraits["person_b_1"])
    return verifier
