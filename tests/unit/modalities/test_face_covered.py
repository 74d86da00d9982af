"""Covered faces: drawn sunglasses and masks are found, glasses and beards of portraits are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

import verifykit as vk
from verifykit.encoder import Encoder
from verifykit.evaluation import ModelEmbedder
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import load_image
from verifykit.modalities.face import CoveredCheck, CoveredLimits
from verifykit.modalities.face.covered import measure_covered, measure_regions
from verifykit.modalities.face.covered_model import MODELS
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.ops import golden_image, similarity_transform
from verifykit.types import Image

NAMES = (
    "person_a_1",
    "person_a_2",
    "person_b_1",
    "person_b_2",
    "impostor_1",
    "impostor_2",
    "biden",
)
LENIENT = SampleOptions("largest", "warn")
MASK = [(16, 64), (40, 66), (56, 60), (72, 66), (96, 64), (92, 96), (76, 112), (36, 112), (20, 96)]


@pytest.fixture(scope="module")
def encoder(face_model: Path) -> Encoder:
    return Encoder.open(face_model, threads=2)


@pytest.fixture
def extractor(encoder: Encoder) -> SampleExtractor:
    return encoder.extractor


def painted(
    extractor: SampleExtractor, image: Image, shapes: list[np.ndarray], color: tuple[int, int, int]
) -> Image:
    """The image with polygons, given in pixels of the aligned crop, on its face."""
    detection = extractor.samples(image, LENIENT)[0].detection
    assert detection is not None
    matrix = similarity_transform(ARCFACE_112_PX, detection.landmarks_px)
    image = image.copy()
    for shape in shapes:
        points = shape @ matrix[:, :2].T + matrix[:, 2]
        cv2.fillPoly(image, [points.round().astype(np.int32)], color)
    return image


def sunglasses(extractor: SampleExtractor, image: Image) -> Image:
    t = np.linspace(0, 2 * np.pi, 24)
    lenses = [np.stack([x + 16 * np.cos(t), 52 + 12 * np.sin(t)], 1) for x in (38, 74)]
    return painted(extractor, image, lenses, (15, 15, 15))


def mask(extractor: SampleExtractor, image: Image) -> Image:
    return painted(extractor, image, [np.array(MASK, float)], (140, 190, 215))


@pytest.mark.parametrize("name", NAMES)
def test_a_cover_is_found_and_named(
    extractor: SampleExtractor, portraits: Mapping[str, Path], name: str
) -> None:
    image = load_image(portraits[name])
    (bare,) = extractor.samples(image, LENIENT)
    assert "covered" not in bare.reasons
    assert max(bare.quality[each] for each in MODELS) < 0.05
    for draw, measure in ((sunglasses, "covered_eyes"), (mask, "covered_mouth")):
        sample = extractor.samples(draw(extractor, image), LENIENT)[0]
        assert "covered" in sample.reasons
        assert sample.quality[measure] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_weak_light_grey_and_mirroring_cover_nothing(
    extractor: SampleExtractor, portraits: Mapping[str, Path], name: str
) -> None:
    image = load_image(portraits[name])
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    for shown in (grey, mirrored, (image * 0.4).astype(np.uint8)):
        assert "covered" not in extractor.samples(shown, LENIENT)[0].reasons


def test_a_covered_face_is_refused_at_enrollment_and_a_warning_of_a_probe(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    verifier = vk.Verifier(encoder)
    image, other = (load_image(portraits[f"person_a_{number}"]) for number in (1, 2))
    masked = mask(encoder.extractor, other)
    with pytest.raises(vk.AcquisitionError) as caught:
        verifier.enroll("a", masked)
    assert caught.value.reason == "covered"
    report = verifier.enroll("a", [image, masked])
    assert [refused.reason for refused in report.refused] == ["covered"]
    assert verifier.verify("a", masked).warnings == ("covered",)
    assert verifier.compare(masked, image).warnings == ("covered",)
    assert verifier.extract(masked, role="probe").reasons == ("covered",)
    with pytest.raises(vk.AcquisitionError) as kept:
        verifier.extract(masked)
    assert kept.value.reason == "covered"
    for candidate in verifier.identify(masked, threshold=-1.0):
        assert candidate.warnings == ("covered",)
    assert verifier.verify("a", other).warnings == ()
    lenient = verifier.enroll("b", masked, quality="warn")
    assert any("covered" in warning for warning in lenient.warnings)


def test_a_probe_is_refused_for_another_reason_that_it_has_too(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    masked = mask(encoder.extractor, load_image(portraits["person_b_2"]))
    dark = (masked * 0.1).astype(np.uint8)
    sample = encoder.extractor.samples(dark, LENIENT)[0]
    assert sample.reasons == ("too_dark", "covered")
    with pytest.raises(vk.AcquisitionError) as caught:
        vk.Verifier(encoder).extract(dark)
    assert caught.value.reason == "too_dark"


def test_an_evaluation_takes_a_covered_face_as_a_probe(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    masked = mask(encoder.extractor, load_image(portraits["person_b_2"]))
    for choice in ("error", "middle"):
        embedder = ModelEmbedder(encoder, "face", multi_face=choice)
        probe = vk.Verifier(encoder).extract(masked, role="probe")
        assert embedder.embed(masked) @ probe.embedding > 0.9999


def test_the_limit_is_an_option(encoder: Encoder, portraits: Mapping[str, Path]) -> None:
    image = load_image(portraits["person_a_2"])
    extractor = encoder.extractor
    never = SampleExtractor(
        extractor.spec, extractor.detector, checks=[CoveredCheck(CoveredLimits(1.0))]
    )
    masked = mask(extractor, image)
    assert extractor.samples(masked, LENIENT)[0].reasons == ("covered",)
    assert never.samples(masked, role="enrollment")[0].reasons == ()


def test_measures_of_any_crop_are_finite() -> None:
    rng = np.random.default_rng(0)
    crops = [np.full((112, 112, 3), value, np.uint8) for value in (0, 128, 255)]
    crops += [rng.integers(0, 256, (112, 112, 3), np.uint8), np.zeros((224, 224, 3), np.uint8)]
    for crop in crops:
        assert np.isfinite(list(measure_regions(crop).values())).all()
        assert all(0.0 <= value <= 1.0 for value in measure_covered(crop).values())


def test_regions_are_measured_as_the_plain_means() -> None:
    """Against percentiles and means of numpy, part by part."""
    crop = cv2.GaussianBlur(golden_image(112, 112), (0, 0), 1.2)
    found = measure_regions(crop)
    lab = cv2.cvtColor(crop.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    low, middle, high = np.percentile(lab[36:104, 28:84, 0], (5, 50, 95))
    light = (lab[..., 0] - middle) / max(high - low, 8.0)
    across = np.abs(np.diff(light, axis=1, prepend=light[:, :1]))
    down = np.abs(np.diff(light, axis=0, prepend=light[:1]))
    changes = np.hypot(across, down)
    right, left = np.s_[44:60, 24:50], np.s_[44:60, 62:88]
    brow = lab[20:34, 36:76, 1:].mean(axis=(0, 1))
    textures = [np.log(changes[side].mean() + 0.004) for side in (right, left)]
    expected = {
        "eyes lightness": (light[right].mean() + light[left].mean()) / 2,
        "eyes lightness sides": abs(light[right].mean() - light[left].mean()),
        "eyes texture": np.mean(textures),
        "eyes texture sides": abs(textures[0] - textures[1]),
        "nose spread": np.log(light[60:74, 48:64].std() + 0.02),
        "chin grain": np.log(
            (down[101:112, 44:68].mean() + 0.002) / (across[101:112, 44:68].mean() + 0.002)
        ),
        "mouth red": lab[86:99, 40:72, 1].mean(),
        "nose from brow": np.hypot(*(lab[60:74, 48:64, 1:].mean(axis=(0, 1)) - brow)),
        "mouth asymmetry": np.abs(light[64:104, 24:88] - light[64:104, 24:88][:, ::-1]).mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)
