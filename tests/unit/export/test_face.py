from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import verifykit_export.face
from tests.helpers.model_specs import FACE_INPUT
from verifykit import modelfile
from verifykit.calibration import Calibration
from verifykit.errors import (
    CalibrationError,
    ModelContractError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from verifykit.models import calibration_digest, registered
from verifykit.spec import FivePointCrop
from verifykit_export.face import SFACE, YUNET, WeightsSource, build_face
from verifykit_export.modelfile import golden_embedding, weights_digest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.onnx"
    build_face(path)
    return path


def test_a_second_build_gives_the_same_bytes(built: Path, face_model: Path) -> None:
    assert face_model.read_bytes() == built.read_bytes()


def test_the_build_is_the_registered_model(built: Path) -> None:
    spec, entry = modelfile.read(built).spec, registered()["face"]
    assert (spec.digest, calibration_digest(spec)) == (entry.spec_digest, entry.calibration_digest)
    assert entry.disagreement(spec) is None
    assert entry.carrier == f"{SFACE.package}=={SFACE.version}"
    assert entry.extra == SFACE.extra == YUNET.extra


def test_the_file_holds_both_networks(
    built: Path, encoder: onnx.ModelProto, detector: onnx.ModelProto
) -> None:
    found = modelfile.read(built)
    assert isinstance(found.spec.crop, FivePointCrop)
    assert found.spec.embedding_size == 128
    assert found.detector is not None
    for data, stated in (
        (found.data, found.spec.weights_sha256),
        (found.detector, found.spec.crop.detector.weights_sha256),
    ):
        assert weights_digest(onnx.load_model_from_string(data)) == stated
    # The graph's name is no part of the digest.
    assert weights_digest(encoder) == found.spec.weights_sha256
    assert weights_digest(detector) == found.spec.crop.detector.weights_sha256


@pytest.mark.parametrize("name", ["SFACE", "YUNET"])
def test_a_carrier_with_other_bytes_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: WeightsSource = getattr(verifykit_export.face, name)
    data = bytearray(source.read())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(data)
    monkeypatch.setattr(
        verifykit_export.face, name, replace(source, path=str(tmp_path / "damaged.onnx"))
    )
    with pytest.raises(ModelIntegrityError, match=source.sha256):
        build_face(tmp_path / "face.onnx")
    assert not (tmp_path / "face.onnx").exists()


def test_a_missing_carrier_names_the_extra() -> None:
    for missing in (replace(SFACE, package="no-such-package"), replace(SFACE, path="no/such.onnx")):
        with pytest.raises(ModelNotFoundError, match=r'pip install "verifykit-sdk\[face\]"'):
            missing.read()


def test_without_onnx_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from verifykit import models, errors\n"
        "try: models.load('face')\n"
        "except errors.ModelNotFoundError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"VERIFYKIT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'pip install "verifykit-sdk[face]"' in run.stdout, run.stderr


def test_a_golden_that_would_not_find_swapped_channels_is_refused(
    encoder: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("verifykit_export.modelfile.SWAPPED_COSINE", -1.0)
        with pytest.raises(ModelContractError, match="red and blue swapped"):
            golden_embedding(encoder, FACE_INPUT)
    plain = golden_embedding(encoder, FACE_INPUT)
    mirrored = golden_embedding(encoder, replace(FACE_INPUT, mirror=True))
    assert len(plain) == len(mirrored) == 128
    assert sum(a * b for a, b in zip(plain, mirrored, strict=True)) < 0.99999


def test_it_can_be_built_without_thresholds_to_measure_them(built: Path, tmp_path: Path) -> None:
    build_face(tmp_path / "bare.onnx", calibrated=False)
    bare, spec = modelfile.read(tmp_path / "bare.onnx").spec, modelfile.read(built).spec
    assert (bare.operating_points, bare.evidence) == ((), ())
    assert (bare.default_fmr, bare.fusion, bare.digest) == (1e-4, "mean", spec.digest)
    assert bare.provenance.calibration_data == "none"
    kept = Calibration.read(Path(verifykit_export.face.__file__).with_name("face_calibration.json"))
    assert kept.apply(bare) == spec
    assert spec.operating_points == kept.operating_points != ()
    assert spec.default_fmr == 1e-4


def test_a_calibration_of_another_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifykit_export.face, "_INPUT", replace(FACE_INPUT, mirror=True))
    with pytest.raises(CalibrationError, match="not of 'face'"):
        build_face(tmp_path / "face.onnx")
    assert not (tmp_path / "face.onnx").exists()
