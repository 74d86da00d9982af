"""Measure the face models on the published pair lists of CFP, and what a mirror image would add to ``face``.

``python -m benchmarks.pair_lists --data PATH`` compares the pairs that CFP's protocol lists, folds 1 to 5,
frontal against frontal and frontal against profile. The figures are those that others publish, and not those
of ``benchmarks.populations``, which compares every pair of the people who are not in LFW. ``--folds 1``
measures one fold.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import ModelEmbedder
from verifykit.metrics import equal_error_rate, fnmr_at, threshold_at_fmr
from verifykit.models import load
from verifykit.scoring import penalties, unit_rows
from verifykit.spec import Cohort

FMR = 1e-2
"""The rate at which the FNMR is shown: a list has 1,750 non-mated pairs."""


@dataclass(frozen=True)
class Pair:
    """A line of the list."""

    protocol: str
    fold: str
    a: str
    b: str
    mated: bool


@dataclass(frozen=True, eq=False)
class Rows:
    """Embeddings by image, of the crop and of its mean with its mirror image; (2, D) each."""

    of: dict[str, NDArray[np.float32]]
    lost: Counter[str]


def read_pair_list(data: Path, folds: Sequence[int]) -> list[Pair]:
    """Return the pairs of some folds."""
    with (data / "faces" / "cfp" / "pairs.csv").open(encoding="utf-8", newline="") as file:
        return [
            Pair(row["protocol"], row["fold"], row["path_a"], row["path_b"], row["same"] == "1")
            for row in csv.DictReader(file)
            if int(row["fold"]) in folds
        ]


def embed(name: str, root: Path, images: Sequence[str]) -> Rows:
    """Embed images and their mirror images."""
    encoder = Encoder.open(load(name))
    embedder = ModelEmbedder(encoder, name, multi_face="middle", quality="warn")
    found, lost = {}, Counter[str]()
    for image in track(images, description=name):
        try:
            crop = embedder.crop(root / image)
        except AcquisitionError as error:
            lost[error.reason] += 1
            continue
        both = encoder.encode([crop, np.ascontiguousarray(crop[:, ::-1])])
        found[image] = np.stack([both[0], unit_rows(both.sum(axis=0)[None])[0]])
    return Rows(found, lost)


def arms(name: str, cohort: Cohort | None) -> Iterator[tuple[str, int, Cohort | None]]:
    """Yield what is compared: a text, which of the two rows, and the cohort."""
    yield "cosine", 0, None
    yield "with its cohort", 0, cohort
    if name == "face":  # the network of face-plus has the mirror image inside
        yield "cosine, with the mirror image", 1, None


def scores_of(
    pairs: Sequence[Pair], rows: Rows, which: int, cohort: Cohort | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.str_]]:
    """Return the scores of the pairs of which both images gave a template, mated or not, and the fold."""
    names = list(rows.of)
    of_row = dict(
        zip(names, penalties(cohort, np.stack([rows.of[n][which] for n in names])), strict=True)
    )
    usable = [pair for pair in pairs if pair.a in rows.of and pair.b in rows.of]
    scores = [
        float(rows.of[pair.a][which] @ rows.of[pair.b][which])
        - float(of_row[pair.a] + of_row[pair.b]) / 2
        for pair in usable
    ]
    return (
        np.array(scores),
        np.array([pair.mated for pair in usable]),
        np.array([pair.fold for pair in usable]),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.pair_lists", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--models", nargs="+", default=["face", "face-plus"])
    arguments = parser.parse_args()
    pairs = read_pair_list(arguments.data, arguments.folds)
    images = sorted({image for pair in pairs for image in (pair.a, pair.b)})
    table = Table(title=f"CFP's pair lists, folds {', '.join(map(str, arguments.folds))}")
    columns = ("model", "pairs", "score", "compared", "EER", "of folds", f"FNMR at FMR {FMR:g}")
    for column in columns:
        table.add_column(column)
    console = Console(width=110)
    for name in arguments.models:
        rows = embed(name, arguments.data / "faces" / "cfp", images)
        console.print(f"{name}: no template of {dict(rows.lost)} of {len(images)} images")
        for protocol, text in (("FF", "frontal"), ("FP", "frontal and profile")):
            listed = [pair for pair in pairs if pair.protocol == protocol]
            for arm, which, cohort in arms(name, load(name).spec.cohort):
                scores, mated, folds = scores_of(listed, rows, which, cohort)
                eers = [
                    equal_error_rate(scores[mated & mine], scores[~mated & mine]).eer
                    for mine in (folds == fold for fold in np.unique(folds))
                ]
                threshold = threshold_at_fmr(scores[~mated], FMR)
                table.add_row(
                    *(name, text, arm, f"{len(scores)} of {len(listed)}"),
                    f"{equal_error_rate(scores[mated], scores[~mated]).eer:.2%}",
                    f"{np.mean(eers):.2%}",
                    f"{fnmr_at(scores[mated], threshold):.2%}",
                )
    console.print(table)


if __name__ == "__main__":
    main()
