"""Calibrate a face model, and measure the rates at its thresholds on other subjects.

``python -m benchmarks.operating_points --data PATH [--model face-plus] [--write FILE]`` makes the cohort of
``lfw_train`` and ``aaf``, calibrates on subjects of ``lfw_train`` with corrected labels, as ``verifykit
calibrate`` does, adds the population ``any`` (``benchmarks.bands``), and then compares every pair of the
subjects of ``lfw_val``.
``--write export/verifykit_export/face_calibration.json`` renews the calibration of ``face``,
``face_plus_calibration.json`` that of ``face-plus``. ``--renew-any FILE`` renews only the population ``any``
in such a file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.bands import CrossFitted, any_population, band_rates_of, cohort_of, rates_of_others
from benchmarks.face.data import add_data_argument, read_ages, read_evaluation_data
from benchmarks.populations import embed
from verifykit.calibration import Calibration
from verifykit.datasets import Dataset
from verifykit.encoder import Encoder
from verifykit.evaluation.calibrate import calibrate
from verifykit.evaluation.embedding import EmbeddingCache, ModelEmbedder, embed_images
from verifykit.evaluation.one_to_one import rate_of
from verifykit.evaluation.pairs import score_comparisons
from verifykit.evaluation.results import Rate
from verifykit.metrics import SubjectBootstrap
from verifykit.models import calibration_digest, load
from verifykit.spec import ModelSpec, Population
from verifykit_export.face import build_face
from verifykit_export.face_plus import build_face_plus

BUILDERS = {"face": build_face, "face-plus": build_face_plus}

# The cosines of `face-plus` spread half as far as those of `face`, so that half a penalty is too little
# (docs/adr/0022).
FACTORS = {"face": 1.0, "face-plus": 2.0}

NAME = (
    "LFW, the people of lfw_train, wrong labels put right; of several faces the one in the middle"
)

POPULATION = "adults, frontal or nearly so, uncovered: news photographs (LFW)"

ANY_POPULATION = (
    "any age from 2 to 80 and either sex, frontal or nearly so, uncovered: the rate is kept in each band of "
    "age, and of sex and age, of All-Age-Faces (mostly Asian), and among the adults of LFW"
)


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


def populations_table(population: Population) -> Table:
    """Return the points of a population, and the price in FNMR."""
    table = Table(
        title=f"population {population.name}: thresholds that keep the rate in every band"
    )
    for column in ("FMR", "threshold", "pairs", "95 %", "FNMR", "usual FNMR"):
        table.add_column(column, justify="right")
    for point, usual in zip(population.operating_points, population.usual_fnmr, strict=True):
        low, high = point.fmr_interval or (0.0, 1.0)
        table.add_row(
            f"{point.fmr:g}",
            f"{point.threshold:.4f}",
            f"{point.non_mated_count:,}",
            f"{low:.2g} to {high:.2g}",
            f"{point.fnmr or 0.0:.2%}",
            "" if usual is None else f"{usual:.2%}",
        )
    return table


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


def population_any(fitted: CrossFitted, spec: ModelSpec) -> Population:
    """Return the population ``any`` of a calibrated model, with its rates by band on other people."""
    usual = {p.fmr: p.threshold for p in spec.operating_points if p.reference_count == 1}
    measured = band_rates_of(list(rates_of_others(fitted, usual)))
    return any_population(fitted, spec, measured, ANY_POPULATION)


def renew_any(console: Console, fitted: CrossFitted, spec: ModelSpec, path: Path) -> None:
    """Renew the population ``any`` of a calibration file, and print it."""
    calibration = Calibration.read(path)
    every = population_any(fitted, calibration.apply(spec))
    calibration = replace(calibration, populations=(every,))
    path.write_text(calibration.to_json(), encoding="utf-8")
    console.print(populations_table(every), *every.notes, sep="\n")
    digest = calibration_digest(calibration.apply(spec))
    console.print(f"calibration_digest for the registry: {digest}")


def looks_of(embedder: ModelEmbedder) -> ModelEmbedder:
    """Return the model ``face``, by which near copies are found."""
    if embedder.model == "face":
        return embedder
    return ModelEmbedder(Encoder.open(load("face")), "face", multi_face="middle", quality="warn")


def rates_table(
    calibration: Calibration, outcome: Sequence[tuple[Rate, Rate]], subjects: int
) -> Table:
    """Return the points of single references, and what they got on other subjects."""
    single = [p for p in calibration.operating_points if p.reference_count == 1]
    table = Table(
        title=f"calibrated on {single[0].non_mated_count:,} non-mated pairs; measured on "
        f"{outcome[0][0].trials:,} non-mated and {outcome[0][1].trials:,} mated pairs of "
        f"{subjects:,} other subjects"
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
    return table


def calibrated(
    embedder: ModelEmbedder, train: Dataset, fitted: CrossFitted, cache: EmbeddingCache
) -> Calibration:
    """Return a new calibration of the embedder, which gets its cohort."""
    factor = FACTORS[embedder.model]
    embedder.spec = replace(embedder.spec, cohort=cohort_of(fitted.adults, fitted.ages, factor))
    found = calibrate(embedder, train, name=NAME, population=POPULATION, cache=cache)
    every = population_any(fitted, found.apply(embedder.spec))
    return replace(found, populations=(every,))


def main() -> None:
    """Measure, print, and write the calibration with ``--write``."""
    parser = argparse.ArgumentParser(prog="benchmarks.operating_points", description=__doc__)
    add_data_argument(parser)
    parser.add_argument(
        "--write", type=Path, help="write the calibration file of the model builder"
    )
    parser.add_argument("--renew-any", type=Path, help="renew the population any of such a file")
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    parser.add_argument("--model", choices=BUILDERS, default="face")
    arguments = parser.parse_args()
    console = Console(width=150)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = stack.enter_context(EmbeddingCache(arguments.cache or folder / "cache.sqlite"))
        BUILDERS[arguments.model](folder / "face.onnx", calibrated=False)
        embedder = ModelEmbedder(
            Encoder.open(folder / "face.onnx"), arguments.model, multi_face="middle", quality="warn"
        )
        train, val = (
            read_evaluation_data(arguments.data, name, folder) for name in ("lfw_train", "lfw_val")
        )
        adults = embed(embedder, train.images, cache, embedder)
        ages = embed(embedder, read_ages(arguments.data), cache, looks_of(embedder))
        fitted = CrossFitted.of(adults, ages, FACTORS[arguments.model])
        if arguments.renew_any:
            renew_any(console, fitted, embedder.spec, arguments.renew_any)
            return
        calibration = calibrated(embedder, train, fitted, cache)
        outcome = rates_at_thresholds(embedder, val, calibration, cache)
    console.print(calibration.origin())
    console.print(rates_table(calibration, outcome, len(val.subjects)))
    console.print(references_table(calibration))
    (every,) = calibration.populations
    console.print(populations_table(every), *every.notes, sep="\n")
    if arguments.write:
        arguments.write.write_text(calibration.to_json(), encoding="utf-8")
        spec = calibration.apply(embedder.spec)
        console.print(f"calibration_digest for the registry: {calibration_digest(spec)}")


if __name__ == "__main__":
    main()
