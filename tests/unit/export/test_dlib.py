from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.unit.export import dlib_writer
from tests.unit.export.dlib_writer import Written, small_network
from verifykit.errors import ModelContractError, ModelIntegrityError
from verifykit.modalities import golden_image
from verifykit_export.dlib_file import read_dlib
from verifykit_export.dlib_network import dlib_to_onnx
from verifykit_export.face_plus import DLIB
from verifykit_export.parity import open_session

IMAGE = np.random.default_rng(1).integers(0, 256, (27, 27, 3), dtype=np.uint8)


def answer(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    tensor = images.transpose(0, 3, 1, 2).astype(np.float32)
    return np.asarray(open_session(model).run(tensor)[0], np.float32)


@pytest.mark.parametrize("bias", [False, True])
def test_a_network_answers_as_its_layers_do_one_by_one(bias: bool) -> None:
    net = small_network(IMAGE, bias=bias)
    model = dlib_to_onnx(read_dlib(net.to_bytes()), "small")
    several = np.stack([IMAGE, IMAGE[:, ::-1]])
    rows = answer(model, several)
    assert rows.shape == (2, 5)
    assert np.allclose(rows[0], net.current, rtol=1e-4, atol=1e-4)
    assert np.allclose(rows[1], small_network(several[1], bias=bias).current, rtol=1e-4, atol=1e-4)
    assert not np.allclose(rows[0], rows[1], atol=0.1)
    assert not any(node.op_type == "Mul" for node in model.graph.node)


def test_what_a_file_states() -> None:
    found = read_dlib(small_network(IMAGE).to_bytes())
    assert (found.height_px, found.width_px) == (27, 27)
    assert np.allclose(found.mean, dlib_writer.MEAN, atol=1e-4)
    kinds = [layer.kind for layer in found.layers]
    assert kinds[:4] == ["con", "affine", "relu", "max_pool"]
    assert kinds.count("keep") == kinds.count("add_prev") == 2
    assert kinds.count("exchange") == 1


@pytest.mark.parametrize("at", range(0, 3600, 181))
def test_a_file_cut_short_is_refused_in_one_line(at: int) -> None:
    data = small_network(IMAGE).to_bytes()
    with pytest.raises((ModelIntegrityError, ModelContractError)) as caught:
        read_dlib(data[: min(at, len(data) - 1)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_gives_a_network_or_an_error_of_its_own(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(small_network(IMAGE).to_bytes())
    for at in random.integers(0, len(data), 3):
        data[at] = random.integers(256)
    try:
        dlib_to_onnx(read_dlib(bytes(data)), "damaged")
    except (ModelIntegrityError, ModelContractError) as error:
        message = str(error)
    else:
        return
    assert "\n" not in message
    assert len(message) < 400


def test_a_file_of_another_network_says_which() -> None:
    net = small_network(IMAGE)
    with pytest.raises(ModelContractError, match="loss_mmod_"):
        read_dlib(net.to_bytes("loss_mmod_"))
    with pytest.raises(ModelContractError, match="bn_con2"):
        read_dlib(net.to_bytes().replace(b"affine_", b"bn_con2"))
    with pytest.raises(ModelIntegrityError, match="7 bytes follow"):
        read_dlib(net.to_bytes() + b"further")


def test_layers_that_do_not_fit_each_other_are_refused() -> None:
    values = np.ones((4, 3, 3, 3), np.float32)
    net = Written.of(IMAGE)
    net.con(values, values[:, 0, 0, 0], 1, 1)
    with pytest.raises(ModelContractError, match="first convolution has padding"):
        dlib_to_onnx(read_dlib(net.to_bytes()), "padded")
    net = Written.of(IMAGE)
    net.con(values, values[:, 0, 0, 0], 1, 0)
    size = net.current.size
    net.fc(np.ones((size, 2), np.float32))
    stated = dlib_writer.text("fc_2") + dlib_writer.sizes(2, size)
    other = dlib_writer.text("fc_2") + dlib_writer.sizes(2, size - 1)
    with pytest.raises(ModelIntegrityError, match="its sizes require 4998"):
        read_dlib(net.to_bytes().replace(stated, other))


@pytest.mark.slow
def test_the_network_of_the_carrier_answers_as_dlib_does() -> None:
    dlib = pytest.importorskip("dlib", reason="needs the package dlib-bin")
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)
    images = np.stack([golden_image(150, 150), *noise])
    theirs = dlib.face_recognition_model_v1(str(DLIB.locate()))
    expected = np.array([theirs.compute_face_descriptor(image) for image in images])
    found = answer(dlib_to_onnx(read_dlib(DLIB.read()), "dlib"), images)
    assert np.abs(found - expected).max() <= 1e-5
