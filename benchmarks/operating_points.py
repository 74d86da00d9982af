"""Calibrate the face model, and measure the rates at its thresholds on other subjects.

``python -m benchmarks.operating_points --data PATH [--write FILE]`` makes the cohort of ``lfw_train`` and
``aaf``, calibrates on subjects of ``lfw_train`` with corrected labels, as ``verifykit calibrate`` does, and
then compares every pair of the subjects of ``lfw_val``.
``--write export/verifykit_export/face_calibration.json`` renews the model's calibration.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_ages, read_evaluation_data
from verifykit.calibration import Calibration
from verifykit.datasets import Dataset, LabelledImage
from verifykit.encoder import Encoder
from verifykit.evaluation.calibrate import calibrate
from verifykit.evaluation.cohort import make_cohort
from verifykit.evaluation.embedding import EmbeddingCache, ModelEmbedder, embed_images
from verifykit.evaluation.one_to_one import rate_of
from verifykit.evaluation.pairs import score_comparisons
from verifykit.evaluation.results import Rate
from verifykit.metrics import SubjectBootstrap
from verifykit.models import calibration_digest
from verifykit.spec import Cohort
from verifykit_export.face import build_face

NAME = (
    "LFW, the people of lfw_train, wrong labels put right; of several faces the one in the middle"
)

POPULATION = "adults, frontal or nearly so, uncovered: news photographs (LFW)"


def rates_at_thresholds(
    embedder: ModelEmbedder,
    data: Dataset,
    calibration: Calibration,
    cache: EmbeddingCache,
) -> list[tuple[Rate, Rate]]:
    """Return FMR and FNMR of single pairs at each threshold of the calibration."""
    embedded = embed_images(embedder, data.images, cache=cache)
    scored = score_comparisons(data, embedded, calibration.cohort)
    labels = data.subject_numbers()
    mated_bootstrap, non_mated_bootstrap = (
        SubjectBootstrap(labels[kind.probe], labels[kind.reference], subjects=len(data.subjects))
        for kind in (scored.mated, scored.random)
    )
    mated = scored.mated.scores.astype(np.float64)
    non_mated = scored.random.scores.astype(np.float64)
    return [
        (
            rate_of(non_mated >= point.threshold, non_mated_bootstrap),
            rate_of(mated < point.threshold, mated_bootstrap),
        )
        for point in calibration.operating_points
        if point.reference_count == 1
    ]


def face_cohort(
    embedder: ModelEmbedder,
    adults: Dataset,
    ages: Sequence[LabelledImage],
    cache: EmbeddingCache | None,
) -> Cohort:
    """Return a cohort of both sets; typical is what three quarters of the adults do not exceed."""
    found = [embed_images(embedder, images, cache=cache) for images in (adults.images, ages)]
    subjects = [
        image.subject
        for images, embedded in zip((adults.images, ages), found, strict=True)
        for image, row in zip(images, embedded.row_of, strict=True)
        if row >= 0
    ]
    rows = np.concatenate([each.rows[each.row_of[each.row_of >= 0]] for each in found])
    return make_cohort(rows, subjects, typical_of=found[0].rows)


def references_table(calibration: Calibration) -> Table:
    """Return the FNMR on the calibration's own data by number of references."""
    table = Table(title="several references, on the calibration's own subjects: FNMR")
    counts = sorted({p.reference_count for p in calibration.operating_points})
    rates = (1e-2, 1e-3, 1e-4, 1e-5)
    for column in ("references", *(f"FMR {rate:g}" for rate in rates)):
        table.add_column(column, justify="right")
    for count in counts:
        found = {p.fmr: p for p in calibration.operating_points if p.reference_count == count}
        cells = [f"{found[rate].fnmr:.2%}" if rate in found else "" for rate in rates]
        table.add_row(str(count), *cells)
    return table


def main() -> None:
    """Measure, print, and write the calibration with ``--write``."""
    parser = argparse.ArgumentParser(prog="benchmarks.operating_points", description=__doc__)
    add_data_argument(parser)
    parser.add_argument(
        "--write", type=Path, help="write the calibration file of the model builder"
    )
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    arguments = parser.parse_args()
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        model = Path(folder) / "face.onnx"
        build_face(model, calibrated=False)
        embedder = ModelEmbedder(Encoder.open(model), "face", multi_face="middle", quality="warn")
        train, val = (
            read_evaluation_data(arguments.data, name, Path(folder))
            for name in ("lfw_train", "lfw_val")
        )
        young = read_ages(arguments.data)
        task = progress.add_task("calibrating", total=len(train.images))
        with EmbeddingCache(arguments.cache or Path(folder) / "cache.sqlite") as cache:
            embedder.spec = replace(
                embedder.spec, cohort=face_cohort(embedder, train, young, cache)
            )
            calibration = calibrate(
                embedder,
                train,
                name=NAME,
                population=POPULATION,
                cache=cache,
                on_progress=lambda done, _: progress.update(task, completed=done),
            )
            outcome = rates_at_thresholds(embedder, val, calibration, cache)
    console.print(calibration.origin())
    single = [p for p in calibration.operating_points if p.reference_count == 1]
    table = Table(
        title=f"calibrated on {single[0].non_mated_count:,} non-mated pairs; measured on "
        f"{outcome[0][0].trials:,} non-mated and {outcome[0][1].trials:,} mated pairs of "
        f"{len(val.subjects):,} other subjects"
    )
    for column in ("FMR", "threshold", "95 %", "measured FMR", "95 %", "measured FNMR", "95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    for point, (fmr, fnmr) in zip(single, outcome, strict=True):
        low, high = point.fmr_interval or (0.0, 1.0)
        table.add_row(
            f"{point.fmr:g}",
            f"{point.threshold:.4f}",
            f"{low:.2g} to {high:.2g}",
            f"{fmr.value:.3g}",
            f"{fmr.low:.3g} to {fmr.high:.3g}",
            f"{fnmr.value:.2%}",
            f"{fnmr.low:.2%} to {fnmr.high:.2%}",
        )
    console.print(table)
    console.print(references_table(calibration))
    if arguments.write:
        arguments.write.write_text(calibration.to_json(), encoding="utf-8")
        spec = calibration.apply(embedder.spec)
        console.print(f"calibration_digest for the registry: {calibration_digest(spec)}")


if __name__ == "__main__":
    main()
