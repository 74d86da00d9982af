"""Measure what a requested false match rate becomes in other populations, with and without the cohort.

``python -m benchmarks.populations --data PATH`` sets a threshold on the people of ``lfw_train`` and measures
the rates on sets that neither chose it nor are in the cohort: other people of LFW, ORL, CFP (frontal against
frontal, and against profile), and the age bands of All-Age-Faces. Half of the people of ``aaf`` are in the
cohort that the other half is measured with, and the other way round.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_ages, read_evaluation_data
from verifykit.datasets import LabelledImage
from verifykit.encoder import Encoder
from verifykit.evaluation.cohort import make_cohort
from verifykit.evaluation.embedding import EmbeddingCache, ModelEmbedder, embed_images
from verifykit.evaluation.one_to_one import rate_of
from verifykit.evaluation.results import Rate
from verifykit.metrics import SubjectBootstrap, threshold_at_fmr
from verifykit.models import load
from verifykit.scoring import penalties
from verifykit.spec import Cohort
from verifykit.types import Embeddings

# The highest scores of a band are of one child under two numbers (data/README.md).
_NEAR_COPY = 0.75


@dataclass(frozen=True, eq=False)
class Faces:
    """Embedded images: unit rows (N, D), subjects (N,), and a kind each (N,), such as an age band."""

    rows: Embeddings
    subjects: NDArray[np.str_]
    kinds: NDArray[np.str_]

    def only(self, chosen: NDArray[np.bool_]) -> Faces:
        """Return some of them."""
        return Faces(self.rows[chosen], self.subjects[chosen], self.kinds[chosen])


def read_cfp(data: Path) -> list[LabelledImage]:
    """Return the images of ``cfp`` without the people who are in LFW; the group is frontal or profile."""
    root = data / "faces" / "cfp"
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [
            LabelledImage(root / r["path"], r["path"], r["subject"], groups={"band": r["label"]})
            for r in csv.DictReader(file)
            if r["in_lfw"] == "0"
        ]


def embed(embedder: ModelEmbedder, images: Sequence[LabelledImage], cache: EmbeddingCache) -> Faces:
    """Embed images; those without a face are left out."""
    found = embed_images(embedder, images, cache=cache)
    kept = [n for n, row in enumerate(found.row_of) if row >= 0]
    return Faces(
        found.rows[found.row_of[kept]],
        np.array([images[n].subject for n in kept]),
        np.array([images[n].groups.get("band", "") for n in kept]),
    )


@dataclass(frozen=True, eq=False)
class Scores:
    """Every pair of two sets of faces, or of one: scores, ends as numbers of subjects, mated or not."""

    values: NDArray[np.float64]
    ends: NDArray[np.int64]
    mated: NDArray[np.bool_]
    subjects: int

    @classmethod
    def of(cls, one: Faces, other: Faces | None, cohort: Cohort | None) -> Scores:
        """Score them less their penalties; cosines of near copies between subjects are left out."""
        two = one if other is None else other
        cosines = one.rows.astype(np.float64) @ two.rows.astype(np.float64).T
        scores = cosines - penalties(cohort, one.rows)[:, None] / 2
        scores -= penalties(cohort, two.rows)[None] / 2
        names, numbers = np.unique([*one.subjects, *two.subjects], return_inverse=True)
        mine, theirs = numbers[: len(one.subjects)], numbers[len(one.subjects) :]
        mated = mine[:, None] == theirs[None]
        chosen = np.ones(scores.shape, bool) if other else np.triu(np.ones(scores.shape, bool), 1)
        if other is None and len(names) == len(one.subjects):
            chosen &= cosines < _NEAR_COPY
        rows, columns = np.nonzero(chosen)
        ends = np.stack([mine[rows], theirs[columns]], axis=1)
        return cls(scores[chosen], ends, mated[chosen], len(names))

    def less(self, threshold: float) -> Scores:
        """Return the scores as distances from a threshold."""
        return replace(self, values=self.values - threshold)

    def joined(self, other: Scores) -> Scores:
        """Return the scores of both, of different subjects."""
        return Scores(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.ends, other.ends + self.subjects]),
            np.concatenate([self.mated, other.mated]),
            self.subjects + other.subjects,
        )

    def rates(self, threshold: float) -> tuple[Rate, Rate | None]:
        """Return FMR and FNMR with their intervals over subjects; None without mated pairs."""
        found: list[Rate | None] = []
        for kind, sign in ((~self.mated, 1), (self.mated, -1)):
            events = self.values[kind] >= threshold if sign > 0 else self.values[kind] < threshold
            ends = self.ends[kind]
            if not events.size:
                found.append(None)
                continue
            bootstrap = SubjectBootstrap(ends[:, 0], ends[:, 1], subjects=self.subjects)
            found.append(rate_of(events, bootstrap))
        fmr, fnmr = found
        assert fmr is not None  # noqa: S101 - every set has two subjects
        return fmr, fnmr


def measured(
    sets: dict[str, Faces], fmr: float, *, with_cohort: bool
) -> Iterator[tuple[str, Rate, Rate | None]]:
    """Yield the rates of each set at the threshold of ``lfw_train``."""
    train, ages = sets["train"], sets["ages"]
    half = np.random.default_rng(0).permutation(len(ages.rows)) < len(ages.rows) // 2

    def cohort_of(young: Faces) -> Cohort | None:
        if not with_cohort:
            return None
        rows = np.concatenate([train.rows, young.rows])
        return make_cohort(rows, [*train.subjects, *young.subjects], typical_of=train.rows)

    def threshold_of(cohort: Cohort | None) -> float:
        scores = Scores.of(train, None, cohort)
        return threshold_at_fmr(scores.values[~scores.mated], fmr)

    cohort = cohort_of(ages)
    threshold = threshold_of(cohort)
    frontal, profile = (sets["cfp"].only(sets["cfp"].kinds == k) for k in ("frontal", "profile"))
    for name, one, other in (
        ("LFW, other people", sets["val"], None),
        ("ORL", sets["orl"], None),
        ("CFP, frontal", frontal, None),
        ("CFP, frontal against profile", frontal, profile),
    ):
        yield name, *Scores.of(one, other, cohort).rates(threshold)
    halves = []
    for part in (half, ~half):
        other_half = cohort_of(ages.only(~part))
        halves.append((part, other_half, threshold_of(other_half)))
    for band in np.unique(ages.kinds):
        margins = [
            Scores.of(ages.only(part & (ages.kinds == band)), None, other_half).less(at)
            for part, other_half, at in halves
        ]
        yield f"All-Age-Faces, {band}", *margins[0].joined(margins[1]).rates(0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.populations", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    parser.add_argument("--fmr", type=float, default=1e-4, help="the requested rate")
    arguments = parser.parse_args()
    embedder = ModelEmbedder(
        Encoder.open(load("face")), "face", multi_face="middle", quality="warn"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = stack.enter_context(EmbeddingCache(arguments.cache or folder / "cache.sqlite"))
        train, val, orl = (
            read_evaluation_data(arguments.data, name, folder).images
            for name in ("lfw_train", "lfw_val", "orl")
        )
        known = {image.subject for image in train}
        images = {
            "train": train,
            "val": [image for image in val if image.subject not in known],
            "orl": orl,
            "cfp": read_cfp(arguments.data),
            "ages": read_ages(arguments.data),
        }
        sets = {name: embed(embedder, images[name], cache) for name in track(images, "embedding")}
    table = Table(title=f"at the threshold of FMR {arguments.fmr:g} on lfw_train")
    for column in ("set", "cohort", "FMR", "95 %", "FNMR", "95 %"):
        table.add_column(column, justify="left" if column in ("set", "cohort") else "right")
    plain, less = (
        measured(sets, arguments.fmr, with_cohort=with_cohort) for with_cohort in (False, True)
    )
    for both in zip(plain, less, strict=True):
        for arm, (name, fmr, fnmr) in zip(("no", "yes"), both, strict=True):
            cells = [f"{fmr.value:.1e}", f"{fmr.low:.1e} to {fmr.high:.1e}"]
            if fnmr is not None:
                cells += [f"{fnmr.value:.2%}", f"{fnmr.low:.2%} to {fnmr.high:.2%}"]
            table.add_row(name if arm == "no" else "", arm, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
