"""Run everything that a GPU can run, next to the CPU of the same machine: ``python -m benchmarks.cuda``.

Parity of the face model's detector and encoder, ``compare``, embedding in batches, search, and one epoch of
training on drawn images. A provider that is not there, or that falls back to the CPU, ends the program with
status 2: no figure of a CPU is ever printed as one of a GPU. What was measured before a part fails is printed
all the same. ``--on cpu`` runs the same steps without a GPU, to test the program. From a bare machine with an
NVIDIA driver: ``make cuda``. It was never run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

import verifykit as vk
from benchmarks.measure import time_interleaved
from benchmarks.synthetic import random_rows
from demo.portraits import YEARS_APART, portraits
from verifykit.gallery.index import ExactIndex

On: TypeAlias = Literal["cuda", "cpu"]
Figures: TypeAlias = dict[str, float]

LOWEST_COSINE = 0.999
LIMIT, THRESHOLD = 5, 0.42
CROPS = 256


def device_name(on: On) -> str:
    """Return the name of the GPU; refuse one that PyTorch cannot use.

    Raises:
        SystemExit: With status 2, there is none.
    """
    import torch

    if on == "cpu":
        return "CPU: no figure of this run says anything about a GPU"
    if not torch.cuda.is_available():
        _refuse(
            f"PyTorch {torch.__version__} finds no CUDA device: install an NVIDIA driver and a build of "
            "PyTorch for CUDA; --on cpu tests this program without a GPU"
        )
    return torch.cuda.get_device_name(0)


def open_verifier(on: On) -> vk.Verifier:
    """Return a verifier of the face model on this provider and no other.

    Raises:
        SystemExit: With status 2, the provider is missing or fell back.
    """
    try:
        verifier = vk.Verifier("face", providers=on, quality="warn", multi_face="largest")
    except vk.ProviderError as error:
        _refuse(str(error))
    if verifier.encoder.provider != on:
        _refuse(f"the encoder runs on {verifier.encoder.provider}, not on {on}")
    return verifier


def _refuse(reason: str) -> NoReturn:
    print(f"benchmarks.cuda: {reason}", file=sys.stderr)
    raise SystemExit(2)


def parity(here: vk.Verifier, cpu: vk.Verifier, images: Sequence[Path]) -> Figures:
    """Return the lowest cosine between embeddings of both devices.

    Of whole images, where the detector chose the crop, and of the same crops, where only the encoder differs.
    """
    whole = [
        float(here.extract(image).embedding @ cpu.extract(image).embedding) for image in images
    ]
    crops = _crops(here)
    same = (here.encoder.encode(crops) * cpu.encoder.encode(crops)).sum(axis=1)
    return {
        "detector and encoder, lowest cosine": min(whole),
        "encoder, lowest cosine": float(same.min()),
    }


def speed(here: vk.Verifier, cpu: vk.Verifier, images: Sequence[Path], rounds: int) -> Figures:
    """Return milliseconds of ``compare`` and of embedding a crop in batches, on both devices."""
    crops = _crops(here)
    jobs: dict[str, Callable[[], object]] = {
        "compare, ms": lambda: here.compare(images[0], images[1]),
        "compare on the CPU, ms": lambda: cpu.compare(images[0], images[1]),
        "a crop of a batch, ms": lambda: here.encoder.encode(crops),
        "a crop of a batch on the CPU, ms": lambda: cpu.encoder.encode(crops),
    }
    timings = time_interleaved(jobs, rounds)
    return {
        name: timing.wall_ms / (len(crops) if "batch" in name else 1)
        for name, timing in timings.items()
    }


def search(on: On, rows: int, rounds: int) -> Figures:
    """Return milliseconds a probe of the gallery's search, on the CPU, and of PyTorch's product."""
    import torch

    vectors, probes = random_rows(rows, 128, 0), random_rows(CROPS, 128, 1)
    index = ExactIndex(128)
    index.append([f"{n}" for n in range(rows)], vectors)
    view = index.view()
    there = torch.from_numpy(vectors).to(on)

    def by_torch(questions: NDArray[np.float32]) -> object:
        return torch.topk(torch.from_numpy(questions).to(on) @ there.T, LIMIT).indices.cpu()

    timings = time_interleaved(
        {
            "search, one probe, ms": lambda: view.search(probes[:1], LIMIT, THRESHOLD),
            "torch.topk, one probe, ms": lambda: by_torch(probes[:1]),
            "search, a probe of a batch, ms": lambda: view.search(probes, LIMIT, THRESHOLD),
            "torch.topk, a probe of a batch, ms": lambda: by_torch(probes),
        },
        rounds,
    )
    return {
        name: timing.wall_ms / (CROPS if "batch" in name else 1) for name, timing in timings.items()
    }


def training(on: On, subjects: int, encoder: str) -> Figures:
    """Return the seconds of one epoch on drawn images, with the precision that is faster here."""
    from verifykit_training.config import parse_config
    from verifykit_training.errors import TrainingError
    from verifykit_training.loop import train
    from verifykit_training.run_folder import RunFolder, TrainingJob

    config = parse_config(
        {
            "name": "cuda",
            "modality": "plain",
            "licence": "Apache-2.0",
            "training_data": "drawn by benchmarks.cuda",
            "crop": {"kind": "plain", "height_px": 112, "width_px": 112},
            "encoder": {"name": encoder, "weights": "none"},
            "sampler": {"p": 8, "k": 4},
            "loss": {"name": "batch_all"},
            "optimiser": {"rate": 1e-3},
            "run": {"epochs": 1, "accelerator": on, "precision": "auto", "tensorboard": False},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        data = _draw(Path(folder) / "data", subjects)
        job = TrainingJob(config, data, Path(folder) / "run", Path(folder) / "cache", quiet=True)
        start = time.perf_counter()
        try:
            train(job)
        except TrainingError as error:
            _refuse(str(error))
        taken = time.perf_counter() - start
        lines = RunFolder(job.run).read_metrics()
    (times,) = (line for line in lines if line["event"] == "precision")
    return {
        f"one epoch of {encoder}, s": taken,
        "a step in float32, ms": times["float32_ms"],
        "a step in bf16-mixed, ms": times["bf16_ms"],
    }


def _crops(verifier: vk.Verifier) -> list[NDArray[np.uint8]]:
    shape = (verifier.spec.input.height_px, verifier.spec.input.width_px, 3)
    return list(np.random.default_rng(0).integers(0, 256, (CROPS, *shape), np.uint8))


def _draw(folder: Path, subjects: int) -> Path:
    """Write six images of two colours for each subject."""
    for subject in range(subjects):
        (folder / f"s{subject:03}").mkdir(parents=True)
        colours = np.random.default_rng(subject).integers(0, 256, (2, 1, 1, 3))
        for number in range(6):
            noise = np.random.default_rng([subject, number]).integers(0, 40, (112, 112, 3))
            image = np.concatenate([np.broadcast_to(c, (56, 112, 3)) for c in colours])
            cv2.imwrite(
                str(folder / f"s{subject:03}" / f"{number}.png"),
                np.clip(image + noise, 0, 255).astype(np.uint8),
            )
    return folder


def versions(on: On) -> dict[str, str]:
    """Return the versions of what computes, and what the GPU is."""
    import torch

    packages = sorted({*packages_distributions().get("onnxruntime", ()), "numpy", "torch"})
    found = {name: version(name) for name in packages}
    if on == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        found |= {"cuda of torch": str(torch.version.cuda), "memory": f"{memory / 1e9:.0f} GB"}
    return found


def measure(
    on: On, figures: dict[str, Any], *, rows: int, rounds: int, subjects: int, encoder: str
) -> None:
    """Put every figure into ``figures``, by part, with the name of the device.

    Raises:
        SystemExit: With status 2, something did not run on the device; with 1, its embeddings differ.
    """
    start = time.perf_counter()
    figures["device"] = device_name(on)
    figures["versions"] = versions(on)
    here, cpu = open_verifier(on), open_verifier("cpu")
    images = [path for _, path in sorted(portraits(carriers=[YEARS_APART]).items())]
    parts: dict[str, Callable[[], Figures]] = {
        "parity": lambda: parity(here, cpu, images),
        "speed": lambda: speed(here, cpu, images, rounds),
        "search": lambda: search(on, rows, rounds),
        "training": lambda: training(on, subjects, encoder),
    }
    for name, part in parts.items():
        print(f"benchmarks.cuda: {name} ...", file=sys.stderr, flush=True)
        try:
            figures[name] = part()
        except (vk.VerifyKitError, RuntimeError) as error:  # PyTorch's are RuntimeError
            _refuse(f"{name}: {type(error).__name__}: {error}")
        figures["seconds"] = round(time.perf_counter() - start, 1)
        if name == "parity" and min(figures[name].values()) < LOWEST_COSINE:
            raise SystemExit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.cuda", description=__doc__)
    parser.add_argument("--on", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, default=1_000_000, help="vectors that are searched")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--subjects", type=int, default=200, help="drawn subjects to train with")
    parser.add_argument("--encoder", default="resnet50", help="network that is trained")
    given = vars(parser.parse_args(arguments))
    figures: dict[str, Any] = {}
    try:
        measure(given.pop("on"), figures, **given)
    finally:
        if figures:
            print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
