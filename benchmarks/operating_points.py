"""The face model's operating points: thresholds from every non-mated pair of the development faces.

``python -m benchmarks.operating_points --data PATH --write export/face_calibration.json``
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.faces import EmbeddedFaces, data_argument, embed, pictures_digest, read_people
from export.face import build_face
from verifykit.encoder import Encoder
from verifykit.metrics import equal_error_rate, fmr_at, fnmr_at, threshold_at_fmr
from verifykit.models import calibration_digest
from verifykit.spec import Fusion, OperatingPoint

SETS = ("lfw_train", "lfw_val", "orl")
RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
DEFAULT_FMR = 1e-4
FUSION: Fusion = "mean"  # chosen by benchmarks.fusion


def pair_scores(faces: EmbeddedFaces) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of every unordered pair of pictures.

    Args:
        faces: N embedded pictures.

    Returns:
        (M,) mated and (P,) non-mated cosine similarities, float32.
    """
    mated, non_mated = [], []
    for row in range(len(faces.embeddings) - 1):
        scores = faces.embeddings[row + 1 :] @ faces.embeddings[row]
        same = faces.subjects[row + 1 :] == faces.subjects[row]
        mated.append(scores[same])
        non_mated.append(scores[~same])
    return np.concatenate(mated), np.concatenate(non_mated)


def operating_points(scores: NDArray[np.float32]) -> tuple[OperatingPoint, ...]:
    """Points at :data:`RATES`, as far down as three over the number of scores allows."""
    points = []
    for fmr in RATES:
        if len(scores) * fmr < 3:
            break
        threshold = threshold_at_fmr(scores, fmr)
        matched = round(fmr_at(scores, threshold) * len(scores))
        points.append(OperatingPoint(fmr, threshold, len(scores), matched))
    return tuple(points)


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="benchmarks.operating_points", description=__doc__)
    data_argument(parser)
    parser.add_argument("--write", type=Path, help="calibration file of the builder, to replace")
    arguments = parser.parse_args()
    pictures = read_people(arguments.data, *SETS)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "face.onnx"
        build_face(model)
        encoder = Encoder.open(model)
    faces = embed(encoder, pictures)
    mated, scores = pair_scores(faces)
    points = operating_points(scores)

    subjects = len(set(faces.subjects))
    table = Table(
        title=f"{len(scores):,} non-mated and {len(mated):,} mated pairs, {subjects} subjects"
    )
    for column in ("FMR", "threshold", "false matches", "FNMR"):
        table.add_column(column, justify="right")
    for point in points:
        fnmr = f"{fnmr_at(mated, point.threshold):.4f}"
        false_matches = str(point.false_match_count)
        table.add_row(f"{point.fmr:g}", f"{point.threshold:.6f}", false_matches, fnmr)
    console = Console()
    console.print(table)
    console.print(f"EER: {equal_error_rate(mated, scores).eer:.4f}")
    console.print(f"no face found: {len(faces.no_face)} of {len(pictures)}")
    calibration = {
        "data": f"LFW ({', '.join(SETS[:2])}) and ORL, {len(pictures)} pictures of {subjects} "
        f"subjects, sha256 {pictures_digest(pictures)}; every non-mated pair; "
        "of several faces the one in the middle; three known wrong labels put right",
        "operating_points": [dataclasses.asdict(point) for point in points],
        "default_fmr": DEFAULT_FMR,
        "fusion": FUSION,
    }
    if arguments.write:
        arguments.write.write_text(json.dumps(calibration, indent=2) + "\n", encoding="utf-8")
        spec = dataclasses.replace(
            encoder.spec, operating_points=points, default_fmr=DEFAULT_FMR, fusion=FUSION
        )
        console.print(f"calibration_digest for the registry: {calibration_digest(spec)}")


if __name__ == "__main__":
    main()
