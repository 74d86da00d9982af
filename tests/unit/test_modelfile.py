from __future__ import annotations

import base64
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.helpers.model_specs import face_spec, plain_spec
from verifykit import modelfile
from verifykit.errors import ModelContractError, ModelError, ModelIntegrityError, ModelNotFoundError


def _graph() -> bytes:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", [x], [y])
    return helper.make_model(graph).SerializeToString()


def _model(with_detector: bool = True) -> bytes:
    spec = face_spec() if with_detector else plain_spec()
    data = _graph()
    if with_detector:
        encoded = base64.b64encode(b"detector bytes").decode()
        data += modelfile.metadata_entry(modelfile.DETECTOR_KEY, encoded)
    data += modelfile.metadata_entry(modelfile.SPEC_KEY, spec.to_json())
    return modelfile.append_checksum(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(_model())
    return path


def test_reads_what_was_written(path: Path) -> None:
    file = modelfile.read(path)
    assert file.spec == face_spec()
    assert file.detector == b"detector bytes"
    assert file.data == path.read_bytes()


def test_a_plain_crop_has_no_detector(path: Path) -> None:
    path.write_bytes(_model(with_detector=False))
    assert modelfile.read(path).detector is None


def test_onnx_reads_the_same_metadata(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert list(entries) == [modelfile.DETECTOR_KEY, modelfile.SPEC_KEY, modelfile.CHECKSUM_KEY]
    assert entries[modelfile.SPEC_KEY] == face_spec().to_json()


@settings(max_examples=300)
@given(data=st.data())
def test_any_flipped_bit_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = _model()
    at = data.draw(st.integers(0, len(good) - 1))
    bit = data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flip") / "model.onnx"
    path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
    with pytest.raises(ModelIntegrityError):
        modelfile.read(path)


@pytest.mark.parametrize("size", [0, 1, 50, 200, -1])
def test_a_cut_file_is_found(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelIntegrityError):
        modelfile.read(path)


@settings(max_examples=200)
@given(junk=st.binary(max_size=300))
def test_junk_is_a_model_error(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "model.onnx"
    path.write_bytes(junk)
    with pytest.raises(ModelError):
        modelfile.read(path)


def test_a_foreign_onnx_model_is_told_apart_from_a_damaged_one(path: Path) -> None:
    path.write_bytes(_graph())
    with pytest.raises(ModelContractError, match="will not be guessed"):
        modelfile.read(path)


def test_missing_parts_are_named(path: Path) -> None:
    path.write_bytes(modelfile.append_checksum(_graph()))
    with pytest.raises(ModelContractError, match=r"no verifykit\.spec"):
        modelfile.read(path)
    spec = modelfile.metadata_entry(modelfile.SPEC_KEY, face_spec().to_json())
    path.write_bytes(modelfile.append_checksum(_graph() + spec))
    with pytest.raises(ModelContractError, match=r"verifykit\.detector is missing"):
        modelfile.read(path)


def test_no_file_and_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(ModelNotFoundError, match="verifykit models list"):
            modelfile.read(path)


def test_another_specification_of_the_same_network(path: Path) -> None:
    file = modelfile.read(path)
    assert modelfile.with_spec(file, file.spec) == file.data
    bare = face_spec(operating_points=(), default_fmr=None)
    path.write_bytes(modelfile.with_spec(file, bare))
    again = modelfile.read(path)
    assert (again.spec, again.detector) == (bare, file.detector)
    # One specification is in it, not the old one beside the new.
    entries = [entry.key for entry in onnx.load(path).metadata_props]
    assert entries == [modelfile.DETECTOR_KEY, modelfile.SPEC_KEY, modelfile.CHECKSUM_KEY]
    assert modelfile.with_spec(again, file.spec) == file.data
    assert onnx.load(path).graph == onnx.load_model_from_string(file.data).graph


def test_a_specification_of_another_network_is_refused(path: Path) -> None:
    with pytest.raises(ModelContractError, match="only what is not part of the digest"):
        modelfile.with_spec(modelfile.read(path), face_spec(weights_sha256="c" * 64))
