"""What each rewriting of the face model's networks is worth, beside OpenCV's runtime on the same weights.

``python -m benchmarks.rewriting [--threads 2] [--rounds 40]``

All contenders take turns in one process on the same tensor; each line is the network alone, without
cropping. ``same as OpenCV`` is 1 - cosine of all outputs. Ratios count, milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from verifykit.session import Session
from verifykit_export.face import SFACE, YUNET, WeightsSource
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

Outputs = list[NDArray[np.float32]]
Run = Callable[[NDArray[np.float32]], Outputs]

ENCODER_STEPS = (fold_scale, fold_batch_norm, rewrite_prelu)
DETECTOR_STEPS = (merge_siblings, sink_splits)
PAUSE_S = 0.02


def main() -> None:
    """Print one table for the encoder, at 1 and 8 images a batch, and one for the detector."""
    parser = argparse.ArgumentParser(prog="benchmarks.rewriting")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    pictures = np.random.default_rng(0).uniform(0, 255, (8, 3, 640, 640)).astype(np.float32)
    crop = np.ascontiguousarray(pictures[:, :, :112, :112])
    encoders = _contenders(SFACE, ENCODER_STEPS, {0: "batch"}, arguments.threads)
    _report("encoder, 1 image of 112x112", encoders, crop[:1], arguments.rounds)
    ours = {name: run for name, run in encoders.items() if not name.startswith("OpenCV")}
    _report("encoder, 8 images of 112x112", ours, crop, max(1, arguments.rounds // 8))
    names = {0: "batch", 2: "height", 3: "width"}
    detectors = _contenders(YUNET, DETECTOR_STEPS, names, arguments.threads)
    for height, width in ((640, 640), (480, 640), (320, 320)):
        picture = np.ascontiguousarray(pictures[:1, :, :height, :width])
        _report(f"detector, 1 image of {height}x{width}", detectors, picture, arguments.rounds)


def _contenders(
    file: WeightsSource,
    steps: tuple[Callable[[Network], None], ...],
    free: dict[int, str],
    threads: int,
) -> dict[str, Run]:
    """OpenCV's engines, then ONNX Runtime after cleaning and after each further pass."""
    network = Network.from_model(onnx.load_model_from_string(file.read()))
    for clean in (fold_constants, drop_identities, drop_dead):
        clean(network)
    free_dimensions(network, free)
    outputs = [item.name for item in network.outputs]
    runs = _opencv(str(file.locate()), network.inputs[0].name, outputs)
    runs["cleaned"] = _session(network, threads)
    for step in steps:
        step(network)
        drop_dead(network)
        runs[f"+ {step.__name__}"] = _session(network, threads)
    return runs


def _opencv(path: str, name: str, outputs: list[str]) -> dict[str, Run]:
    engines = {
        label: {"engine": getattr(cv2.dnn, constant)}
        for label, constant in (("classic", "ENGINE_CLASSIC"), ("new", "ENGINE_NEW"))
        if hasattr(cv2.dnn, constant)
    }
    runs: dict[str, Run] = {}
    for label, options in (engines or {"": {}}).items():
        try:
            net = cv2.dnn.readNetFromONNX(path, **options)
        except cv2.error:  # before 4.12 it knows no block-wise DequantizeLinear
            print(f"OpenCV {cv2.__version__} cannot read {path}")
            continue

        def run(tensor: NDArray[np.float32], net: cv2.dnn.Net = net) -> Outputs:
            net.setInput(tensor, name)
            return [np.asarray(answer) for answer in net.forward(outputs)]

        runs[f"OpenCV {cv2.__version__} {label}".strip()] = run
    return runs


def _session(network: Network, threads: int) -> Run:
    data = network.to_model("benchmark").SerializeToString()
    return Session(data, name="benchmark", providers="cpu", threads=threads).run


def _report(title: str, runs: dict[str, Run], tensor: NDArray[np.float32], rounds: int) -> None:
    answers = {name: run(tensor) for name, run in runs.items()}
    first = next(iter(answers))
    elapsed: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE_S)  # so that no thread of the one before still spins
            run(tensor)
            start = time.perf_counter()
            run(tensor)
            elapsed[name].append((time.perf_counter() - start) * 1e3 / len(tensor))
    table = Table(
        "network", "median ms/image", "least ms", "times faster", "1 - cosine", title=title
    )
    reference = float(np.median(elapsed[first]))
    for name, times in elapsed.items():
        median = float(np.median(times))
        away = _distance(answers[name], answers[first])
        row = (f"{median:.2f}", f"{min(times):.2f}", f"{reference / median:.2f}", f"{away:.1e}")
        table.add_row(name, *row)
    Console().print(table)


def _distance(some: Outputs, others: Outputs) -> float:
    pairs = zip(some, others, strict=True)
    flat = [(a.ravel().astype(np.float64), b.ravel().astype(np.float64)) for a, b in pairs]
    return max(1.0 - float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in flat)


if __name__ == "__main__":
    main()
