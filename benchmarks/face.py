"""verifykit against OpenCV's own pipeline: same weights, same pictures, same threads, one run.

``python -m benchmarks.face --data PATH`` prints agreement, accuracy on LFW's View 1 test pairs, and
medians of interleaved timings with their ratios.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import verifykit as vk
from benchmarks.faces import data_argument, read_pairs
from benchmarks.opencv_peer import OpenCvFaces
from benchmarks.race import race
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import middle
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.metrics import equal_error_rate, fnmr_at_fmr
from verifykit.modalities.face.detector import FaceDetector
from verifykit.models import load
from verifykit.spec import FivePointCrop

console = Console()


def embed_ours(encoder: Encoder, path: Path) -> NDArray[np.float32] | None:
    """From a file to the embedding of the face nearest its middle; None without a face."""
    try:
        samples = encoder.extractor.samples(path, SampleOptions(multi_face="all", quality="warn"))
    except AcquisitionError:
        return None
    height, width = load_image(path).shape[:2]
    embedding: NDArray[np.float32] = encoder.encode([middle(samples, height, width).crop])[0]
    return embedding


def accuracy(encoder: Encoder, peer: OpenCvFaces, data: Path) -> None:
    """Agreement of the embeddings, and both sides' errors on the same pairs."""
    pairs = read_pairs(data)
    paths = sorted({*pairs.probes, *pairs.references})
    ours: dict[Path, NDArray[np.float32] | None] = {}
    theirs: dict[Path, NDArray[np.float32] | None] = {}
    for path in track(paths, description="embedding by both"):
        ours[path], theirs[path] = embed_ours(encoder, path), peer.embed_file(path)
    both = [(ours[p], theirs[p]) for p in paths]
    cosines = [float(a @ b) for a, b in both if a is not None and b is not None]
    console.print(
        f"agreement on {len(cosines)} pictures: cosine median {np.median(cosines):.6f}, "
        f"1st percentile {np.percentile(cosines, 1):.6f}, lowest {min(cosines):.6f}"
    )
    table = Table(title=f"{len(pairs.mated)} pairs of lfw_val_pairs.csv")
    for column in ("", "no face", "EER", "FNMR at FMR 1e-3", "threshold"):
        table.add_column(column, justify="right")
    for name, found in (("verifykit", ours), ("OpenCV", theirs)):
        scores = np.array(
            [
                _score(found[p], found[r])
                for p, r in zip(pairs.probes, pairs.references, strict=True)
            ]
        )
        seen = np.isfinite(scores)
        mated, non_mated = scores[seen & pairs.mated], scores[seen & ~pairs.mated]
        fnmr, threshold = fnmr_at_fmr(mated, non_mated, 1e-3)
        missed = sum(embedding is None for embedding in found.values())
        eer = equal_error_rate(mated, non_mated).eer
        table.add_row(name, str(missed), f"{eer:.4f}", f"{fnmr:.4f}", f"{threshold:.4f}")
    console.print(table)


def _score(a: NDArray[np.float32] | None, b: NDArray[np.float32] | None) -> float:
    return float("nan") if a is None or b is None else float(a @ b)


def speed(
    verifier: vk.Verifier, detector: FaceDetector, peer: OpenCvFaces, data: Path, rounds: int
) -> None:
    """Embedding, detection and compare, each against the peer."""
    pairs = read_pairs(data)
    encoder = verifier.encoder
    probe, reference = pairs.probes[0], pairs.references[0]
    crop = encoder.extractor.samples(probe, SampleOptions(multi_face="largest", quality="warn"))[
        0
    ].crop
    crop_bgr = np.ascontiguousarray(crop[..., ::-1])

    def compare_theirs() -> bool:
        left, right = peer.embed_file(probe), peer.embed_file(reference)
        return left is not None and right is not None and float(left @ right) >= 0.363

    def compare_ours() -> vk.Decision:
        return verifier.compare(probe, reference, multi_face="largest", quality="warn")

    rows = [
        (
            "embedding, one 112x112 crop",
            race(rounds, ours=lambda: encoder.encode([crop]), theirs=lambda: peer.embed(crop_bgr)),
        )
    ]
    for side_px in (250, 640):
        image = cv2.resize(load_image(probe), (side_px, side_px))
        bgr = np.ascontiguousarray(image[..., ::-1])
        timed = race(
            rounds,
            ours=lambda image=image: detector.detect(image),  # type: ignore[misc]
            theirs=lambda bgr=bgr: peer.detect(bgr),  # type: ignore[misc]
        )
        rows.append((f"detection, {side_px}x{side_px}", timed))
    rows.append(
        ("compare, two files to a decision", race(rounds, ours=compare_ours, theirs=compare_theirs))
    )
    table = Table(title=f"milliseconds, medians of {rounds} interleaved rounds")
    for column in ("", "verifykit", "OpenCV", "times as fast"):
        table.add_column(column, justify="right")
    for name, timed in rows:
        ratio = timed["theirs"] / timed["ours"]
        table.add_row(name, f"{timed['ours']:.1f}", f"{timed['theirs']:.1f}", f"{ratio:.2f}")
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.face", description=__doc__)
    data_argument(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", choices=("accuracy", "speed"))
    arguments = parser.parse_args()
    file = load("face")
    encoder = Encoder.open(file, providers="cpu", threads=arguments.threads)
    crop = encoder.spec.crop
    if not isinstance(crop, FivePointCrop) or file.detector is None:
        raise SystemExit("the model 'face' has no detector")
    detector = FaceDetector(
        file.detector, crop.detector, providers="cpu", threads=arguments.threads
    )
    peer = OpenCvFaces(
        crop.detector.score_threshold, crop.detector.nms_threshold, arguments.threads
    )
    console.print(
        f"OpenCV {cv2.__version__}, Python {platform.python_version()}, {arguments.threads} threads"
    )
    if arguments.only != "speed":
        accuracy(encoder, peer, arguments.data)
    if arguments.only != "accuracy":
        speed(vk.Verifier(encoder), detector, peer, arguments.data, arguments.rounds)


if __name__ == "__main__":
    main()
