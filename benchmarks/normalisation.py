"""Measure the effect of cohort normalisation of scores: ``python -m benchmarks.normalisation --data PATH``.

Calibrates the face model on the subjects of ``lfw_train``, with plain cosines and with some of the subjects
as a cohort, and prints the rates at these thresholds on ``lfw_val``, which is similar data, and on ORL, which
was photographed under other conditions.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_evaluation_data
from verifykit.calibration import Calibration
from verifykit.datasets import Dataset
from verifykit.encoder import Encoder
from verifykit.evaluation.calibrate import calibrate, draw_scores
from verifykit.evaluation.embedding import Embedded, EmbeddingCache, ModelEmbedder, embed_images
from verifykit.models import load

COHORTS = (0, 50, 100, 200)
FMRS = (1e-2, 1e-3, 1e-4)


def rates_at_thresholds(
    calibration: Calibration, data: Dataset, embedded: Embedded
) -> Iterator[tuple[float, float, float]]:
    """Yield each nominal FMR with the FMR and FNMR of single pairs at its threshold."""
    scores = draw_scores(
        embedded.rows,
        [image.subject for image in data.images],
        [False] * len(data.images),
        calibration.fusion,
        1,
        cohort=calibration.cohort,
    )
    for point in calibration.operating_points:
        if point.reference_count == 1 and point.fmr in FMRS:
            false_matches = scores.non_mated.scores.astype(np.float64) >= point.threshold
            false_non_matches = scores.mated.scores.astype(np.float64) < point.threshold
            yield point.fmr, float(false_matches.mean()), float(false_non_matches.mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.normalisation", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    arguments = parser.parse_args()
    embedder = ModelEmbedder(
        Encoder.open(load("face")), "face", multi_face="middle", quality="warn"
    )
    table = Table(title="single pairs at the thresholds of lfw_train")
    for column in ("cohort", "FMR asked", "lfw_val: FMR", "FNMR", "ORL: FMR", "FNMR"):
        table.add_column(column, justify="right")
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddingCache(arguments.cache or Path(folder) / "cache.sqlite") as cache,
    ):
        train, *others = (
            read_evaluation_data(arguments.data, name, Path(folder))
            for name in ("lfw_train", "lfw_val", "orl")
        )
        rows = [embed_images(embedder, data.images, cache=cache) for data in others]
        for size in COHORTS:
            calibration = calibrate(embedder, train, counts=(1,), cohort=size, cache=cache)
            outcomes = [
                rates_at_thresholds(calibration, *each) for each in zip(others, rows, strict=True)
            ]
            for (fmr, *val), (_, *orl) in zip(*outcomes, strict=True):
                cells = (f"{val[0]:.2g}", f"{val[1]:.2%}", f"{orl[0]:.2g}", f"{orl[1]:.2%}")
                table.add_row(str(size) if size else "none", f"{fmr:g}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
