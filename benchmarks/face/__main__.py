"""Compare verifykit with OpenCV's own face pipeline: same weights, images and threads, one run.

``python -m benchmarks.face --data PATH`` prints the agreement of the embeddings, the accuracy on LFW's
View 1 test pairs, and medians of interleaved timings with their ratios.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import verifykit as vk
from benchmarks.face.data import add_data_argument, embed_middle_face, read_pairs
from benchmarks.face.opencv import OpenCvFaces
from benchmarks.measure import time_interleaved
from verifykit.encoder import Encoder
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.metrics import equal_error_rate, fnmr_at_fmr
from verifykit.modalities.face.detector import FaceDetector
from verifykit.models import load
from verifykit.spec import FivePointCrop

OPENCV_THRESHOLD = 0.363  # cosine threshold of OpenCV's SFace sample
console = Console()


def report_accuracy(encoder: Encoder, peer: OpenCvFaces, data: Path) -> None:
    """Print the agreement of the embeddings, and the errors of both sides on the same pairs."""
    pairs = read_pairs(data)
    paths = sorted({*pairs.probes, *pairs.references})
    ours: dict[Path, NDArray[np.float32] | None] = {}
    theirs: dict[Path, NDArray[np.float32] | None] = {}
    for path in track(paths, description="embedding by both"):
        ours[path], theirs[path] = embed_middle_face(encoder, path), peer.embed_file(path)
    both = [(ours[p], theirs[p]) for p in paths]
    cosines = [float(a @ b) for a, b in both if a is not None and b is not None]
    console.print(
        f"agreement on {len(cosines)} images: cosine median {np.median(cosines):.6f}, "
        f"1st percentile {np.percentile(cosines, 1):.6f}, minimum {min(cosines):.6f}"
    )
    table = Table(title=f"{len(pairs.mated)} pairs of lfw_val_pairs.csv")
    for column in ("", "no face", "EER", "FNMR at FMR 1e-3", "threshold"):
        table.add_column(column, justify="right")
    for name, rows in (("verifykit", ours), ("OpenCV", theirs)):
        scores = np.array(
            [_score(rows[p], rows[r]) for p, r in zip(pairs.probes, pairs.references, strict=True)]
        )
        scored = np.isfinite(scores)
        mated, non_mated = scores[scored & pairs.mated], scores[scored & ~pairs.mated]
        fnmr, threshold = fnmr_at_fmr(mated, non_mated, 1e-3)
        missed = sum(embedding is None for embedding in rows.values())
        eer = equal_error_rate(mated, non_mated).eer
        table.add_row(name, str(missed), f"{eer:.4f}", f"{fnmr:.4f}", f"{threshold:.4f}")
    console.print(table)


def _score(a: NDArray[np.float32] | None, b: NDArray[np.float32] | None) -> float:
    return float("nan") if a is None or b is None else float(a @ b)


def report_speed(
    verifier: vk.Verifier, detector: FaceDetector, peer: OpenCvFaces, data: Path, rounds: int
) -> None:
    """Print timings of embedding, detection and comparison against OpenCV."""
    pairs = read_pairs(data)
    encoder = verifier.encoder
    probe, reference = pairs.probes[0], pairs.references[0]
    crop = encoder.extractor.samples(probe, SampleOptions("largest", "warn"))[0].crop
    crop_bgr = np.ascontiguousarray(crop[..., ::-1])

    def compare_theirs() -> bool:
        left, right = peer.embed_file(probe), peer.embed_file(reference)
        return left is not None and right is not None and float(left @ right) >= OPENCV_THRESHOLD

    def compare_ours() -> vk.Decision:
        return verifier.compare(probe, reference, multi_face="largest", quality="warn")

    steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "embedding, one 112x112 crop": (
            lambda: encoder.encode([crop]),
            lambda: peer.embed(crop_bgr),
        )
    }
    for side_px in (250, 640):
        image = cv2.resize(load_image(probe), (side_px, side_px))
        bgr = np.ascontiguousarray(image[..., ::-1])
        steps[f"detection, {side_px}x{side_px}"] = (
            lambda image=image: detector.detect(image),  # type: ignore[misc]
            lambda bgr=bgr: peer.detect(bgr),  # type: ignore[misc]
        )
    steps["compare, two files to a decision"] = (compare_ours, compare_theirs)
    table = Table(title=f"milliseconds, medians of {rounds} interleaved rounds")
    for column in ("", "verifykit", "OpenCV", "times as fast"):
        table.add_column(column, justify="right")
    for name, (ours, theirs) in steps.items():
        timed = time_interleaved({"ours": ours, "theirs": theirs}, rounds)
        ours_ms, theirs_ms = timed["ours"].wall_ms, timed["theirs"].wall_ms
        table.add_row(name, f"{ours_ms:.1f}", f"{theirs_ms:.1f}", f"{theirs_ms / ours_ms:.2f}")
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.face", description=__doc__)
    add_data_argument(parser)
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
        report_accuracy(encoder, peer, arguments.data)
    if arguments.only != "accuracy":
        report_speed(vk.Verifier(encoder), detector, peer, arguments.data, arguments.rounds)


if __name__ == "__main__":
    main()
