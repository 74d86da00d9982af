"""Measure the peak memory of rates over every pair: ``python -m benchmarks.evaluation_memory``.

Rows are drawn, four a subject, so that no image is needed. Each measurement is a process of its own, whose
peak is read at its end: ``rates`` (validation, and ``verifykit-train evaluate``), ``report`` (the report of a
run, and ``evaluate --report``) and ``evaluate`` (``verifykit evaluate`` without searches).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from verifykit.datasets import Dataset, FaceChoice, LabelledImage
from verifykit.evaluation.embedding import Embedded
from verifykit.evaluation.evaluate import Measurement, measure_model
from verifykit.spec import Cohort, OperatingPoint
from verifykit.types import QualityGate
from verifykit_training.dataset import Record
from verifykit_training.evaluation import evaluate_verification, verification_rates
from verifykit_training.reporting import draw_det, draw_scores

WORK = ("nothing", "rates", "report", "evaluate")
PER_SUBJECT, SIZE = 4, 128


class DrawnRows:
    """An embedder in name: its rows are there already."""

    model = name = digest = modality = licence = fusion = cache_key = "drawn"
    multi_face: FaceChoice = "error"
    quality: QualityGate = "strict"
    operating_points: Sequence[OperatingPoint] = ()
    cohort: Cohort | None = None

    def embed(self, image: bytes, /) -> NDArray[np.float32]:
        """Refuse: no image is embedded here."""
        raise TypeError(f"the rows are drawn, and none is of {len(image)} bytes")


def do(work: str, images: int) -> None:
    """Do one of `WORK` and print seconds, those of the processor, and the peak of this process."""
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=(images // PER_SUBJECT, SIZE)), PER_SUBJECT, axis=0)
    rows = (centres + random.normal(scale=0.9, size=centres.shape)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    subjects = [f"s{n // PER_SUBJECT:05}" for n in range(len(rows))]
    records = [Record(Path(f"{n}"), subject) for n, subject in enumerate(subjects)]
    began, busy = time.perf_counter(), time.process_time()
    if work == "rates":
        verification_rates(rows, records)
    if work == "report":
        scores = evaluate_verification(rows, records)[1]
        with TemporaryDirectory() as folder:
            draw_scores(Path(folder) / "scores.png", scores, "drawn rows")
            draw_det(Path(folder) / "det.png", [("drawn", scores)], "drawn rows")
    if work == "evaluate":
        listed = tuple(LabelledImage(r.path, str(r.path), r.subject) for r in records)
        embedded = Embedded(rows, np.arange(len(rows)), {}, tuple(subjects))
        data = Dataset(Path("drawn"), "images", listed, None)
        measure_model(DrawnRows(), data, embedded, Measurement(open_set=False))
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{seconds:.1f} {cpu:.1f} {peak}")


def main() -> None:
    """Measure every kind of work at each size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[4_000, 16_000])
    parser.add_argument("--work", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        do(options.work[0], options.images[0])
        return
    columns = ("work", "images", "pairs", "seconds", "CPU seconds", "peak MB")
    table = Table(*columns, title="rates over every pair")
    for work in options.work:
        for images in options.images:
            command = [sys.executable, "-m", "benchmarks.evaluation_memory", "--inside"]
            command += ["--work", work, "--images", str(images)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            pairs = images * (images - 1) // 2
            table.add_row(work, f"{images:,}", f"{pairs:,}", *said.split()[-3:])
    Console().print(table)


if __name__ == "__main__":
    main()
