"""Measure what a requested false match rate becomes in other populations.

``python -m benchmarks.populations --data PATH`` sets a threshold on the people of ``lfw_train``, without the
cohort (no) and with it (yes), and takes that of the model's population ``any``. It measures the rates on sets
that neither chose them nor are in the cohort: the bands of age, and of sex and age, of All-Age-Faces, ORL,
other people of LFW, and CFP (frontal against frontal, and against profile). People of ``aaf`` are in eight
folds, and a pair is measured with a cohort and at a threshold of ``any`` that its two folds have no part in.
``--model face-plus`` measures that one.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.bands import CrossFitted, Faces, age_bands, cohort_of, copies, rates_of_others
from benchmarks.face.data import add_data_argument, read_ages, read_evaluation_data
from verifykit.datasets import LabelledImage
from verifykit.encoder import Encoder
from verifykit.evaluation.calibrate import ANY
from verifykit.evaluation.embedding import EmbeddingCache, ModelEmbedder, embed_images
from verifykit.evaluation.one_to_one import rate_of
from verifykit.evaluation.results import Rate
from verifykit.metrics import SubjectBootstrap, equal_error_rate, threshold_at_fmr
from verifykit.models import load
from verifykit.scoring import penalties
from verifykit.spec import Cohort, ModelSpec


def read_cfp(data: Path) -> list[LabelledImage]:
    """Return the images of ``cfp`` without the people who are in LFW; the group is frontal or profile."""
    root = data / "faces" / "cfp"
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [
            LabelledImage(root / r["path"], r["path"], r["subject"], groups={"band": r["label"]})
            for r in csv.DictReader(file)
            if r["in_lfw"] == "0"
        ]


def embed(
    embedder: ModelEmbedder,
    images: Sequence[LabelledImage],
    cache: EmbeddingCache,
    looks_of: ModelEmbedder,
) -> Faces:
    """Embed images; those without a face are left out."""
    found = embed_images(embedder, images, cache=cache)
    seen = embed_images(looks_of, images, cache=cache)
    kept = [
        n for n, rows in enumerate(zip(found.row_of, seen.row_of, strict=True)) if min(rows) >= 0
    ]
    return Faces(
        found.rows[found.row_of[kept]],
        np.array([images[n].subject for n in kept]),
        np.array([images[n].groups.get("band", "") for n in kept]),
        seen.rows[seen.row_of[kept]],
        tuple(each.only(kept) for each in age_bands(images)) if "age" in images[0].groups else (),
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
        """Score them less their penalties; near copies under two numbers are left out."""
        two = one if other is None else other
        cosines = one.rows.astype(np.float64) @ two.rows.astype(np.float64).T
        scores = cosines - penalties(cohort, one.rows)[:, None] / 2
        scores -= penalties(cohort, two.rows)[None] / 2
        names, numbers = np.unique([*one.subjects, *two.subjects], return_inverse=True)
        mine, theirs = numbers[: len(one.subjects)], numbers[len(one.subjects) :]
        mated = mine[:, None] == theirs[None]
        chosen = np.ones(scores.shape, bool) if other else np.triu(np.ones(scores.shape, bool), 1)
        if other is None and len(names) == len(one.subjects):
            chosen &= ~copies(one)
        rows, columns = np.nonzero(chosen)
        ends = np.stack([mine[rows], theirs[columns]], axis=1)
        return cls(scores[chosen], ends, mated[chosen], len(names))

    def rates(self, threshold: float) -> tuple[Rate, Rate | None, float | None]:
        """Return FMR and FNMR with intervals over subjects, and the EER; None without mated pairs."""
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
        if fnmr is None:
            return fmr, None, None
        return fmr, fnmr, equal_error_rate(self.values[self.mated], self.values[~self.mated]).eer


def measured(
    sets: dict[str, Faces], fmr: float, spec: ModelSpec
) -> Iterator[tuple[str, str, Rate, Rate | None, float | None]]:
    """Yield set, threshold and rates for the sets of people who chose none."""
    assert spec.cohort is not None  # noqa: S101 - a face model has one
    train = sets["train"]
    cohort = cohort_of(train, sets["ages"], spec.cohort.factor)
    arms: list[tuple[str, Cohort | None, float]] = []
    for name, each in (("no", None), ("yes", cohort)):
        scores = Scores.of(train, None, each)
        arms.append((name, each, threshold_at_fmr(scores.values[~scores.mated], fmr)))
    if spec.populations:
        arms.append(("any", cohort, spec.of_population(ANY).operating_point(fmr).threshold))
    frontal, profile = (sets["cfp"].only(sets["cfp"].kinds == k) for k in ("frontal", "profile"))
    for title, one, other in (
        ("ORL", sets["orl"], None),
        ("LFW, other people", sets["val"], None),
        ("CFP, frontal", frontal, None),
        ("CFP, frontal against profile", frontal, profile),
    ):
        for name, each, threshold in arms:
            yield title, name, *Scores.of(one, other, each).rates(threshold)


def measured_bands(
    sets: dict[str, Faces], fmr: float, spec: ModelSpec
) -> Iterator[tuple[str, str, Rate, None, None]]:
    """Yield band, threshold and rate for the bands of All-Age-Faces, the youngest first."""
    assert spec.cohort is not None  # noqa: S101 - a face model has one
    train, ages = sets["train"], sets["ages"]
    scores = Scores.of(train, None, None)
    own = spec.operating_point(fmr).threshold
    plain, less = (
        rates_of_others(CrossFitted.of(train, ages, factor), {fmr: usual}, (fmr,))
        for factor, usual in (
            (None, threshold_at_fmr(scores.values[~scores.mated], fmr)),
            (spec.cohort.factor, own),
        )
    )
    for without, each in zip(plain, less, strict=True):
        yield each.band, "no", without.usual, None, None
        yield each.band, "yes", each.usual, None, None
        if each.any is not None:
            yield each.band, "any", each.any, None, None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.populations", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    parser.add_argument("--fmr", type=float, default=1e-4, help="the requested rate")
    parser.add_argument("--model", choices=("face", "face-plus"), default="face")
    arguments = parser.parse_args()
    name = arguments.model
    embedder, face = (
        ModelEmbedder(Encoder.open(load(each)), each, multi_face="middle", quality="warn")
        for each in (name, "face")
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
        sets = {
            key: embed(embedder, images[key], cache, face if key == "ages" else embedder)
            for key in track(images, "embedding")
        }
    spec = embedder.spec
    table = Table(title=f"{name} at thresholds of FMR {arguments.fmr:g}")
    for column in ("set", "cohort", "pairs", "FMR", "95 %", "FNMR", "95 %", "EER"):
        table.add_column(column, justify="left" if column in ("set", "cohort") else "right")
    before = ""
    for rows in (measured_bands, measured):
        for title, arm, fmr, fnmr, eer in rows(sets, arguments.fmr, spec):
            cells = [f"{fmr.trials:,}", f"{fmr.value:.1e}", f"{fmr.low:.1e} to {fmr.high:.1e}"]
            if fnmr is not None and eer is not None:
                cells += [f"{fnmr.value:.2%}", f"{fnmr.low:.2%} to {fnmr.high:.2%}", f"{eer:.2%}"]
            table.add_row("" if title == before else title, arm, *cells)
            before = title
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
