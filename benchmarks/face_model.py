"""Fit the five-point face model of ``verifykit.modalities.face.quality`` to real faces.

``python -m benchmarks.face_model --data PATH``

Affine factorisation with metric upgrade (Tomasi and Kanade, "Shape and motion from image streams under
orthography", IJCV 9, 1992): the landmarks of many faces, centred and scaled, are two rows each of a
matrix of rank three; of all its factorisations the one is chosen whose camera rows are orthogonal and of
equal length. Every face is used together with its mirror image, so the model is symmetric.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_subjects
from verifykit import models
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.extraction import SampleOptions

POINTS = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")


def symmetric(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre and scale (N, 5, 2) landmarks, and append their mirror images: (2N, 5, 2)."""
    centred = faces - faces.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))
    return np.concatenate([scaled, scaled[:, [1, 0, 2, 4, 3]] * (-1, 1)])


def metric_upgrade(across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3, 3) matrix that makes (F, 3) camera row pairs orthogonal and of equal length."""

    def products(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        mixed = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        columns = [a[:, i] * b[:, j] + (a[:, j] * b[:, i] if i != j else 0) for i, j in mixed]
        return np.stack(columns, axis=1)

    lengths = products(across, across), products(down, down)
    scale = 1000 * (lengths[0] + lengths[1]).mean(axis=0, keepdims=True)
    equations = np.concatenate([products(across, down), lengths[0] - lengths[1], scale])
    targets = np.zeros(len(equations))
    targets[-1] = 2000
    solution = np.linalg.lstsq(equations, targets, rcond=None)[0]
    values, vectors = np.linalg.eigh(solution[np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])])
    if values.min() <= 0:
        raise ValueError(f"no metric structure fits these faces: eigenvalues {values}")
    return np.asarray(vectors * np.sqrt(values), np.float64)


def face_model(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit the (5, 3) model to (N, 5, 2) landmarks: right, down, away; unit: distance between the eyes."""
    measured = symmetric(faces).transpose(0, 2, 1).reshape(-1, 5)
    left, values, right = np.linalg.svd(measured, full_matrices=False)
    cameras = left[:, :3] * values[:3]
    points = np.linalg.solve(metric_upgrade(cameras[0::2], cameras[1::2]), right[:3]).T
    rightward = points[1] - points[0]
    rightward /= np.linalg.norm(rightward)
    downward = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    downward -= downward @ rightward * rightward
    downward /= np.linalg.norm(downward)
    axes = np.stack([rightward, downward, np.cross(rightward, downward)], axis=1)
    turned = (points - points[:2].mean(axis=0)) @ axes
    model = np.asarray(turned / np.linalg.norm(points[1] - points[0]), np.float64)
    model[:, 2] *= -np.sign(
        model[2, 2]
    )  # without perspective the sign of depth is free: the nose is near
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.face_model", description=__doc__)
    add_data_argument(parser)
    arguments = parser.parse_args()
    extractor = Encoder.open(models.load("face"), threads=2).extractor
    faces = []
    for path, _ in track(read_subjects(arguments.data, "lfw_train"), description="landmarks"):
        try:
            sample = extractor.samples(path, SampleOptions("largest", "warn"))[0]
        except AcquisitionError:
            continue
        if sample.detection is not None:
            faces.append(sample.detection.landmarks_px)
    table = Table("point", "right", "down", "away", title=f"{len(faces)} faces, in eye distances")
    for name, point in zip(POINTS, face_model(np.array(faces)), strict=True):
        table.add_row(name, *(f"{value + 0:.3f}" for value in point))
    Console().print(table)


if __name__ == "__main__":
    main()
