"""Measure ``identify-batch`` against the bare networks and against a plain OpenCV loop.

``python -m benchmarks.batch --data PATH`` runs the contenders in turn and prints medians, then the rate on a
Dask cluster that it starts itself, the memory over a long run with a network that costs nothing, and the rate
by gallery size (synthetic templates). On a busy machine CPU time is more reliable than wall time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.batch.dask import Workload, compare_engines
from benchmarks.face.data import add_data_argument
from benchmarks.face.opencv import OpenCvFaces
from benchmarks.measure import resident_bytes, time_interleaved
from benchmarks.synthetic import entries, random_rows
from verifykit._cpus import available_cpus
from verifykit.batch import find_images, identify_batch
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.gallery import MemoryGallery
from verifykit.models import load
from verifykit.session import Precision, Session
from verifykit.spec import FivePointCrop, PlainCrop

console = Console()
CORES = available_cpus()
SUBJECTS = 1000
NetworkRuns = list[tuple[Session, NDArray[np.float32]]]


class Contenders:
    """The same images, identified in several ways."""

    def __init__(
        self, images: Path, count: int, folder: Path, model: str, precision: Precision
    ) -> None:
        """Open the models, and record the tensors that the networks are given."""
        self.model, self.precision = model, precision
        self.paths = [images / name for name in find_images(images)[:count]]
        self.folder = folder
        self.list = folder / "list.txt"
        self.list.write_text("\n".join(str(path) for path in self.paths))
        self.encoder = self._open(1)
        crop = self.encoder.spec.crop
        if not isinstance(crop, FivePointCrop):
            raise TypeError(f"the model 'face' must have a five-point crop, got {crop}")
        self.peer = OpenCvFaces(crop.detector.score_threshold, crop.detector.nms_threshold, CORES)
        self.verifier = vk.Verifier(self.encoder, create_gallery(self.encoder, SUBJECTS))
        self.runs_on_one_core, self.runs_on_all_cores = self._record(1), self._record(CORES)

    def _open(self, threads: int) -> Encoder:
        return Encoder.open(load(self.model), threads=threads, precision=self.precision)

    def _record(self, threads: int) -> NetworkRuns:
        runs: NetworkRuns = []
        run = Session.run

        def record(session: Session, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
            runs.append((session, tensor))
            return run(session, tensor)

        verifier = vk.Verifier(self._open(threads), self.verifier.gallery)
        Session.run = record  # type: ignore[method-assign, assignment]
        try:
            self._identify(verifier, 1)
        finally:
            Session.run = run  # type: ignore[method-assign]
        return runs

    def _identify(self, verifier: vk.Verifier, workers: int) -> None:
        out = self.folder / "out.jsonl"
        out.unlink(missing_ok=True)
        identify_batch(verifier, self.list, out, threshold=0.5, quality="warn", workers=workers)

    def identify_on_all_cores(self) -> None:
        """Run ``identify-batch`` with its defaults."""
        cv2.setNumThreads(CORES)
        self._identify(self.verifier, CORES)

    def identify_with_one_worker(self) -> None:
        """Run ``identify-batch`` with one worker."""
        cv2.setNumThreads(CORES)
        self._identify(self.verifier, 1)

    def run_networks_sequentially(self) -> None:
        """Run the bare networks on prepared tensors, one after the other, each on all cores."""
        for session, tensor in self.runs_on_all_cores:
            session.run(tensor)

    def run_networks_in_parallel(self) -> None:
        """Run the bare networks on prepared tensors, one per core."""
        with ThreadPoolExecutor(CORES) as pool:
            for _ in pool.map(lambda pair: pair[0].run(pair[1]), self.runs_on_one_core):
                pass

    def run_opencv(self) -> None:
        """Decode, detect, align, embed, search and write a line, in a plain loop."""
        cv2.setNumThreads(CORES)
        rows = np.random.default_rng(1).normal(size=(SUBJECTS, 128)).astype(np.float32)
        with (self.folder / "peer.jsonl").open("w") as file:
            for path in self.paths:
                image = np.asarray(cv2.imread(str(path)), np.uint8)
                faces = []
                for face in self.peer.detect(image):
                    scores = rows @ self.peer.embed(self.peer.align(image, face))
                    best = np.argsort(-scores)[:5]
                    faces.append([(int(i), float(scores[i])) for i in best if scores[i] >= 50.0])
                file.write(json.dumps({"image": str(path), "faces": faces}) + "\n")


def create_gallery(encoder: Encoder, subjects: int) -> MemoryGallery:
    """Return a gallery of synthetic subjects in memory."""
    spec = encoder.spec
    gallery = MemoryGallery(
        spec_digest=spec.digest, embedding_size=spec.embedding_size, fusion=spec.fusion
    )
    rows = random_rows(subjects, spec.embedding_size, seed=subjects)
    gallery.add_entries(entries(rows), "append")
    return gallery


def report_rates(contenders: Contenders, rounds: int) -> None:
    """Print images per second of every contender, and CPU time per image."""
    jobs: dict[str, Callable[[], None]] = {
        f"identify-batch, {CORES} workers": contenders.identify_on_all_cores,
        "identify-batch, 1 worker": contenders.identify_with_one_worker,
        "bare networks, sequential": contenders.run_networks_sequentially,
        "bare networks, parallel": contenders.run_networks_in_parallel,
        "OpenCV, a plain loop": contenders.run_opencv,
    }
    timings = time_interleaved(jobs, rounds, warm_up=False)
    count = len(contenders.paths)
    table = Table(
        *("contender", "images/s", "ours / this", "CPU ms/image", "this / ours"),
        title=f"{count} images, median of {rounds} rounds",
    )
    ours = next(iter(timings.values()))
    for name, this in timings.items():
        table.add_row(
            name,
            f"{count / this.wall_s:.1f}",
            f"{this.wall_s / ours.wall_s:.2f}",
            f"{1000 * this.cpu_s / count:.1f}",
            f"{this.cpu_s / ours.cpu_s:.2f}",
        )
    console.print(table)


def report_by_gallery_size(contenders: Contenders, sizes: Sequence[int]) -> None:
    """Print the rate for galleries of different sizes."""
    table = Table("subjects", "images/s", "search, ms/image", title="by gallery size")
    for size in sizes:
        verifier = vk.Verifier(contenders.encoder, create_gallery(contenders.encoder, size))
        out = contenders.folder / f"{size}.jsonl"
        summary = identify_batch(verifier, contenders.list, out, threshold=0.5, quality="warn")
        rate = summary.images / summary.seconds["total"]
        search_ms = 1000 * summary.seconds["search"] / summary.images
        table.add_row(f"{size:,}", f"{rate:.1f}", f"{search_ms:.2f}")
    console.print(table)


def report_memory(contenders: Contenders, count: int) -> None:
    """Print the resident memory during a long run with a network that costs nothing."""
    spec = contenders.encoder.spec
    size = spec.embedding_size

    def encode(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = np.array([crop.ravel()[:size] for crop in crops], dtype=np.float32) + 1.0
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    cheap = Encoder(spec, encode, SampleExtractor(PlainCrop(112, 112, "stretch")))
    verifier = vk.Verifier(cheap, create_gallery(contenders.encoder, 100))
    names = itertools.islice(itertools.cycle(map(str, contenders.paths)), count)
    long_list = contenders.folder / "long.txt"
    with long_list.open("w") as file:
        file.writelines(f"{name}\n" for name in names)
    measured: list[tuple[int, float]] = []

    def measure(done: int, _: int) -> None:
        if done in (1, *(count // 10 * i for i in range(1, 11))):
            measured.append((done, resident_bytes() / 1e6))

    summary = identify_batch(
        verifier, long_list, contenders.folder / "long.jsonl", threshold=0.9, on_progress=measure
    )
    console.print(f"resident memory over {count:,} images, {summary.seconds}:")
    console.print(", ".join(f"{number:,}: {megabytes:.0f} MB" for number, megabytes in measured))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--model", default="face", help="or a model of verifykit-export quantise")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--rates-only", action="store_true", help="stop after the rates")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**n for n in range(2, 7)])
    parser.add_argument("--long", type=int, default=50_000, help="number of images of the long run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = options.data / "faces" / "lfw_val"
        contenders = Contenders(images, options.images, folder, options.model, options.precision)
        report_rates(contenders, options.rounds)
        if options.rates_only:
            return
        workload = Workload(
            contenders.list, len(contenders.paths), "face", folder / "dask.db", folder
        )
        rows = random_rows(SUBJECTS, contenders.encoder.spec.embedding_size, seed=SUBJECTS)
        console.print(compare_engines(workload, entries(rows), options.rounds))
        report_memory(contenders, options.long)
        report_by_gallery_size(contenders, options.sizes)


if __name__ == "__main__":
    main()
