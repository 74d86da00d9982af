"""The real models on OpenVINO; `make openvino` runs this in an environment with onnxruntime-openvino."""

from __future__ import annotations

import copy
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verifykit as vk
from verifykit._cpus import available_cpus, computes_bf16
from verifykit.encoder import Encoder
from verifykit.modalities import golden_image
from verifykit.models import load
from verifykit.session import available_providers

pytestmark = pytest.mark.skipif(
    "openvino" not in available_providers(), reason="this onnxruntime has no OpenVINO"
)
needs_bf16 = pytest.mark.skipif(not computes_bf16(), reason="this processor has no bfloat16")

# Measured on 1549 crops of LFW: 0.99952 and more (benchmarks.precision).
LEAST_BF16_COSINE = 0.999
TASKS = Path("/proc/self/task")


@pytest.fixture(scope="module", params=["face", "signature"])
def model(request: pytest.FixtureRequest, face_model: Path) -> Any:
    return face_model if request.param == "face" else load("signature").path


@pytest.fixture
def face_paths(portraits: Mapping[str, Path]) -> list[Path]:
    return [portraits[name] for name in ("person_a_1", "person_a_2", "person_b_1")]


def rows(model: Path, **options: Any) -> np.ndarray:
    encoder = Encoder.open(model, threads=1, **options)
    spec = encoder.spec.input
    golden = golden_image(spec.height_px, spec.width_px)
    return encoder.encode(
        [golden, golden[::-1], np.roll(golden, 9, axis=1), golden, golden[:, ::-1]]
    )


def test_float32_is_that_of_the_cpu_provider(model: Path) -> None:
    cosines = (rows(model, providers="cpu") * rows(model, providers="openvino")).sum(axis=1)
    assert cosines.min() > 1 - 1e-5


@needs_bf16
def test_bf16_stays_near_float32(model: Path) -> None:
    cosines = (rows(model) * rows(model, precision="bf16")).sum(axis=1)
    assert LEAST_BF16_COSINE < cosines.min() < 1 - 1e-7  # it is another precision


def test_auto_takes_the_cpu_provider_in_float32(model: Path) -> None:
    assert Encoder.open(model).provider == "cpu"


@needs_bf16
def test_a_gallery_of_float32_is_searched_in_bf16(
    face_model: Path, face_paths: list[Path], tmp_path: Path
) -> None:
    vk.Verifier(face_model, tmp_path / "a.db", threads=1).enroll("a", face_paths[0])
    verifier = vk.Verifier(face_model, tmp_path / "a.db", threads=1, precision="bf16")
    assert (verifier.encoder.provider, verifier.encoder.precision) == ("openvino", "bf16")
    assert verifier.verify("a", face_paths[1])
    assert not verifier.verify("a", face_paths[2])
    again = copy.copy(verifier)  # by the way of a pickle
    assert again.encoder.precision == "bf16"
    assert again.verify("a", face_paths[1]).score == verifier.verify("a", face_paths[1]).score


@needs_bf16
@pytest.mark.parametrize("arguments", [(), ("--providers", "openvino")])
def test_the_option_of_the_command(
    in_process: Any, face_paths: list[Path], arguments: tuple[str, ...]
) -> None:
    names = " ".join(map(str, face_paths[:2]))
    status, out, err = in_process(
        f"verifykit compare {names} --precision bf16 {' '.join(arguments)}"
    )
    assert status == 0, err
    assert out.startswith("match")
    status, _, err = in_process(f"verifykit compare {names} --precision bf16 --providers cpu")
    assert status == 2
    assert "--precision bf16 needs OpenVINO, and --providers cpu was given" in err


@pytest.mark.skipif(available_cpus() < 2, reason="one processor")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_one_thread_is_one_thread(face_model: Path, precision: Any) -> None:
    encoder = Encoder.open(face_model, providers="openvino", threads=1, precision=precision)
    crops = [golden_image(112, 112)] * 4
    encoder.encode(crops)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(10):
        encoder.encode(crops)
    assert (time.process_time() - cpu) / (time.perf_counter() - start) < 1.3


@pytest.mark.skipif(available_cpus() < 2, reason="one processor")
@pytest.mark.skipif(not TASKS.is_dir(), reason="no /proc")
def test_two_callers_do_not_wait_for_each_other(face_model: Path) -> None:
    encoder = Encoder.open(face_model, providers="openvino", threads=1)
    crops = [golden_image(112, 112)] * 4
    stop = threading.Event()

    def encode() -> None:
        while not stop.is_set():
            encoder.encode(crops)

    callers = [threading.Thread(target=encode) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        time.sleep(0.5)
        busy = [_running_threads() for _ in range(200)]
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert np.mean([count >= 2 for count in busy]) > 0.8


def _running_threads() -> int:
    """Return how many other threads of this process have work, whether or not they have a core."""
    time.sleep(0.005)
    others = [task for task in TASKS.iterdir() if task.name != str(threading.get_native_id())]
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in others]
    return states.count("R")


def _first(encoder: Encoder, queue: Any) -> None:
    queue.put(encoder.encode([golden_image(112, 112)])[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_opens_its_own(face_model: Path) -> None:
    encoder = Encoder.open(face_model, providers="openvino", threads=1)
    expected = encoder.encode([golden_image(112, 112)])[0]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_first, args=(encoder, queue))
    child.start()
    assert np.allclose(queue.get(timeout=60), expected, atol=1e-5)
    child.join()
