"""Compare fusions of several references, and the rates at thresholds that were measured on single pairs.

``python -m benchmarks.fusion --data PATH``: of subjects with eight images or more, K are references and the
others are mated probes; the images of all other subjects are non-mated probes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.face.data import EmbeddedFaces, add_data_argument, embed, read_subjects
from verifykit.encoder import Encoder
from verifykit.metrics import fmr_at, fnmr_at, fnmr_at_fmr
from verifykit.models import load
from verifykit.scoring import FUSIONS, reference_rows

COUNTS = (1, 2, 3, 5)
RATES = (1e-3, 1e-4)
MIN_IMAGES = 8


def scores(
    faces: EmbeddedFaces, count: int, seed: int
) -> Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return (mated, non-mated) scores by fusion, with ``count`` random references per subject."""
    generator = np.random.default_rng(seed)
    mated: dict[str, list[NDArray[np.float32]]] = {fusion: [] for fusion in FUSIONS}
    non_mated: dict[str, list[NDArray[np.float32]]] = {fusion: [] for fusion in FUSIONS}
    for subject in np.unique(faces.subjects):
        own = np.flatnonzero(faces.subjects == subject)
        if len(own) < MIN_IMAGES:
            continue
        shuffled = generator.permutation(own)
        references = faces.embeddings[shuffled[:count]]
        for fusion in FUSIONS:
            fused = (faces.embeddings @ reference_rows(references, fusion).T).max(axis=1)
            mated[fusion].append(fused[shuffled[count:]])
            non_mated[fusion].append(fused[faces.subjects != subject])
    return {f: (np.concatenate(mated[f]), np.concatenate(non_mated[f])) for f in FUSIONS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.fusion", description=__doc__)
    add_data_argument(parser)
    arguments = parser.parse_args()
    encoder = Encoder.open(load("face"))
    faces = embed(encoder, read_subjects(arguments.data, "lfw_train", "lfw_val", "orl"))
    table = Table(title="fusion of K references (thresholds of single pairs)")
    for column in ("K", "fusion", "FMR asked", "FMR found", "FNMR found", "FNMR at its own FMR"):
        table.add_column(column, justify="right")
    for count in COUNTS:
        for fusion, (mated, non_mated) in scores(faces, count, seed=1).items():
            for fmr in RATES:
                threshold = encoder.spec.operating_point(fmr).threshold
                table.add_row(
                    str(count),
                    fusion,
                    f"{fmr:g}",
                    f"{fmr_at(non_mated, threshold):.2e}",
                    f"{fnmr_at(mated, threshold):.4f}",
                    f"{fnmr_at_fmr(mated, non_mated, fmr)[0]:.4f}",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
