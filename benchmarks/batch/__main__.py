"""Measure ``identify-batch`` against the bare networks and against loops with OpenCV, in one run.

``python -m benchmarks.batch --data PATH [--bf16] [--int8 FILE]`` runs the contenders in turn and prints
medians, then the rate on a Dask cluster that it starts itself, the memory over a long run with a network that
costs nothing, and the rate by gallery size (synthetic templates). OpenCV has the same weights, in float32, in
three loops: plain, with every image first reduced to 640 px (careful), and careful in a thread for each core.

``--bf16`` needs onnxruntime-openvino, and ``--int8 FILE`` a model of ``verifykit-export quantise``: ``make
openvino`` makes the environment ``.cache/openvino``. On a busy machine CPU time is more reliable than wall
time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.batch.dask import Workload, compare_engines
from benchmarks.face.data import add_data_argument
from benchmarks.face.opencv import OpenCvFaces, reduced
from benchmarks.measure import Timing, resident_bytes, time_interleaved
from benchmarks.synthetic import entries, random_rows
from verifykit._cpus import available_cpus
from verifykit.batch import find_images, identify_batch
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.gallery import MemoryGallery
from verifykit.models import load
from verifykit.session import Precision, Session
from verifykit.spec import DetectorSpec, FivePointCrop, PlainCrop

console = Console(width=120)
CORES = available_cpus()
SUBJECTS = 1000
GOALS = {"float32": 2.0, "bf16": 2.7, "int8": 3.0}
PLAIN, CAREFUL = "OpenCV, plain loop", "OpenCV, careful loop"
Image = NDArray[np.uint8]
NetworkRuns = list[tuple[Session, NDArray[np.float32]]]


class Images:
    """The images of a run: their paths, and a list of them in a file."""

    def __init__(self, root: Path, count: int, folder: Path) -> None:
        self.paths = [root / name for name in find_images(root)[:count]]
        self.folder = folder
        self.list = folder / "list.txt"
        self.list.write_text("\n".join(str(path) for path in self.paths))


class Ours:
    """A model in one precision, which identifies the images."""

    def __init__(self, images: Images, model: str | Path, precision: Precision = "fp32") -> None:
        """Open the model, and record the tensors that the networks are given."""
        self.images, self.model, self.precision = images, model, precision
        self.encoder = self._open(1)
        self.verifier = vk.Verifier(self.encoder, create_gallery(self.encoder, SUBJECTS))
        self.runs_on_one_core, self.runs_on_all_cores = self._record(1), self._record(CORES)

    def _open(self, threads: int) -> Encoder:
        file = self.model if isinstance(self.model, Path) else load(self.model)
        return Encoder.open(file, threads=threads, precision=self.precision)

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
        out = self.images.folder / "out.jsonl"
        out.unlink(missing_ok=True)
        cv2.setNumThreads(CORES)
        identify_batch(
            verifier, self.images.list, out, threshold=0.5, quality="warn", workers=workers
        )

    def identify(self, workers: int) -> None:
        """Run ``identify-batch`` with this many workers, otherwise with its defaults."""
        self._identify(self.verifier, workers)

    def run_networks_sequentially(self) -> None:
        """Run the bare networks on prepared tensors, one after the other, each on all cores."""
        for session, tensor in self.runs_on_all_cores:
            session.run(tensor)

    def run_networks_in_parallel(self) -> None:
        """Run the bare networks on prepared tensors, one per core."""
        with ThreadPoolExecutor(CORES) as pool:
            for _ in pool.map(lambda pair: pair[0].run(pair[1]), self.runs_on_one_core):
                pass

    def jobs(self, name: str) -> dict[str, Callable[[], None]]:
        """Return the jobs that are measured, by name."""
        return {
            f"{name}, {CORES} workers": partial(self.identify, CORES),
            f"{name}, 1 worker": partial(self.identify, 1),
            f"{name}, bare networks in turn": self.run_networks_sequentially,
            f"{name}, bare networks at once": self.run_networks_in_parallel,
        }


class OpenCvLoops:
    """Loops that decode, detect, align, embed, search and write a line, with OpenCV's own networks."""

    def __init__(self, images: Images, spec: DetectorSpec) -> None:
        self.images = images
        self.peers = [
            OpenCvFaces(spec.score_threshold, spec.nms_threshold, CORES) for _ in range(CORES)
        ]
        self.rows = random_rows(SUBJECTS, 128, seed=1)

    def jobs(self) -> dict[str, Callable[[], None]]:
        """Return the jobs that are measured, by name."""
        return {
            PLAIN: self.run_plain,
            CAREFUL: self.run_careful,
            f"{CAREFUL}, {CORES} threads": self.run_threads,
        }

    def run_plain(self) -> None:
        """Work on whole images, one after the other; OpenCV uses every core."""
        cv2.setNumThreads(CORES)
        self._write(self._line(self.peers[0], path, read_bgr(path)) for path in self.images.paths)

    def run_careful(self) -> None:
        """Work on images of at most 640 px, one after the other; OpenCV uses every core."""
        cv2.setNumThreads(CORES)
        self._write(
            self._line(self.peers[0], path, reduced(read_bgr(path))) for path in self.images.paths
        )

    def run_threads(self) -> None:
        """Work on images of at most 640 px, one in each thread; OpenCV uses the thread that calls it."""
        cv2.setNumThreads(1)
        free = list(self.peers)

        def line(path: Path) -> str:
            peer = free.pop()
            try:
                return self._line(peer, path, reduced(read_bgr(path)))
            finally:
                free.append(peer)

        with ThreadPoolExecutor(CORES) as pool:
            self._write(pool.map(line, self.images.paths))

    def _write(self, lines: Iterable[str]) -> None:
        with (self.images.folder / "peer.jsonl").open("w") as file:
            file.writelines(lines)

    def _line(self, peer: OpenCvFaces, path: Path, image: Image) -> str:
        faces = []
        for face in peer.detect(image):
            scores = self.rows @ peer.embed(peer.align(image, face))
            best = np.argsort(-scores)[:5]
            faces.append([(int(i), float(scores[i])) for i in best if scores[i] >= 0.5])
        return json.dumps({"image": str(path), "faces": faces}) + "\n"


def read_bgr(path: Path) -> Image:
    """Return an image file as OpenCV reads it."""
    return np.asarray(cv2.imread(str(path)), np.uint8)


def create_gallery(encoder: Encoder, subjects: int) -> MemoryGallery:
    """Return a gallery of synthetic subjects in memory."""
    spec = encoder.spec
    gallery = MemoryGallery(
        spec_digest=spec.digest, embedding_size=spec.embedding_size, fusion=spec.fusion
    )
    rows = random_rows(subjects, spec.embedding_size, seed=subjects)
    gallery.add_entries(entries(rows), "append")
    return gallery


def report_rates(ours: Mapping[str, Ours], loops: OpenCvLoops, rounds: int) -> dict[str, Timing]:
    """Print images per second of every contender and CPU time per image, with ratios to OpenCV's loops."""
    jobs = {key: job for name, each in ours.items() for key, job in each.jobs(name).items()}
    timings = time_interleaved({**jobs, **loops.jobs()}, rounds, warm_up=False)
    count = len(loops.images.paths)
    columns = ("contender", "images/s", "CPU ms/image", "/ plain", "/ careful", "/ threads", "goal")
    table = Table(
        title=f"{count} images, medians of {rounds} rounds; ratios of images/s to OpenCV's loops"
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "contender" else "right", no_wrap=True)
    for name, this in timings.items():
        precision, _, rest = name.partition(", ")
        goal = f"{GOALS[precision]:.1f}" if rest == f"{CORES} workers" else ""
        table.add_row(
            name,
            f"{count / this.wall_s:.1f}",
            f"{1000 * this.cpu_s / count:.1f}",
            *(f"{timings[peer].wall_s / this.wall_s:.2f}" for peer in loops.jobs()),
            goal,
        )
    console.print(table)
    for name in ours:
        outside = (
            timings[f"{name}, 1 worker"].cpu_s - timings[f"{name}, bare networks at once"].cpu_s
        )
        console.print(
            f"{name}: {1000 * outside / count:.2f} ms of CPU an image outside the networks"
        )
    return timings


def report_by_gallery_size(ours: Ours, sizes: Sequence[int]) -> None:
    """Print the rate for galleries of different sizes."""
    table = Table("subjects", "images/s", "search, ms/image", title="by gallery size")
    for size in sizes:
        verifier = vk.Verifier(ours.encoder, create_gallery(ours.encoder, size))
        out = ours.images.folder / f"{size}.jsonl"
        summary = identify_batch(verifier, ours.images.list, out, threshold=0.5, quality="warn")
        rate = summary.images / summary.seconds["total"]
        search_ms = 1000 * summary.seconds["search"] / summary.images
        table.add_row(f"{size:,}", f"{rate:.1f}", f"{search_ms:.2f}")
    console.print(table)


def report_memory(ours: Ours, count: int) -> None:
    """Print the resident memory during a long run with a network that costs nothing."""
    spec = ours.encoder.spec
    size = spec.embedding_size

    def encode(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = np.array([crop.ravel()[:size] for crop in crops], dtype=np.float32) + 1.0
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    cheap = Encoder(spec, encode, SampleExtractor(PlainCrop(112, 112, "stretch")))
    verifier = vk.Verifier(cheap, create_gallery(ours.encoder, 100))
    names = itertools.islice(itertools.cycle(map(str, ours.images.paths)), count)
    long_list = ours.images.folder / "long.txt"
    with long_list.open("w") as file:
        file.writelines(f"{name}\n" for name in names)
    measured: list[tuple[int, float]] = []

    def measure(done: int, _: int) -> None:
        if done in (1, *(count // 10 * i for i in range(1, 11))):
            measured.append((done, resident_bytes() / 1e6))

    summary = identify_batch(
        verifier, long_list, ours.images.folder / "long.jsonl", threshold=0.9, on_progress=measure
    )
    console.print(f"resident memory over {count:,} images, {summary.seconds}:")
    console.print(", ".join(f"{number:,}: {megabytes:.0f} MB" for number, megabytes in measured))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--bf16", action="store_true", help="measure bfloat16 too, on OpenVINO")
    parser.add_argument("--int8", type=Path, help="a model of verifykit-export quantise")
    parser.add_argument("--rates-only", action="store_true", help="stop after the rates")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**n for n in range(2, 7)])
    parser.add_argument("--long", type=int, default=50_000, help="number of images of the long run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = Images(options.data / "faces" / "lfw_val", options.images, folder)
        first = Ours(images, "face")
        contenders = {"float32": first}
        if options.bf16:
            contenders["bf16"] = Ours(images, "face", "bf16")
        if options.int8:
            contenders["int8"] = Ours(images, options.int8)
        crop = first.encoder.spec.crop
        if not isinstance(crop, FivePointCrop):
            raise TypeError(f"the model 'face' must have a five-point crop, got {crop}")
        report_rates(contenders, OpenCvLoops(images, crop.detector), options.rounds)
        if options.rates_only:
            return
        workload = Workload(images.list, len(images.paths), "face", folder / "dask.db", folder)
        rows = random_rows(SUBJECTS, first.encoder.spec.embedding_size, seed=SUBJECTS)
        console.print(compare_engines(workload, entries(rows), options.rounds))
        report_memory(first, options.long)
        report_by_gallery_size(first, options.sizes)


if __name__ == "__main__":
    main()
