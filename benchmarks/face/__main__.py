"""Compare verifykit with OpenCV's own face pipeline: same weights, images and threads, one run.

``python -m benchmarks.face --data PATH`` prints the agreement of the embeddings, the accuracy on LFW's
View 1 test pairs, and medians of interleaved timings with their ratios. ``compare`` is timed at three sizes
against three ways to use OpenCV: as its samples do (naive), with the image first reduced to 640 px (careful),
and with a JPEG decoded at a reduced scale besides (reduced decoding).

``make opencv-4.12`` runs the timings with OpenCV 4.12 in an environment of its own. ``--precision bf16`` has
our encoder in bfloat16, which needs onnxruntime-openvino (``make openvino`` makes ``.cache/openvino``).
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

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
from verifykit.session import Precision, Provider
from verifykit.spec import FivePointCrop

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
    """Print timings of embedding and detection against OpenCV."""
    pairs = read_pairs(data)
    encoder = verifier.encoder
    probe = pairs.probes[0]
    crop = encoder.extractor.samples(probe, SampleOptions("largest", "warn"))[0].crop
    crop_bgr = np.ascontiguousarray(crop[..., ::-1])

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
    table = Table(title=f"milliseconds, medians of {rounds} interleaved rounds")
    for column in ("", "verifykit", "OpenCV", "times as fast"):
        table.add_column(column, justify="right")
    for name, (ours, theirs) in steps.items():
        timed = time_interleaved({"ours": ours, "theirs": theirs}, rounds)
        ours_ms, theirs_ms = timed["ours"].wall_ms, timed["theirs"].wall_ms
        table.add_row(name, f"{ours_ms:.1f}", f"{theirs_ms:.1f}", f"{theirs_ms / ours_ms:.2f}")
    console.print(table)


def write_sizes(folder: Path, paths: tuple[Path, Path]) -> dict[str, tuple[Path, Path]]:
    """Write the pair enlarged to the sizes of photographs; return the files by the name of the size."""
    sizes = {"250x250": paths}
    for name, side_px, width_px in (("1000x1000", 1000, 1000), ("4000x3000", 3000, 4000)):
        files = []
        for path in paths:
            image = cv2.resize(
                np.asarray(cv2.imread(str(path))), (side_px, side_px), interpolation=cv2.INTER_CUBIC
            )
            border = (width_px - side_px) // 2
            image = cv2.copyMakeBorder(image, 0, 0, border, border, cv2.BORDER_REFLECT)
            files.append(folder / f"{path.stem}-{name}.jpg")
            cv2.imwrite(str(files[-1]), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        sizes[name] = (files[0], files[1])
    return sizes


def report_compare(verifier: vk.Verifier, peer: OpenCvFaces, data: Path, rounds: int) -> None:
    """Print timings of ``compare`` at three sizes against three ways to use OpenCV."""
    pairs = read_pairs(data)

    def ours(files: tuple[Path, Path]) -> vk.Decision:
        return verifier.compare(*files, multi_face="largest", quality="warn")

    def theirs(
        embed: Callable[[Path], NDArray[np.float32] | None], files: tuple[Path, Path]
    ) -> str:
        rows = [embed(file) for file in files]
        if any(row is None for row in rows):
            return "no face"
        return f"{_score(*rows):.3f}"

    peers = {
        "naive": peer.embed_file,
        "careful": peer.embed_careful,
        "reduced decoding": peer.embed_reduced,
    }
    table = Table(title=f"compare, two files: milliseconds, medians of {rounds} interleaved rounds")
    for column in ("files", "bytes", "", "score", "wall", "processor", "times as fast"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for size, files in write_sizes(
            Path(folder), (pairs.probes[0], pairs.references[0])
        ).items():
            jobs: dict[str, Callable[[], object]] = {"verifykit": partial(ours, files)}
            jobs |= {name: partial(theirs, embed, files) for name, embed in peers.items()}
            timed = time_interleaved(jobs, max(5, rounds // 4) if size == "4000x3000" else rounds)
            for name, timing in timed.items():
                score = f"{ours(files).score:.3f}" if name == "verifykit" else str(jobs[name]())
                table.add_row(
                    size,
                    f"{files[0].stat().st_size:,}",
                    name,
                    score,
                    f"{timing.wall_ms:.1f}",
                    f"{1e3 * timing.cpu_s:.1f}",
                    f"{timing.wall_s / timed['verifykit'].wall_s:.2f}",
                )
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.face", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--only", choices=("accuracy", "speed"))
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    arguments = parser.parse_args()
    file = load("face")
    providers: Provider = "cpu" if arguments.precision == "fp32" else "auto"
    encoder = Encoder.open(
        file, providers=providers, threads=arguments.threads, precision=arguments.precision
    )
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
        f"OpenCV {cv2.__version__}, Python {platform.python_version()}, {arguments.threads} threads, "
        f"verifykit in {encoder.precision} on {encoder.provider}"
    )
    if arguments.only != "speed":
        report_accuracy(encoder, peer, arguments.data)
    if arguments.only != "accuracy":
        verifier = vk.Verifier(encoder)
        report_speed(verifier, detector, peer, arguments.data, arguments.rounds)
        report_compare(verifier, peer, arguments.data, arguments.rounds)


if __name__ == "__main__":
    main()
