from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.unit.export.dlib_writer import small_network
from verifykit_export.dlib_file import read_dlib
from verifykit_export.dlib_network import dlib_to_onnx
from verifykit_export.joined import Part, join_encoders
from verifykit_export.parity import open_session

Rows = NDArray[np.float32]


def encoder(seed: int) -> onnx.ModelProto:
    image = np.zeros((27, 27, 3), np.uint8)
    return dlib_to_onnx(read_dlib(small_network(image, seed=seed, bias=True).to_bytes()), "small")


def run(model: onnx.ModelProto, tensor: Rows) -> Rows:
    return np.asarray(open_session(model).run(np.ascontiguousarray(tensor))[0], np.float32)


def unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def with_mirror(model: onnx.ModelProto, view: Rows) -> Rows:
    return unit(unit(run(model, view)) + unit(run(model, view[..., ::-1])))


def test_a_cosine_is_the_mean_of_the_encoders_cosines() -> None:
    encoders = [encoder(0), encoder(1)]
    joined = join_encoders(
        [Part(encoders[0], 3, 5, 27, 27), Part(encoders[1], 0, 0, 54, 54)], 54, 60, "joined"
    )
    crops = np.random.default_rng(2).uniform(0, 255, (3, 3, 54, 60)).astype(np.float32)
    rows = run(joined, crops)
    assert rows.shape == (3, 10)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    # Half of the size, without weights of farther pixels: the mean of four.
    halved = crops[..., :54].reshape(3, 3, 27, 2, 27, 2).mean(axis=(3, 5))
    parts = [
        with_mirror(encoders[0], crops[:, :, 3:30, 5:32]),
        with_mirror(encoders[1], halved),
    ]
    cosines = (parts[0] @ parts[0].T + parts[1] @ parts[1].T) / 2
    assert np.allclose(rows @ rows.T, cosines, atol=1e-5)
    assert not np.allclose(rows @ rows.T, parts[0] @ parts[0].T, atol=1e-3)
    assert np.allclose(rows[1:2], run(joined, crops[1:2]), atol=1e-6)
