"""The largest face is looked for in a small copy first, and found wherever it is found at full size."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

import verifykit as vk
from verifykit.encoder import Encoder
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.modalities.face import FaceDetector
from verifykit.session import Session
from verifykit.types import Image, MultiFace, Template

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


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The longer side of each input of the detector."""
    seen: list[int] = []
    run = Session.run

    def counted(session: Session, tensor: np.ndarray) -> Any:
        if tensor.shape[-1] != 112:
            seen.append(max(tensor.shape[2:]))
        return run(session, tensor)

    monkeypatch.setattr(Session, "run", counted)
    return seen


@pytest.mark.parametrize(
    ("multi_face", "face_px", "sides"),
    [
        ("largest", 900, [320]),
        ("largest", 200, [320, 640]),
        ("error", 900, [640]),
        ("all", 900, [640]),
    ],
)
def test_the_size_depends_on_the_faces_that_are_used(
    encoder: Encoder,
    portraits: Mapping[str, Path],
    runs: list[int],
    multi_face: MultiFace,
    face_px: int,
    sides: list[int],
) -> None:
    image = canvas(portraits["person_a_2"], face_px)
    (sample,) = encoder.extractor.samples(image, SampleOptions(multi_face, "warn"))
    assert runs == sides
    assert sample.detection is not None
    left, top, width, height = sample.detection.box_px
    assert 0 < left < 500 < left + width < 1000
    assert 0 < top < 500 < top + height < 1000


def test_a_rotated_face_is_turned_upright(encoder: Encoder, portraits: Mapping[str, Path]) -> None:
    image = canvas(portraits["person_a_2"], 900)
    detector = encoder.extractor.detector
    assert isinstance(detector, FaceDetector)
    for quarters in range(4):
        rotated = np.ascontiguousarray(np.rot90(image, quarters))
        assert detector.detect_largest(rotated)[0].turned_deg == -90 * quarters % 360


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
