"""A model with the options of an evaluation; mostly a detector that finds what the test wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
from PIL import Image as PilImage

import verifykit
from tests.helpers.model_specs import FACE_CROP, face_spec, signature_spec
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, ImageError, InputError
from verifykit.evaluation import embedding as model_embedder
from verifykit.evaluation.embedding import Embedder, FaceChoice, ModelEmbedder
from verifykit.extraction import SampleExtractor
from verifykit.modalities import SampleCheck
from verifykit.modalities.face import FaceQuality, QualityLimits
from verifykit.modalities.face.detector import FaceDetector
from verifykit.modalities.signature import SignatureLimits, SignatureQuality
from verifykit.spec import Cohort, OperatingPoint
from verifykit.types import Detection, Image, Template

# Nothing that a face could be refused for, and one that refuses the small.
LENIENT = QualityLimits(0.0, -1.0, 0.0, 1.0, 180.0, 180.0, 0.0)
STRICT = replace(LENIENT, min_eye_distance_px=20.0)
# (x, y) of the eyes, the nose and the mouth in a box of unit size, as a face that looks at the camera.
POINTS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.34, 0.79), (0.66, 0.79)])
LARGE_LEFT, SMALL_MIDDLE, LARGER_RIGHT = (0, 0, 80, 80), (88, 88, 24, 24), (100, 90, 90, 90)


class Detector:
    def __init__(self, *boxes_px: tuple[int, int, int, int]) -> None:
        self.boxes_px = boxes_px

    def detect(self, image: Image) -> list[Detection]:
        found = [
            Detection(
                tuple(map(float, box)),  # type: ignore[arg-type]
                tuple((box[0] + x * box[2], box[1] + y * box[3]) for x, y in POINTS),
                0.99,
            )
            for box in self.boxes_px
        ]
        return sorted(found, key=lambda each: -each.box_px[2] * each.box_px[3])


def _encode(crops: Any) -> Any:
    """What part of the picture a crop is from: see _picture."""
    means = np.stack([crop.reshape(-1, 3).mean(axis=0) for crop in crops])
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def _picture() -> Image:
    """(200, 200, 3): redder to the right, greener to the bottom."""
    y, x = np.mgrid[20:220, 20:220]
    return np.stack([x, y, np.full_like(x, 100)], axis=-1).astype(np.uint8)


def _encoder(
    *boxes_px: tuple[int, int, int, int], limits: QualityLimits = STRICT, **options: Any
) -> Encoder:
    detector = cast("FaceDetector", Detector(*boxes_px))
    return Encoder(
        face_spec(),
        _encode,
        SampleExtractor(FACE_CROP, detector, checks=[FaceQuality(limits)]),
        **options,
    )


def _box_of(row: np.ndarray, *boxes_px: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The box whose face alone gives this embedding."""
    alone = [ModelEmbedder(_encoder(box), "m", quality="warn") for box in boxes_px]
    rows = np.stack([each.embed(_picture()) for each in alone])
    assert np.all(rows @ rows.T - np.eye(len(rows)) < 0.9999)
    return boxes_px[int(np.argmax(rows @ row))]


def test_it_says_what_the_model_says() -> None:
    encoder = _encoder()
    embedder: Embedder = ModelEmbedder(encoder, "mine.onnx")
    assert isinstance(embedder, ModelEmbedder)
    assert embedder.spec is encoder.spec
    assert (embedder.model, embedder.name) == ("mine.onnx", "test-face")
    assert (embedder.modality, embedder.licence, embedder.fusion) == ("face", "Apache-2.0", "max")
    assert embedder.digest == encoder.spec.digest
    assert (embedder.multi_face, embedder.quality) == ("error", "strict")


def test_its_own_thresholds_are_of_the_decades_and_of_its_default() -> None:
    rates = (1e-1, 5e-2, 1e-2, 2e-3, 1e-3, 1e-6)
    points = tuple(OperatingPoint(fmr, 0.5, 10**8, 1) for fmr in rates)
    skilled = OperatingPoint(2e-3, 0.5, 10**8, 1, "skilled_forgery")
    encoder = _encoder()
    encoder.spec = replace(encoder.spec, operating_points=(*points, skilled), default_fmr=2e-3)
    shown = ModelEmbedder(encoder, "m").operating_points
    assert [point.fmr for point in shown] == [1e-1, 1e-2, 2e-3, 1e-3, 1e-6]
    cohort = Cohort.of(np.eye(4, dtype=np.float32), 2, 0.5)
    encoder.spec = replace(encoder.spec, cohort=cohort)
    assert ModelEmbedder(encoder, "m").cohort == cohort
    assert list(ModelEmbedder(encoder, "m").operating_points) == list(shown)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multi_face": "all"}, "multi_face must be one of .*'all'"),
        ({"quality": "no"}, "quality must"),
    ],
)
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelEmbedder(_encoder(), "m", **options)


def test_which_face_is_taken() -> None:
    boxes = (LARGE_LEFT, SMALL_MIDDLE, LARGER_RIGHT)
    encoder = _encoder(*boxes, limits=LENIENT)
    choices: tuple[tuple[FaceChoice, Any], ...] = (
        ("largest", LARGER_RIGHT),
        ("middle", SMALL_MIDDLE),
    )
    for choice, box in choices:
        row = ModelEmbedder(encoder, "m", multi_face=choice).embed(_picture())
        assert row.shape == (3,)
        assert row.dtype == np.float32
        assert _box_of(row, *boxes) == box
    with pytest.raises(AcquisitionError) as caught:
        ModelEmbedder(encoder, "m").embed(_picture())
    assert caught.value.reason == "several_faces"
    with pytest.raises(AcquisitionError) as caught:
        ModelEmbedder(_encoder(), "m", multi_face="middle").embed(_picture())
    assert caught.value.reason == "no_face"


def test_strictness_refuses_the_middle_face_and_takes_no_other() -> None:
    boxes = (LARGE_LEFT, SMALL_MIDDLE, LARGER_RIGHT)
    strict = ModelEmbedder(_encoder(*boxes), "m", multi_face="middle")
    with pytest.raises(
        AcquisitionError, match=r"nearest the middle .*\(face_too_small\)"
    ) as caught:
        strict.embed(_picture())
    assert caught.value.reason == "face_too_small"
    lenient = ModelEmbedder(_encoder(*boxes), "m", multi_face="middle", quality="warn")
    assert _box_of(lenient.embed(_picture()), *boxes) == SMALL_MIDDLE
    good = ModelEmbedder(_encoder(LARGE_LEFT, LARGER_RIGHT), "m", multi_face="middle")
    assert _box_of(good.embed(_picture()), LARGE_LEFT, LARGER_RIGHT) == LARGER_RIGHT


def test_the_middle_of_a_signature_is_the_signature() -> None:
    spec = signature_spec()
    encoder = Encoder(spec, _encode, SampleExtractor(spec.crop))
    page = np.full((200, 600, 3), 250, np.uint8)
    with pytest.raises(AcquisitionError) as caught:
        ModelEmbedder(encoder, "m", multi_face="middle").embed(page)
    assert caught.value.reason == "blank"
    page[80:120:4, 50:550] = 30
    row = ModelEmbedder(encoder, "m", multi_face="middle", quality="warn").embed(page)
    assert row.shape == (3,)


def test_an_image_that_cannot_be_read() -> None:
    for choice in get_args(FaceChoice):
        with pytest.raises(ImageError):
            ModelEmbedder(_encoder(), "m", multi_face=choice).embed(b"no image")


def test_the_key_changes_with_everything_that_an_embedding_depends_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key(encoder: Encoder, **options: Any) -> str:
        return ModelEmbedder(encoder, "m", **options).cache_key

    def acquired(*checks: SampleCheck) -> Encoder:
        return Encoder(
            face_spec(),
            _encode,
            SampleExtractor(FACE_CROP, cast("FaceDetector", Detector()), checks=checks or None),
        )

    usual = key(acquired())
    others = [
        key(acquired(), multi_face="largest"),
        key(acquired(), multi_face="middle"),
        key(acquired(), quality="warn"),
        key(acquired(FaceQuality(STRICT))),
        key(
            acquired(FaceQuality(), SignatureQuality(replace(SignatureLimits(), max_ink_share=0.5)))
        ),
        key(_encoder(limits=QualityLimits(), provider="cuda")),
        key(Encoder(face_spec(weights_sha256="c" * 64), _encode, acquired().extractor)),
    ]
    monkeypatch.setattr(model_embedder, "__version__", verifykit.__version__ + ".1")
    others.append(key(acquired()))
    assert len({usual, *others}) == 9
    monkeypatch.undo()
    # What it is called and where its thresholds stand does not change an embedding.
    same = Encoder(
        face_spec(name="other", operating_points=(), default_fmr=None),
        _encode,
        acquired().extractor,
    )
    assert ModelEmbedder(same, "other").cache_key == usual
    assert len(usual) == 64


def test_the_face_model(face_model: Path, portraits: Mapping[str, Path]) -> None:
    encoder = Encoder.open(face_model, providers="cpu", threads=1)
    (one,), (other,) = (encoder.templates(portraits[name]) for name in ("person_a_1", "person_b_1"))
    for choice in get_args(FaceChoice):
        embedder = ModelEmbedder(encoder, "face", multi_face=choice)
        row = embedder.embed(portraits["person_a_1"].read_bytes())
        assert np.allclose(row, one.embedding, atol=1e-6)
    # A small person stands in the middle, and a large one beside.
    wide = PilImage.new("RGB", (1800, 700), "grey")
    for name, side_px, place in (("person_b_1", 700, (0, 0)), ("person_a_1", 400, (700, 150))):
        with PilImage.open(portraits[name]) as opened:
            portrait = opened.convert("RGB")
        portrait.thumbnail((side_px, side_px))
        wide.paste(portrait, place)
    choices: tuple[tuple[FaceChoice, Template], ...] = (("middle", one), ("largest", other))
    for choice, wanted in choices:
        row = ModelEmbedder(encoder, "face", multi_face=choice).embed(np.array(wide))
        assert row @ wanted.embedding > 0.8
