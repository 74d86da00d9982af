"""Thresholds of a face model that keep a rate in every band of age and sex: its population ``any``.

The bands are those of All-Age-Faces, whose people are also in the cohort. So each of their pairs is scored
with a cohort that holds neither of both: people are in folds, and there is a cohort without each two of them.
What ``any`` does to people who did not choose it is measured in the same way: for each pair the thresholds
are chosen on the people who are in neither of its folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.face.data import ONE_PERSON
from verifykit.datasets import Dataset, LabelledImage
from verifykit.evaluation.bands import Bands, read_bands
from verifykit.evaluation.calibrate import ANY, FMRS, default_rate
from verifykit.evaluation.cohort import make_cohort
from verifykit.evaluation.one_to_one import rate_of
from verifykit.evaluation.results import Rate
from verifykit.evaluation.worst_band import (
    BandedScores,
    Unsupported,
    WorstBand,
    joined_sentences,
    worst_band_threshold,
)
from verifykit.metrics import SubjectBootstrap
from verifykit.scoring import penalties
from verifykit.spec import BandRate, Cohort, ModelSpec, Population
from verifykit.types import Embeddings

AGE_BANDS = ("age=0,7,13,18,30,45,60", "sex+age=0,7,13,18,30,45,60")

ADULTS = "adults of LFW"

BANDS_DATA = (
    "All-Age-Faces, copies of one person left out; neither of a pair is in the cohort of its score or chose "
    "the threshold (eight folds of people)"
)

FOLDS = 8

# The highest scores of a band, by the model `face`, are of one child under two numbers (data/README.md).
NEAR_COPY = 0.75

SHOWN = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, eq=False)
class Faces:
    """Embedded images: unit rows (N, D), subjects (N,), and a kind each (N,), such as an age band.

    ``looks`` are rows (N, E) of the model ``face``, by which near copies are found: a limit of cosines is
    one model's. ``bands`` has the bands of the columns in ``AGE_BANDS``, for sets that have these.
    """

    rows: Embeddings
    subjects: NDArray[np.str_]
    kinds: NDArray[np.str_]
    looks: Embeddings
    bands: tuple[Bands, ...] = ()

    def only(self, chosen: NDArray[np.bool_]) -> Faces:
        """Return some of them."""
        return Faces(
            self.rows[chosen],
            self.subjects[chosen],
            self.kinds[chosen],
            self.looks[chosen],
            tuple(each.only(np.flatnonzero(chosen).tolist()) for each in self.bands),
        )


def age_bands(images: Sequence[LabelledImage]) -> tuple[Bands, ...]:
    """Return the bands of age, and of sex and age, of images of All-Age-Faces."""
    return read_bands(Dataset(Path("aaf"), "images", tuple(images), None), AGE_BANDS)


def cohort_of(adults: Faces, young: Faces, factor: float) -> Cohort:
    """Return the cohort of both; typical is what three quarters of the adults do not exceed."""
    rows = np.concatenate([adults.rows, young.rows])
    subjects = [*adults.subjects, *young.subjects]
    return make_cohort(rows, subjects, typical_of=adults.rows, factor=factor)


def scores_of(
    faces: Faces, penalty: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (N, N) scores less half of (N, N) penalties, which pairs are mated, and which count.

    Each pair counts once; where everyone has one image, near copies do not.
    """
    scores = faces.rows.astype(np.float64) @ faces.rows.astype(np.float64).T
    if penalty is not None:
        scores -= (penalty + penalty.T) / 2
    counted = np.triu(np.ones(scores.shape, bool), 1)
    names, numbers = np.unique(faces.subjects, return_inverse=True)
    if len(names) == len(numbers):
        counted &= ~copies(faces)
    return scores, numbers[:, None] == numbers[None], counted


def copies(faces: Faces) -> NDArray[np.bool_]:
    """Return (N, N) which pairs of images show one person: near copies, and those that are known."""
    found = faces.looks @ faces.looks.T >= NEAR_COPY
    for group in ONE_PERSON:
        same = np.isin(faces.subjects, [f"aaf/{number}" for number in group])
        found |= same[:, None] & same[None]
    return np.asarray(found)


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Adults and people of all ages, each pair with penalties by a cohort that holds neither of both.

    Attributes:
        adults: The people of ``lfw_train``.
        ages: The people of All-Age-Faces.
        penalty: (N, N) for both sets, the penalty of each row in a pair with each other one.
        folds: (N,) for both sets, the fold of each row's subject.
    """

    adults: Faces
    ages: Faces
    penalty: tuple[NDArray[np.float64], NDArray[np.float64]]
    folds: tuple[NDArray[np.int64], NDArray[np.int64]]

    @classmethod
    def of(cls, adults: Faces, ages: Faces, factor: float | None) -> CrossFitted:
        """Make the cohorts without each two folds; no factor, no cohort and no penalties."""
        random = np.random.default_rng(0)
        sets = adults, ages
        folds, tables = [], []
        for faces in sets:
            names, owner = np.unique(faces.subjects, return_inverse=True)
            folds.append(random.permutation(len(names))[owner] % FOLDS)
            tables.append(np.zeros((len(faces.rows), len(faces.rows))))
        pairs = [(one, two) for one in range(FOLDS) for two in range(one, FOLDS)]
        for pair in pairs if factor is not None else ():
            known = [~np.isin(fold, pair) for fold in folds]
            cohort = cohort_of(adults.only(known[0]), ages.only(known[1]), factor or 1.0)
            for faces, fold, table in zip(sets, folds, tables, strict=True):
                mine = penalties(cohort, faces.rows)
                for first, second in {pair, pair[::-1]}:
                    rows, columns = np.flatnonzero(fold == first), np.flatnonzero(fold == second)
                    table[np.ix_(rows, columns)] = mine[rows, None]
        return cls(adults, ages, (tables[0], tables[1]), (folds[0], folds[1]))

    def adult_scores(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the scores of mated pairs of adults, and (2, P) whose they are."""
        scores, mated, counted = scores_of(self.adults, self.penalty[0])
        ends = np.stack(np.nonzero(mated & counted))
        owner = np.unique(self.adults.subjects, return_inverse=True)[1]
        return scores[ends[0], ends[1]], owner[ends]

    def sets(self) -> list[BandedScores]:
        """Return the non-mated scores: of adults, and of all ages by each column of bands."""
        adults = _non_mated(self.adults, self.penalty[0], [None], ADULTS)
        return adults + _non_mated(self.ages, self.penalty[1], self.ages.bands, "")


def _non_mated(
    faces: Faces, penalty: NDArray[np.float64], bands: Sequence[Bands | None], title: str
) -> list[BandedScores]:
    """Return the non-mated scores of one set, by each column of bands; a subject has the number of a row."""
    scores, mated, counted = scores_of(faces, penalty)
    rows, columns = np.nonzero(counted & ~mated)
    first = np.unique(faces.subjects, return_index=True, return_inverse=True)
    owner = first[1][first[2]]
    none = np.full(len(rows), -1, np.int16)
    return [
        BandedScores(
            each,
            scores[rows, columns],
            owner[rows],
            owner[columns],
            none if each is None else each.codes[rows],
            none if each is None else each.codes[columns],
            title=title,
        )
        for each in bands
    ]


def any_thresholds(
    sets: Sequence[BandedScores], lowest: float = 0.0, adults: Mapping[float, float] | None = None
) -> tuple[dict[float, WorstBand], str | None]:
    """Return the thresholds of ``any`` by rate, and why there are no lower ones, unless none is requested.

    ``adults`` has thresholds of a set that is not among ``sets``.
    """
    found: dict[float, WorstBand] = {}
    least = -np.inf
    for fmr in FMRS["random_forgery"]:
        if fmr < lowest * (1 - 1e-9):
            return found, None
        least = max(least, (adults or {}).get(fmr, least))
        worst = worst_band_threshold(sets, fmr, least=least)
        if isinstance(worst, Unsupported):
            return found, f"{worst.sentence(fmr)}: lower rates are not stated"
        found[fmr] = worst
        least = worst.threshold
    return found, None


def any_population(
    fitted: CrossFitted, spec: ModelSpec, bands: tuple[BandRate, ...], description: str
) -> Population:
    """Return the population ``any``, chosen on everyone; ``bands`` is what was measured on others."""
    chosen, refusal = any_thresholds(fitted.sets())
    mates, owners = fitted.adult_scores()
    ours = SubjectBootstrap(owners[0], owners[1])
    usual = {p.fmr: p.threshold for p in spec.operating_points if p.reference_count == 1}
    joined: dict[str, float] = {}
    for fmr, worst in chosen.items():
        joined |= {name: fmr for name in worst.joined if name not in joined}
    notes = joined_sentences(joined)
    points = []
    for fmr, worst in chosen.items():
        missed = rate_of(mates < worst.threshold, ours)
        points.append(worst.operating_point(fmr, missed.value, (missed.low, missed.high)))
    default_fmr, attack = default_rate(points, spec)
    return Population(
        ANY,
        description,
        tuple(points),
        tuple(float((mates < usual[fmr]).mean()) for fmr in chosen),
        default_fmr,
        attack,
        bands,
        BANDS_DATA,
        (*notes, *([refusal] if refusal else [])),
    )


@dataclass(frozen=True)
class MeasuredBand:
    """The rates of a band at the usual threshold, and at those of ``any`` that other people chose."""

    band: str
    fmr: float
    subjects: int
    usual: Rate
    any: Rate | None


def rates_of_others(
    fitted: CrossFitted, usual: Mapping[float, float], fmrs: Sequence[float] = SHOWN
) -> Iterator[MeasuredBand]:
    """Yield what each band gets at usual thresholds by rate, and at those of ``any``.

    For each pair those of ``any`` are chosen on the people who are in neither of its folds.
    """
    sets = fitted.sets()
    everyone = sets[1:]
    adults = {fmr: each.threshold for fmr, each in any_thresholds(sets[:1], min(fmrs))[0].items()}
    fold = fitted.folds[1]
    ends = np.sort(fold[np.stack([everyone[0].probe, everyone[0].reference])], axis=0)
    stated = {fmr: np.full(len(everyone[0].scores), np.nan) for fmr in fmrs}
    for one in range(FOLDS):
        for two in range(one, FOLDS):
            others = np.asarray(~np.isin(ends, (one, two)).any(axis=0))
            chosen, _ = any_thresholds(
                [_some(each, others) for each in everyone], min(fmrs), adults
            )
            here = (ends[0] == one) & (ends[1] == two)
            for fmr in fmrs:
                stated[fmr][here] = chosen[fmr].threshold if fmr in chosen else np.nan
    for fmr in fmrs:
        for each in everyone:
            for code in range(len(each.bands or ())):
                yield _measured_band(each, code, fmr, usual[fmr], stated[fmr])


def _some(scores: BandedScores, chosen: NDArray[np.bool_]) -> BandedScores:
    names = "scores", "probe", "reference", "left", "right"
    return replace(scores, **{name: getattr(scores, name)[chosen] for name in names})


def _measured_band(
    scores: BandedScores, code: int, fmr: float, usual: float, stated: NDArray[np.float64]
) -> MeasuredBand:
    here = scores.within((code,))
    sides = scores.probe[here], scores.reference[here]
    bootstrap = SubjectBootstrap(*sides)
    found, thresholds = scores.scores[here], stated[here]
    is_stated = not np.isnan(thresholds).any()
    return MeasuredBand(
        scores.name((code,)),
        fmr,
        int(np.union1d(*sides).size),
        rate_of(found >= usual, bootstrap),
        rate_of(found >= thresholds, bootstrap) if is_stated else None,
    )


def band_rates_of(found: Sequence[MeasuredBand]) -> tuple[BandRate, ...]:
    """Return them as a model file states them, without those for which ``any`` states no rate."""
    return tuple(
        BandRate(
            each.band,
            each.fmr,
            each.subjects,
            each.usual.trials,
            each.usual.value,
            (each.usual.low, each.usual.high),
            each.any.value,
            (each.any.low, each.any.high),
        )
        for each in found
        if each.any is not None
    )
