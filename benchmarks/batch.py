"""Many pictures at once: ``identify-batch`` against the bare networks and against a plain OpenCV loop.

``python -m benchmarks.batch --data PATH`` runs the ways in turns and prints medians, then the rate on a Dask
cluster of its own, the memory over a long run with a network that costs nothing, and the rate by the
gallery's size (synthetic templates). On a busy machine the processor's time says more than the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.batch_dask import Work, dask_rates
from benchmarks.faces import data_argument
from benchmarks.opencv_peer import OpenCvFaces
from verifykit.batch import find_images, identify_batch
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.gallery import MemoryGallery
from verifykit.gallery.base import Entry
from verifykit.models import load
from verifykit.session import Session
from verifykit.spec import FivePointCrop, PlainCrop

console = Console()
CORES = os.cpu_count() or 1
Runs = list[tuple[Session, NDArray[np.float32]]]


class Ways:
    """The same pictures by each way."""

    def __init__(self, folder: Path, count: int, place: Path) -> None:
        """Open everything, and note what the networks are given."""
        self.paths = [folder / name for name in find_images(folder)[:count]]
        self.place = place
        self.list = place / "list.txt"
        self.list.write_text("\n".join(str(path) for path in self.paths))
        self.encoder = Encoder.open(load("face"), threads=1)
        crop = self.encoder.spec.crop
        if not isinstance(crop, FivePointCrop):
            raise TypeError(f"faces are wanted, the crop is {crop}")
        self.peer = OpenCvFaces(crop.detector.score_threshold, crop.detector.nms_threshold, CORES)
        self.verifier = vk.Verifier(self.encoder, gallery_of(self.encoder, 1000))
        self.one_run, self.all_cores = self._noted(1), self._noted(CORES)

    def _noted(self, threads: int) -> Runs:
        noted: Runs = []
        run = Session.run

        def note(session: Session, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
            noted.append((session, tensor))
            return run(session, tensor)

        verifier = vk.Verifier(Encoder.open(load("face"), threads=threads), self.verifier.gallery)
        Session.run = note  # type: ignore[method-assign]
        try:
            self._identify(verifier, 1)
        finally:
            Session.run = run  # type: ignore[method-assign]
        return noted

    def _identify(self, verifier: vk.Verifier, workers: int) -> None:
        out = self.place / "out.jsonl"
        out.unlink(missing_ok=True)
        identify_batch(verifier, self.list, out, threshold=0.5, quality="warn", workers=workers)

    def ours(self) -> None:
        """``identify-batch`` as it is by default."""
        cv2.setNumThreads(CORES)
        self._identify(self.verifier, CORES)

    def one_by_one(self) -> None:
        """The same with one worker."""
        cv2.setNumThreads(CORES)
        self._identify(self.verifier, 1)

    def bare_in_turn(self) -> None:
        """The networks alone on prepared tensors, one after the other, each on all cores."""
        for session, tensor in self.all_cores:
            session.run(tensor)

    def bare_at_once(self) -> None:
        """The networks alone, as many at once as there are cores, each on one."""
        with ThreadPoolExecutor(CORES) as pool:
            for _ in pool.map(lambda pair: pair[0].run(pair[1]), self.one_run):
                pass

    def opencv(self) -> None:
        """A plain loop: decode, detect, align, embed, search, write a line."""
        cv2.setNumThreads(CORES)
        rows = np.random.default_rng(1).normal(size=(1000, 128)).astype(np.float32)
        with (self.place / "peer.jsonl").open("w") as file:
            for path in self.paths:
                image = np.asarray(cv2.imread(str(path)), np.uint8)
                found = []
                for face in self.peer.detect(image):
                    scores = rows @ self.peer.embed(self.peer.align(image, face))
                    best = np.argsort(-scores)[:5]
                    found.append([(int(i), float(scores[i])) for i in best if scores[i] >= 50.0])
                file.write(json.dumps({"image": str(path), "faces": found}) + "\n")


def gallery_of(encoder: Encoder, size: int) -> MemoryGallery:
    """Synthetic subjects in memory."""
    spec = encoder.spec
    gallery = MemoryGallery(
        spec_digest=spec.digest, embedding_size=spec.embedding_size, fusion=spec.fusion
    )
    gallery.add_entries(synthetic(spec.embedding_size, size), "append")
    return gallery


def synthetic(embedding_size: int, count: int) -> Iterator[Entry]:
    """Subjects of one template each, in random directions."""
    rng = np.random.default_rng(count)
    for start in range(0, count, 10_000):
        shape = (min(10_000, count - start), embedding_size)
        rows = rng.normal(size=shape).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for i, row in enumerate(rows):
            yield Entry(f"s{start + i}", row[None], ((),), None)


def in_turns(ways: Sequence[Callable[[], None]], rounds: int) -> list[tuple[float, float]]:
    """Median seconds of each way, by the clock and of the processor, in turns: noise hits all alike."""
    taken: list[list[tuple[float, float]]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, times in zip(ways, taken, strict=True):
            start, used = time.perf_counter(), time.process_time()
            way()
            times.append((time.perf_counter() - start, time.process_time() - used))
    return [
        (statistics.median(t for t, _ in times), statistics.median(c for _, c in times))
        for times in taken
    ]


def rates(ways: Ways, rounds: int) -> None:
    """Images a second of every way, and what the processor does for one."""
    named = {
        f"identify-batch, {CORES} workers": ways.ours,
        "identify-batch, 1 worker": ways.one_by_one,
        "bare networks, one after the other": ways.bare_in_turn,
        "bare networks, at once": ways.bare_at_once,
        "OpenCV, a plain loop": ways.opencv,
    }
    medians = in_turns(list(named.values()), rounds)
    count = len(ways.paths)
    table = Table(
        *("way", "images/s", "ours / this", "CPU ms/image", "this / ours"),
        title=f"{count} pictures, median of {rounds} rounds",
    )
    ours_s, ours_cpu_s = medians[0]
    for name, (taken, used) in zip(named, medians, strict=True):
        rate, ratio = f"{count / taken:.1f}", f"{taken / ours_s:.2f}"
        table.add_row(name, rate, ratio, f"{1000 * used / count:.1f}", f"{used / ours_cpu_s:.2f}")
    console.print(table)


def by_gallery_size(ways: Ways, sizes: Sequence[int]) -> None:
    """The rate with more and more subjects enrolled."""
    table = Table("subjects", "images/s", "search, ms a picture", title="by size of the gallery")
    for size in sizes:
        verifier = vk.Verifier(ways.encoder, gallery_of(ways.encoder, size))
        out = ways.place / f"{size}.jsonl"
        done = identify_batch(verifier, ways.list, out, threshold=0.5, quality="warn")
        rate = done.images / done.seconds["total"]
        search_ms = 1000 * done.seconds["search"] / done.images
        table.add_row(f"{size:,}", f"{rate:.1f}", f"{search_ms:.2f}")
    console.print(table)


def memory(ways: Ways, count: int) -> None:
    """Resident memory while a long list is worked on, with a network that costs nothing."""
    spec = ways.encoder.spec
    size = spec.embedding_size

    def encode(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = np.array([crop.ravel()[:size] for crop in crops], dtype=np.float32) + 1.0
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    cheap = Encoder(spec, encode, SampleExtractor(PlainCrop(112, 112, "stretch")))
    verifier = vk.Verifier(cheap, gallery_of(ways.encoder, 100))
    names = itertools.islice(itertools.cycle(map(str, ways.paths)), count)
    long_list = ways.place / "long.txt"
    with long_list.open("w") as file:
        file.writelines(f"{name}\n" for name in names)
    seen: list[tuple[int, float]] = []

    def look(done: int, _: int) -> None:
        if done in (1, *(count // 10 * i for i in range(1, 11))):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append((done, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    done = identify_batch(
        verifier, long_list, ways.place / "long.jsonl", threshold=0.9, on_progress=look
    )
    console.print(f"resident memory over {count:,} pictures, {done.seconds}:")
    console.print(", ".join(f"{number:,}: {megabytes:.0f} MB" for number, megabytes in seen))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__)
    data_argument(parser)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**n for n in range(2, 7)])
    parser.add_argument("--long", type=int, default=50_000, help="pictures of the long run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        ways = Ways(options.data / "faces" / "lfw_val", options.images, Path(place))
        rates(ways, options.rounds)
        work = Work(ways.list, len(ways.paths), "face", Path(place) / "dask.db", Path(place))
        subjects = synthetic(ways.encoder.spec.embedding_size, 1000)
        console.print(dask_rates(work, subjects, options.rounds))
        memory(ways, options.long)
        by_gallery_size(ways, options.sizes)


if __name__ == "__main__":
    main()
