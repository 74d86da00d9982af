"""What holds for every registered model and every crop; a new one is added by its name alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.model_specs import FACE_CROP
from verifykit.encoder import Encoder
from verifykit.modalities import crop, golden_image, to_tensor
from verifykit.models import card, load, registered
from verifykit.spec import CropSpec, ModelSpec, PlainCrop, SignatureCrop

LANDMARKS_PX = [(91.0, 118.0), (139.0, 116.0), (115.0, 146.0), (95.0, 170.0), (136.0, 169.0)]
CROPS = (
    FACE_CROP,
    PlainCrop(28, 28, "stretch"),
    PlainCrop(112, 96, "cover"),
    SignatureCrop(96, 288),
)


@pytest.fixture(scope="module", params=sorted(registered()))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return Encoder.open(load(request.param), threads=2)


def test_a_model_is_what_the_registry_says(encoder: Encoder) -> None:
    entry = registered()[encoder.spec.name]
    assert entry.disagreement(encoder.spec) is None
    assert encoder.spec.licence
    assert encoder.spec.provenance.training_data
    assert entry.licence in card(entry.name)


def test_its_specification_survives_json(encoder: Encoder) -> None:
    again = ModelSpec.from_json(encoder.spec.to_json())
    assert again == encoder.spec
    assert again.digest == encoder.spec.digest


def test_its_embeddings_are_unit_rows_and_repeatable(encoder: Encoder) -> None:
    spec = encoder.spec
    golden = golden_image(spec.input.height_px, spec.input.width_px)
    crops = [golden, golden[:, ::-1], 255 - golden]
    rows = encoder.encode(crops)
    assert rows.shape == (3, spec.embedding_size)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(rows, encoder.encode(crops))
    assert float(rows[0] @ np.array(spec.golden_embedding, np.float32)) > 0.9999


def test_a_lower_rate_asks_for_a_higher_threshold(encoder: Encoder) -> None:
    every = encoder.spec.operating_points
    for kind in {(point.attack, point.reference_count) for point in every}:
        points = [p for p in every if (p.attack, p.reference_count) == kind]
        points.sort(key=lambda point: point.fmr)
        thresholds = [point.threshold for point in points]
        assert thresholds == sorted(thresholds, reverse=True)
        assert all(p.false_match_count <= p.fmr * p.non_mated_count for p in points)
    assert encoder.spec.operating_point().fmr == encoder.spec.default_fmr


@pytest.mark.parametrize("spec", CROPS, ids=lambda spec: f"{spec.kind}-{spec.height_px}")
@pytest.mark.parametrize("size", [(300, 260), (260, 300), (1200, 900)])
def test_a_crop_has_its_size_and_leaves_the_image_alone(
    spec: CropSpec, size: tuple[int, int]
) -> None:
    image = golden_image(*size)
    before = image.copy()
    done = crop(image, spec, landmarks_px=LANDMARKS_PX)
    assert done.shape == (spec.height_px, spec.width_px, 3)
    assert done.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(done, crop(image, spec, landmarks_px=LANDMARKS_PX))


def test_a_crop_is_what_to_tensor_takes(encoder: Encoder) -> None:
    spec = encoder.spec
    done = crop(golden_image(300, 260), spec.crop, landmarks_px=LANDMARKS_PX)
    tensor = to_tensor([done], spec.input)
    assert tensor.shape == (1, spec.input.channels, spec.input.height_px, spec.input.width_px)
