"""Measure the face encoder in float32, bfloat16 and int8: ``python -m benchmarks.precision --data PATH``.

Needs onnxruntime-openvino (``make openvino`` installs it into ``.cache/openvino``). Times are medians of
interleaved rounds with one thread; on a busy machine CPU time is more reliable than wall time. Cosines and
error rates are over every pair of ``lfw_val`` and of the frontal images of ``cfp``, the face in the middle.
``--int8 FILE`` adds a model of ``verifykit-export quantise``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_subjects
from benchmarks.measure import time_interleaved
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import ModelEmbedder
from verifykit.metrics import equal_error_rate, fnmr_at_fmr
from verifykit.models import load
from verifykit.types import Embeddings, Image

console = Console()
REFERENCE = "fp32, cpu"
FMRS = (1e-3, 1e-4)


def open_encoders(int8: Path | None) -> dict[str, Encoder]:
    """Open the model ``face`` in each way, with one thread."""
    face = load("face")
    encoders = {
        REFERENCE: Encoder.open(face, providers="cpu", threads=1),
        "fp32, openvino": Encoder.open(face, providers="openvino", threads=1),
        "bf16, openvino": Encoder.open(face, precision="bf16", threads=1),
    }
    if int8 is not None:
        encoders["int8, openvino"] = Encoder.open(int8, providers="openvino", threads=1)
        encoders["int8, cpu"] = Encoder.open(int8, providers="cpu", threads=1)
    return encoders


def crop_subjects(
    encoder: Encoder, images: Sequence[tuple[Path, str]], title: str
) -> tuple[list[Image], NDArray[np.str_]]:
    """Return the crop of the face in the middle of each image that has one, and the subjects."""
    embedder = ModelEmbedder(encoder, "face", multi_face="middle", quality="warn")
    crops, subjects = [], []
    for path, subject in track(images, title, console=console, transient=True):
        try:
            crops.append(embedder.crop(path))
        except AcquisitionError:
            continue
        subjects.append(subject)
    return crops, np.array(subjects)


def report_times(encoders: Mapping[str, Encoder], crops: Sequence[Image], rounds: int) -> Table:
    """Time one crop and four at once, in turns."""
    columns = ("encoder", "crops", "CPU ms a crop", "float32 / this", "wall ms a crop")
    table = Table(*columns, title=f"one thread, medians of {rounds} interleaved rounds")
    for count in (1, 4):
        jobs = {name: partial(each.encode, crops[:count]) for name, each in encoders.items()}
        times = time_interleaved(jobs, rounds)
        for name, time in times.items():
            table.add_row(
                name,
                str(count),
                f"{1000 * time.cpu_s / count:.2f}",
                f"{times[REFERENCE].cpu_s / time.cpu_s:.2f}",
                f"{time.wall_ms / count:.2f}",
            )
    return table


def report_rates(
    encoders: Mapping[str, Encoder], crops: Sequence[Image], subjects: NDArray[np.str_], title: str
) -> Table:
    """Compare embeddings with those of float32, and the error rates over every pair."""
    rows = {
        name: encoder.encode(crops)
        for name, encoder in encoders.items()
        if name != "int8, cpu"  # the arithmetic of the other one, slower
    }
    first, second = np.triu_indices(len(subjects), 1)
    mated = subjects[first] == subjects[second]
    columns = ("encoder", "median cosine", "least", "EER", *(f"FNMR at {fmr:g}" for fmr in FMRS))
    table = Table(
        *columns,
        title=f"{title}: {len(subjects)} images, {mated.sum()} mated, {(~mated).sum()} non-mated pairs",
    )
    for name, mine in rows.items():
        cosines = (mine * rows[REFERENCE]).sum(axis=1)
        rates = _rates(mine, first, second, mated)
        table.add_row(
            name, f"{np.median(cosines):.5f}", f"{cosines.min():.5f}", *(f"{r:.3%}" for r in rates)
        )
    return table


def _rates(
    rows: Embeddings,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    mated: NDArray[np.bool_],
) -> list[float]:
    scores = (rows @ rows.T)[first, second]
    pairs = scores[mated], scores[~mated]
    return [equal_error_rate(*pairs).eer, *(fnmr_at_fmr(*pairs, fmr)[0] for fmr in FMRS)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.precision", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--int8", type=Path, help="a model that verifykit-export quantise wrote")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--every", type=int, default=1, help="take every Nth image only")
    options = parser.parse_args()
    encoders = open_encoders(options.int8)
    frontal = sorted((options.data / "faces" / "cfp").glob("*/frontal_*.jpg"))
    sets = {
        "lfw_val": read_subjects(options.data, "lfw_val"),
        "cfp, frontal": [(path, path.parent.name) for path in frontal],
    }
    for number, (title, images) in enumerate(sets.items()):
        found = crop_subjects(encoders[REFERENCE], images[:: options.every], title)
        if number == 0:
            console.print(report_times(encoders, found[0], options.rounds))
        console.print(report_rates(encoders, *found, title))


if __name__ == "__main__":
    main()
