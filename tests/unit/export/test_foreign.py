from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from tests.unit.export.networks import model, normal, operators, pixels, run
from tests.unit.export.opencv_network import HEADS, OpenCVNetwork
from verifykit.errors import ModelContractError
from verifykit_export.face import SFACE, YUNET
from verifykit_export.foreign import import_detector, import_encoder
from verifykit_export.network import Network
from verifykit_export.passes import (
    drop_dead,
    drop_identities,
    fold_batch_norm,
    fold_constants,
    fold_scale,
    free_dimensions,
    merge_siblings,
    rewrite_prelu,
    sink_splits,
)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def _rounding(head: NDArray[np.float32]) -> float:
    """64 float32 units of a head's greatest value: 35 convolutions round, each in any order of its terms."""
    return 64 * float(np.finfo(np.float32).eps) * max(1.0, float(np.abs(head).max()))


def test_the_encoder_is_opencvs_own_network(encoder: onnx.ModelProto) -> None:
    peer = OpenCVNetwork(SFACE)
    for seed in range(4):
        noise = pixels(16, 16, 3, seed=seed).astype(np.uint8)
        picture = cv2.resize(noise, (112, 112), interpolation=cv2.INTER_CUBIC)
        tensor = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
        (expected,) = peer.run(tensor, "data", ["fc1"])
        assert 1.0 - _cosine(run(encoder, tensor)[0], expected) < 1e-9


def test_the_encoder_is_opencvs_own_network_on_real_portraits(
    encoder: onnx.ModelProto, portraits: Mapping[str, Path]
) -> None:
    peer = OpenCVNetwork(SFACE)
    for name in ("person_a_1", "person_b_1", "impostor_1"):
        picture = cv2.cvtColor(cv2.imread(str(portraits[name])), cv2.COLOR_BGR2RGB)
        picture = cv2.resize(picture, (112, 112), interpolation=cv2.INTER_AREA)
        tensor = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
        (expected,) = peer.run(tensor, "data", ["fc1"])
        assert 1.0 - _cosine(run(encoder, tensor)[0], expected) < 1e-9


@pytest.mark.parametrize("size", [(640, 640), (480, 320), (32, 96)])
def test_the_detectors_heads_are_opencvs(
    detector: onnx.ModelProto, size: tuple[int, int], portraits: Mapping[str, Path]
) -> None:
    picture = cv2.imread(str(portraits["person_a_1"]))
    tensor = cv2.dnn.blobFromImage(cv2.resize(picture, (size[1], size[0])))
    expected = OpenCVNetwork(YUNET).run(tensor, "input", HEADS)
    answers = dict(zip((o.name for o in detector.graph.output), run(detector, tensor), strict=True))
    assert set(answers) == set(HEADS)
    for name, head in zip(HEADS, expected, strict=True):
        assert answers[name].shape == head.shape
        np.testing.assert_allclose(answers[name], head, rtol=0, atol=_rounding(head))


def test_one_image_alone_is_the_same_as_among_seven(
    encoder: onnx.ModelProto, detector: onnx.ModelProto
) -> None:
    for network, size in ((encoder, (112, 112)), (detector, (64, 96))):
        tensor = pixels(7, 3, *size)
        together = run(network, tensor)
        for index in (0, 6):
            alone = run(network, tensor[index : index + 1])
            for some, one in zip(together, alone, strict=True):
                np.testing.assert_allclose(some[index], one[0], rtol=1e-4, atol=1e-5)


def test_every_pass_leaves_the_encoders_answer(sface: onnx.ModelProto) -> None:
    network = Network.from_model(sface)
    fold_constants(network)
    drop_identities(network)
    drop_dead(network)
    free_dimensions(network, {0: "batch"})
    tensor = pixels(1, 3, 112, 112)
    (before,) = run(network.to_model("cleaned"), tensor)
    for rewrite in (fold_scale, fold_batch_norm, rewrite_prelu):
        rewrite(network)
        drop_dead(network)
        (after,) = run(network.to_model(rewrite.__name__), tensor)
        assert 1.0 - _cosine(after, before) < 1e-9, rewrite.__name__
        np.testing.assert_allclose(after, before, atol=2e-5 * np.abs(before).max())


def test_every_pass_leaves_the_detectors_answer(yunet: onnx.ModelProto) -> None:
    network = Network.from_model(yunet)
    fold_constants(network)
    drop_dead(network)
    free_dimensions(network, {0: "batch", 2: "height", 3: "width"})
    tensor = pixels(2, 3, 64, 96)
    before = run(network.to_model("cleaned"), tensor)
    for rewrite in (merge_siblings, sink_splits):
        rewrite(network)
        drop_dead(network)
        for new, old in zip(run(network.to_model("after"), tensor), before, strict=True):
            np.testing.assert_allclose(new, old, rtol=0, atol=_rounding(old))


def test_what_is_slow_in_onnxruntime_is_gone(
    encoder: onnx.ModelProto, detector: onnx.ModelProto
) -> None:
    assert set(operators(encoder)) == {"Sub", "Conv", "Relu", "Add", "Flatten", "Gemm"}
    assert operators(detector).count("Split") == 3
    assert len(encoder.graph.input) == len(detector.graph.input) == 1


def test_a_network_that_is_no_encoder_is_refused() -> None:
    negation = helper.make_node("Neg", ["x"], ["y"])
    with pytest.raises(ModelContractError, match="2 and 2 axes"):
        import_encoder(model([negation], {}, [1, 3], {"y": [1, 3]}), "none")
    two = [negation, helper.make_node("Exp", ["x"], ["z"])]
    with pytest.raises(ModelContractError, match=r"outputs \['y', 'z'\]"):
        import_encoder(model(two, {}, [1, 3], {"y": [1, 3], "z": [1, 3]}), "none")


def test_a_detector_of_another_make() -> None:
    """One head, batch normalisation and a factor: all of it is folded."""
    norm = ["scale", "offset", "mean", "variance"]
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["a"]),
        helper.make_node(
            "Conv", ["a", "w"], ["b"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        ),
        helper.make_node("BatchNormalization", ["b", *norm], ["y"]),
    ]
    constants = {name: np.abs(normal(4, seed=i)) for i, name in enumerate(norm)}
    constants |= {"factor": np.array([1 / 255], np.float32), "w": normal(4, 3, 3, 3)}
    before = model(nodes, constants, [1, 3, 32, 32], {"y": [1, 4, 16, 16]})
    after = import_detector(before, "other")
    assert operators(after) == ["Conv"]
    tensor = pixels(1, 3, 32, 32)
    np.testing.assert_allclose(run(after, tensor)[0], run(before, tensor)[0], rtol=1e-4, atol=1e-5)
    assert run(after, pixels(2, 3, 64, 48))[0].shape == (2, 4, 32, 24)
