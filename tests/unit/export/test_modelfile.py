from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.helpers.model_specs import DETECTOR, FACE_CROP, face_spec, plain_spec
from tests.unit.export.networks import model, normal, run
from verifykit import modelfile
from verifykit.errors import ModelContractError, ModelIntegrityError
from verifykit.spec import ModelSpec
from verifykit_export.modelfile import weights_digest, write_model


def _network(factor: float = 1.0) -> onnx.ModelProto:
    nodes = [helper.make_node("Flatten", ["x"], ["a"]), helper.make_node("Mul", ["a", "f"], ["y"])]
    constants = {"f": np.full(4, factor, np.float32)}
    return model(nodes, constants, ["n", 1, 2, 2], {"y": ["n", 4]})


def _plain(network: onnx.ModelProto, name: str = "test") -> ModelSpec:
    return replace(plain_spec(weights_sha256=weights_digest(network)), name=name)


def _face(encoder: onnx.ModelProto, detector: onnx.ModelProto) -> ModelSpec:
    crop = replace(FACE_CROP, detector=replace(DETECTOR, weights_sha256=weights_digest(detector)))
    return face_spec(weights_sha256=weights_digest(encoder), crop=crop)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    encoder, detector = _network(), _network(2.0)
    spec = _face(encoder, detector)
    path = tmp_path / "m.onnx"
    write_model(path, encoder, spec, detector)
    found = modelfile.read(path)
    assert found.spec == spec
    assert found.spec.digest == spec.digest
    assert found.detector is not None
    assert weights_digest(onnx.load_model_from_string(found.detector)) == weights_digest(detector)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_other_readers_see_one_valid_model(tmp_path: Path) -> None:
    encoder, path = _network(3.0), tmp_path / "m.onnx"
    spec = _plain(encoder)
    write_model(path, encoder, spec)
    found = onnx.load(path)
    onnx.checker.check_model(found, full_check=True)
    metadata = {item.key: item.value for item in found.metadata_props}
    assert list(metadata) == [modelfile.SPEC_KEY, modelfile.CHECKSUM_KEY]
    assert metadata[modelfile.SPEC_KEY] == spec.to_json()
    assert weights_digest(found) == spec.weights_sha256
    np.testing.assert_array_equal(run(found, normal(1, 1, 2, 2)), run(encoder, normal(1, 1, 2, 2)))


def test_equal_models_give_equal_bytes_and_old_metadata_do_not_stay(tmp_path: Path) -> None:
    first, second = _network(), _network()
    helper.set_model_props(second, {modelfile.SPEC_KEY: "an older one"})
    for name, network in (("a", first), ("b", second)):
        write_model(tmp_path / name, network, _plain(network))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("position", [0.0, 0.3, 0.6, 0.9, 0.999999])
def test_a_flipped_byte_is_found(tmp_path: Path, position: float) -> None:
    path, encoder = tmp_path / "m.onnx", _network()
    write_model(path, encoder, _plain(encoder))
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelIntegrityError):
        modelfile.read(path)


def test_a_specification_of_other_weights_is_refused(tmp_path: Path) -> None:
    path, encoder, detector = tmp_path / "m.onnx", _network(), _network(2.0)
    with pytest.raises(ModelContractError, match="encoder: the specification states weights"):
        write_model(path, _network(5.0), _plain(encoder))
    with pytest.raises(ModelContractError, match="detector: the specification states weights"):
        write_model(path, encoder, _face(encoder, detector), _network(5.0))
    assert not list(tmp_path.iterdir())


def test_a_detector_comes_with_the_crop_that_needs_it(tmp_path: Path) -> None:
    path, encoder, detector = tmp_path / "m.onnx", _network(), _network(2.0)
    with pytest.raises(ModelContractError, match="a detector was not given"):
        write_model(path, encoder, _face(encoder, detector))
    with pytest.raises(ModelContractError, match="the crop is plain, a detector was given"):
        write_model(path, encoder, _plain(encoder), detector)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, encoder = tmp_path / "m.onnx", _network()
    write_model(path, encoder, _plain(encoder))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_model(path, encoder, _plain(encoder, name="newer"))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def _write_often(path: Path, name: str) -> None:
    encoder = _network()
    for _ in range(25):
        write_model(path, encoder, _plain(encoder, name=name))


def test_two_processes_that_write_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    _write_often(path, "first")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(path, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert modelfile.read(path).spec.name in {"first", "a", "b"}
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert modelfile.read(path).spec.name in {"a", "b"}
