"""Subjects whose templates version 0.1 made are verified."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

import verifykit as vk
from verifykit.encoder import Encoder
from verifykit.image import load_image
from verifykit.types import Image, Template

OF_0_1 = Path(__file__).parents[1] / "contract" / "face_embeddings_0.1.json"


def canvas(path: Path, face_px: int, side_px: int = 1000) -> Image:
    """Return a portrait of this height in the middle of a grey square."""
    portrait = load_image(path)
    width_px = round(face_px * portrait.shape[1] / portrait.shape[0])
    image = np.full((side_px, side_px, 3), 127, np.uint8)
    top, left = (side_px - face_px) // 2, (side_px - width_px) // 2
    image[top : top + face_px, left : left + width_px] = cv2.resize(
        portrait, (width_px, face_px), interpolation=cv2.INTER_AREA
    )
    return image


@pytest.mark.parametrize("face_px", [300, 600, 900])
@pytest.mark.parametrize("multi_face", ["error", "largest"])
def test_subjects_enrolled_by_version_0_1_are_verified(
    encoder: Encoder,
    portraits: Mapping[str, Path],
    multi_face: Literal["error", "largest"],
    face_px: int,
) -> None:
    stored = json.loads(OF_0_1.read_text(encoding="utf-8"))
    assert stored["digest"] == encoder.spec.digest
    verifier = vk.Verifier(encoder, multi_face=multi_face, quality="warn")
    for name, data in stored["embeddings"].items():
        row = np.frombuffer(base64.b64decode(data), "<f4")
        verifier.gallery.add(name, [Template(row, stored["digest"])])
    for subject, other in (("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")):
        assert verifier.verify(subject, canvas(portraits[other], face_px))
        assert not verifier.verify(subject, canvas(portraits["obama"], face_px))
    assert verifier.verify("obama", canvas(portraits["obama2"], face_px))
