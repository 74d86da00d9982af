"""Calibrate a model on a user's own images: operating points and evidence.

For each attack and number of references that the data support, since the same threshold means another rate
when the scores of more references are fused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from verifykit import __version__
from verifykit.calibration import Calibration
from verifykit.datasets import Dataset
from verifykit.errors import CalibrationError, InputError
from verifykit.evaluation.cohort import LEAST_PEOPLE, make_cohort
from verifykit.evaluation.embedding import (
    Embedded,
    EmbeddingCache,
    ModelEmbedder,
    ModelLike,
    as_embedder,
    embed_images,
    failures,
)
from verifykit.evaluation.one_to_one import supported
from verifykit.evaluation.pair_tiles import PairTiles
from verifykit.evaluation.pairs import (
    Comparisons,
    ScoredComparisons,
    as_dataset,
    coded,
    columns,
    count_pairs,
    data_digest,
    every_pair,
    score_comparisons,
)
from verifykit.evaluation.single_references import (
    Weighted,
    evidence_of,
    group_draws,
    points_of_every_pair,
)
from verifykit.evaluation.tiled_scores import MOST_HELD
from verifykit.metrics import SubjectBootstrap, rate_interval, threshold_at_fmr
from verifykit.scoring import paired_scores, penalised, penalties, reference_rows, unit_rows
from verifykit.spec import Attack, Cohort, Evidence, Fusion, ModelSpec, OperatingPoint
from verifykit.types import Embeddings

REFERENCE_COUNTS = (*range(1, 11), 15, 20)

DRAWS = 20
"""How often a subject's references are drawn. More make a threshold steadier, and no rate lower."""

# Large data need no repeated draws, and one draw of every comparison would take hours.
_MOST_SCORES = 4_000_000

# 1, 5 and 2 of every decade, so that a rate between two decades is not answered by one ten times lower.
_DECADES = (1e-1, *(digit * 10.0**-power for power in range(2, 8) for digit in (5, 2, 1)))
_FMRS = tuple(float(f"{fmr:.0e}") for fmr in _DECADES)
FMRS: Mapping[Attack, tuple[float, ...]] = {"random_forgery": _FMRS, "skilled_forgery": _FMRS}
"""The rates that are looked for; those that the data do not support are left out."""

_LEAST_SUBJECTS = 5  # fewer say how these people write, and nothing about others

_USUAL_RANDOM_FMR = 1e-3
_HIGHEST_RANDOM_FMR = 1e-2
_SKILLED_FMR = 5e-2


def calibrate(
    model: ModelLike | ModelEmbedder,
    data: Dataset | str | os.PathLike[str],
    *,
    name: str = "",
    population: str | None = None,
    counts: Sequence[int] = REFERENCE_COUNTS,
    cohort: int = 0,
    draws: int = DRAWS,
    seed: int = 0,
    cache: EmbeddingCache | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure operating points and evidence on data.

    Every rate from 1e-1 down to what the non-mated comparisons support, three over their number, for each
    attack and number of references.

    Args:
        model: A registered name, the path of a model file, an open encoder, or an embedder with options of
            its own.
        data: As for :func:`~verifykit.evaluation.evaluate`. Listed pairs give thresholds of single references
            only.
        name: What to call the data; empty takes the folder's or file's own name.
        population: Of whom and of which conditions the data are, such as "adults at a door, by day"; every
            decision states it.
        counts: Numbers of references, each at least 1; those with too few subjects are left out.
        cohort: How many subjects, drawn at random, make a cohort that lowers the scores of look-alikes; they
            are left out of everything else. 0, the default, keeps the model's own cohort, if it has one.
        draws: Sets of references a subject.
        seed: Of every draw.
        cache: Embeddings of earlier runs; None computes everything.
        on_progress: Called with the number of images that are done and of all.

    Raises:
        CalibrationError: There are fewer non-mated comparisons than even FMR 0.1 takes, or no image is
            usable.
        InputError: A number of references is below 1, or a cohort of fewer than 16 subjects, of more than
            half of the subjects, or for listed pairs is requested.
        ModelContractError: The network returned a row that is zero or not finite.
        ProviderError: The provider failed.
    """
    if not counts or min(counts) < 1:
        raise InputError(f"numbers of references are at least 1, got {list(counts)}")
    embedder, data = as_embedder(model), as_dataset(data)
    embedded = embed_images(embedder, data.images, cache=cache, on_progress=on_progress)
    usable = np.flatnonzero(embedded.row_of >= 0).tolist()
    chosen, usable = embedder.spec.cohort, usable
    if cohort:
        chosen, usable = _drawn_cohort(data, embedded, usable, cohort, seed)
        if (own := embedder.spec.cohort) is not None:
            chosen = replace(chosen, factor=own.factor)
    measured, non_mated = _measure(
        embedder, data, embedded, usable, chosen, (sorted(set(counts)), draws, seed)
    )
    lost = failures(data.images, embedded)
    if not measured.points:
        why = ", ".join(f"{each.count} {each.reason}" for each in lost)
        raise CalibrationError(
            f"{non_mated} non-mated comparisons are too few: FMR 0.1 takes 30, 0.001 takes 3,000, 1e-6 "
            f"three million; {len(usable)} of {len(data.images)} images gave a template"
            f"{f' ({why})' if why else ''}; take more subjects"
        )
    default_fmr, default_attack = default_rate(measured.points, embedder.spec)
    return Calibration(
        model=embedder.spec.name,
        spec_digest=embedder.spec.digest,
        fusion=embedder.spec.fusion,
        operating_points=measured.points,
        evidence=measured.evidence,
        default_fmr=default_fmr,
        default_attack=default_attack,
        data=name or data.source.resolve().name,
        data_digest=data_digest(data, embedded.file_digests),
        subject_count=len({data.images[n].subject for n in usable}),
        image_count=len(usable),
        failures=tuple((each.reason, each.count) for each in lost),
        multi_face=embedder.multi_face,
        quality=embedder.quality,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        verifykit_version=__version__,
        cohort=chosen,
        population=population,
    )


def _drawn_cohort(
    data: Dataset, embedded: Embedded, usable: list[int], size: int, seed: int
) -> tuple[Cohort, list[int]]:
    """Return a cohort of some subjects' genuine images, and the images of the other subjects."""
    subjects = sorted({data.images[n].subject for n in usable if not data.images[n].is_forgery})
    if data.pairs is not None or not 2 * LEAST_PEOPLE <= size <= len(subjects) // 2:
        raise InputError(
            f"a cohort of {size} of {len(subjects)} usable subjects: it takes {2 * LEAST_PEOPLE} or more and "
            "at most half of them, of a folder or a CSV of images"
        )
    taken = set(np.random.default_rng(seed).permutation(subjects)[:size].tolist())
    mine = [n for n in usable if data.images[n].subject in taken and not data.images[n].is_forgery]
    found = make_cohort(
        embedded.rows[embedded.row_of[mine]], [data.images[n].subject for n in mine], seed=seed
    )
    return found, [n for n in usable if data.images[n].subject not in taken]


def _measure(
    embedder: ModelEmbedder,
    data: Dataset,
    embedded: Embedded,
    usable: Sequence[int],
    cohort: Cohort | None,
    how: tuple[Sequence[int], int, int],
) -> tuple[Measured, int]:
    """Return what the data support, and the number of random non-mated comparisons of single images."""
    counts, draws, seed = how
    if not usable:
        return Measured((), ()), 0
    if data.pairs is None:
        subjects, forged, populations = columns([data.images[n] for n in usable])
        found = measured_points(
            embedded.rows[embedded.row_of[usable]],
            subjects,
            forged,
            embedder.spec.fusion,
            populations=populations,
            cohort=cohort,
            counts=counts,
            draws=draws,
            seed=seed,
        )
        return found, count_pairs(subjects, forged, populations)["random"]
    labels = data.subject_numbers()
    scored = score_comparisons(data, embedded, cohort)
    pools = [
        Pool(kind.scores, labels[kind.probe], labels[kind.reference])
        for kind in (scored.mated, scored.random, scored.skilled)
    ]
    single = ReferenceScores(1, len(data.subjects), 1, *pools)
    return points_of(single, seed=seed), scored.random.scores.size


def default_rate(
    points: Sequence[OperatingPoint], spec: ModelSpec | None = None
) -> tuple[float | None, Attack]:
    """Return the rate and attack that a model decides by when none is requested.

    The model's own default rate, if these points support it, and never another attack than its own: 1 in
    20 skilled forgeries is not 1 in 20 strangers. Else against skilled forgeries if they were measured, then
    at 5e-2. Random forgeries happen all the time and to every subject, so their rate must be low; a skilled
    forger is an attacker, who has to exist first and has studied this one subject, and a rate as low as for
    random ones would be paid for by far more genuine samples that are turned away. Against random
    forgeries at the rate nearest to 1e-3 from above.
    """

    def rates(attack: Attack) -> list[float]:
        mine = [point for point in points if point.attack == attack]
        fewest = min((point.reference_count for point in mine), default=1)
        return [point.fmr for point in mine if point.reference_count == fewest]

    skilled = any(point.attack == "skilled_forgery" for point in points)
    attack: Attack = "skilled_forgery" if skilled else "random_forgery"
    if spec is not None and spec.default_fmr is not None:
        attack = spec.default_attack
        if min(rates(attack), default=1.0) <= spec.default_fmr * (1 + 1e-9):
            return spec.default_fmr, attack
    if attack == "skilled_forgery":
        highest = _SKILLED_FMR * (1 + 1e-9)
        return max((fmr for fmr in rates(attack) if fmr <= highest), default=None), attack
    highest = _HIGHEST_RANDOM_FMR * (1 + 1e-9)
    usual = [fmr for fmr in rates(attack) if _USUAL_RANDOM_FMR * (1 - 1e-9) <= fmr <= highest]
    return min(usual, default=None), attack


@dataclass(frozen=True)
class Measured:
    """What a calibration consists of.

    Attributes:
        points: Operating points, by number of references, attack and falling rate.
        evidence: For the same numbers of references and attacks.
    """

    points: tuple[OperatingPoint, ...]
    evidence: tuple[Evidence, ...]


def measured_points(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    fusion: Fusion,
    *,
    populations: Sequence[str] | None = None,
    cohort: Cohort | None = None,
    counts: Sequence[int] = REFERENCE_COUNTS,
    fmrs: Mapping[Attack, Sequence[float]] = FMRS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Measured:
    """Return a point for each attack, number of references and rate with enough comparisons.

    A threshold is that of all draws' scores together, but a probe against a subject is one comparison
    however often the subject's references are drawn: that is what ``non_mated_count`` counts and what
    the rule of three, 3 / FMR, is held against. ``false_match_count`` is the mean over the draws,
    rounded down. With a single reference a comparison is a pair of images.
    """
    points: list[OperatingPoint] = []
    evidence: list[Evidence] = []
    for count in counts:
        if count == 1 and sum(count_pairs(subjects, forged, populations).values()) > MOST_HELD:
            more, evident = _of_every_pair(
                (embeddings, subjects, forged, populations), cohort, fmrs, seed
            )
            points += more
            evidence += evident
            continue
        scores = draw_scores(
            embeddings,
            subjects,
            forged,
            fusion,
            count,
            populations=populations,
            cohort=cohort,
            draws=draws,
            seed=seed,
        )
        if count > 1 and scores.subjects < _LEAST_SUBJECTS:
            continue
        found = points_of(scores, fmrs, seed=seed)
        points += found.points
        evidence += found.evidence
    return Measured(tuple(points), tuple(evidence))


def _of_every_pair(
    images: tuple[Embeddings, Sequence[str], Sequence[bool], Sequence[str] | None],
    cohort: Cohort | None,
    fmrs: Mapping[Attack, Sequence[float]],
    seed: int,
) -> tuple[list[OperatingPoint], list[Evidence]]:
    """Return points and evidence of single references, without holding the scores."""
    embeddings, subjects, forged, populations = images
    labels, sets, fake = coded(subjects, forged, populations)
    weights, groups = group_draws(labels, seed)
    pairs = PairTiles(
        embeddings,
        labels,
        fake,
        sets=sets,
        penalties=None if cohort is None else penalties(cohort, unit_rows(embeddings)),
        groups=groups,
    )
    return points_of_every_pair(pairs, fmrs, weights)


def points_of(
    scores: ReferenceScores,
    fmrs: Mapping[Attack, Sequence[float]] = FMRS,
    *,
    seed: int = 0,
) -> Measured:
    """Return the points of one number of references: see :func:`measured_points`."""
    labels = [
        pool.probe.max(initial=0) for pool in (scores.mated, scores.non_mated, scores.skilled)
    ]
    labels += [scores.non_mated.reference.max(initial=0)]
    subjects = int(max(labels)) + 1
    points: list[OperatingPoint] = []
    evidence: list[Evidence] = []
    ours = _bootstrap(scores.mated, subjects, seed)
    for attack, rates in fmrs.items():
        others = scores.non_mated if attack == "random_forgery" else scores.skilled
        comparisons = others.scores.size // scores.draws
        found = [
            point
            for fmr in rates
            if supported(fmr, comparisons)
            and (point := _point(scores, attack, others, fmr, comparisons)) is not None
            # Above the end of the scale: too many reach it, and no threshold parts them.
            and point.threshold <= 1.0
        ]
        if not found:
            continue
        theirs = _bootstrap(others, subjects, seed)
        points += [_with_intervals(point, scores, others, ours, theirs) for point in found]
        if scores.mated.scores.size:
            evidence.append(_evidence(scores, attack, others, comparisons))
    return Measured(tuple(points), tuple(evidence))


def _point(
    scores: ReferenceScores, attack: Attack, others: Pool, fmr: float, comparisons: int
) -> OperatingPoint | None:
    threshold = threshold_at_fmr(others.scores, fmr)
    if not math.isfinite(threshold):
        return None
    matches = int((others.scores.astype(np.float64) >= threshold).sum()) // scores.draws
    return OperatingPoint(fmr, threshold, comparisons, matches, attack, scores.reference_count)


def _bootstrap(pool: Pool, subjects: int, seed: int) -> SubjectBootstrap | None:
    if not pool.scores.size:
        return None
    return SubjectBootstrap(pool.probe, pool.reference, subjects=subjects, seed=seed)


def _with_intervals(
    point: OperatingPoint,
    scores: ReferenceScores,
    others: Pool,
    ours: SubjectBootstrap | None,
    theirs: SubjectBootstrap | None,
) -> OperatingPoint:
    matched = others.scores.astype(np.float64) >= point.threshold
    missed = scores.mated.scores.astype(np.float64) < point.threshold
    return replace(
        point,
        fmr_interval=_interval(matched, theirs, scores.draws),
        fnmr=float(missed.mean()) if missed.size else None,
        fnmr_interval=_interval(missed, ours, scores.draws),
    )


def _interval(
    events: NDArray[np.bool_], bootstrap: SubjectBootstrap | None, draws: int
) -> tuple[float, float] | None:
    """Return the interval of the counts of one draw: repeated draws are not further comparisons."""
    if bootstrap is None:
        return None
    errors, trials = int(events.sum()) // draws, events.size // draws
    drawn = bootstrap.rates(events) if 0 < errors < trials else None
    return rate_interval(errors, trials, drawn)


def _evidence(scores: ReferenceScores, attack: Attack, others: Pool, comparisons: int) -> Evidence:
    mated = scores.mated.scores
    return evidence_of(
        attack,
        scores.reference_count,
        Weighted(mated),
        Weighted(others.scores),
        sizes=(mated.size // scores.draws, comparisons),
        median=float(np.median(others.scores)),
    )


@dataclass(frozen=True, eq=False)
class Pool:
    """Scores of one kind, and their subjects.

    Attributes:
        scores: (P,) float32.
        probe: (P,) int64, the probe's subject; of an imitation, who is imitated.
        reference: (P,) int64, the references' subject.
    """

    scores: NDArray[np.float32]
    probe: NDArray[np.int64]
    reference: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """Scores of probes against the fused references of a subject, of every draw.

    Attributes:
        reference_count: K, how many references are fused.
        subjects: How many subjects had enough genuine images.
        draws: How often the same comparison is among the non-mated and the skilled scores.
        mated: A subject's genuine images that are not references of the draw.
        non_mated: Genuine images of other subjects (random forgeries).
        skilled: Imitations of the subject; empty without any.
    """

    reference_count: int
    subjects: int
    draws: int
    mated: Pool
    non_mated: Pool
    skilled: Pool


def draw_scores(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    fusion: Fusion,
    reference_count: int,
    *,
    populations: Sequence[str] | None = None,
    cohort: Cohort | None = None,
    draws: int = DRAWS,
    most: int = _MOST_SCORES,
    seed: int = 0,
) -> ReferenceScores:
    """Enroll K genuine images of each subject, again and again, and score everything else against them.

    A single reference needs no draws: every pair of images is scored once, by :func:`every_pair`.
    """
    names, owner = np.unique(np.asarray(subjects, np.str_), return_inverse=True)
    place = np.zeros(len(owner), np.int64)
    if populations is not None:
        place = np.unique(np.asarray(populations, np.str_), return_inverse=True)[1]
    fake = np.asarray(forged, bool)
    counts = np.bincount(owner[~fake], minlength=len(names))
    enough = np.flatnonzero(counts > reference_count)
    scorer = _Scorer(embeddings, cohort)
    if reference_count == 1:
        pairs = every_pair(embeddings, subjects, forged, populations)
        return _single(pairs, owner, len(enough), scorer)
    # A subject's population is that of its first image.
    home = {who: place[np.flatnonzero((owner == who) & ~fake)[0]] for who in enough.tolist()}
    sizes = np.bincount(place[~fake], minlength=int(place.max(initial=0)) + 1)
    strangers = sum(int(sizes[home[who]] - counts[who]) for who in home)
    draws = max(1, min(draws, most // max(1, strangers)))
    share = min(1.0, most / max(1, strangers))
    random = np.random.default_rng((seed, reference_count))
    pools = _Pools(scorer, owner)
    for who in enough.tolist():
        genuine = np.flatnonzero((owner == who) & ~fake)
        others = np.flatnonzero((owner != who) & ~fake & (place == home[who]))
        imitations = np.flatnonzero((owner == who) & fake)
        for _ in range(draws):
            drawn = random.permutation(genuine)
            met = others
            if share < 1.0:
                met = others[random.random(len(others)) < share]
            rows = reference_rows(embeddings[drawn[:reference_count]], fusion)
            pools.add("mated", drawn[reference_count:], who, rows)
            pools.add("non_mated", met, who, rows)
            pools.add("skilled", imitations, who, rows)
    return ReferenceScores(
        reference_count,
        len(enough),
        draws,
        pools.joined("mated"),
        pools.joined("non_mated"),
        pools.joined("skilled"),
    )


def _single(
    found: ScoredComparisons, owner: NDArray[np.int64], enough: int, scorer: _Scorer
) -> ReferenceScores:
    mated, random, skilled = (
        Pool(scorer.pairs(kind), owner[kind.probe], owner[kind.reference])
        for kind in (found.mated, found.random, found.skilled)
    )
    return ReferenceScores(1, enough, 1, mated, random, skilled)


class _Scorer:
    """Scores as the runtime computes them, with penalties if there is a cohort."""

    def __init__(self, embeddings: Embeddings, cohort: Cohort | None) -> None:
        self._units, self._cohort = unit_rows(embeddings), cohort
        self._own = penalties(cohort, self._units)

    def pairs(self, kind: Comparisons) -> NDArray[np.float32]:
        if self._cohort is None:
            return kind.scores
        return penalised(kind.scores, self._own[kind.probe], self._own[kind.reference])

    def fused(self, probes: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return :func:`verifykit.scoring.subject_score` to the last bit, for many probes."""
        if not len(probes):
            return np.empty(0, np.float32)
        # Compared the other way round: products and their order are the same.
        scores = np.stack([paired_scores(row, self._units[probes]) for row in rows])
        if self._cohort is not None:
            theirs = penalties(self._cohort, rows)
            scores = penalised(scores, self._own[probes], theirs[:, None])
        best: NDArray[np.float32] = scores.max(axis=0)
        return best


class _Pools:
    def __init__(self, scorer: _Scorer, owner: NDArray[np.int64]) -> None:
        self._scorer, self._owner = scorer, owner
        self._parts: dict[str, list[Pool]] = {"mated": [], "non_mated": [], "skilled": []}

    def add(
        self, kind: str, probes: NDArray[np.int64], who: int, rows: NDArray[np.float32]
    ) -> None:
        scores = self._scorer.fused(probes, rows)
        reference = np.full(len(probes), who, np.int64)
        self._parts[kind].append(Pool(scores, self._owner[probes], reference))

    def joined(self, kind: str) -> Pool:
        labels = np.empty(0, np.int64)
        every = [*self._parts[kind], Pool(np.empty(0, np.float32), labels, labels)]
        return Pool(
            np.concatenate([part.scores for part in every]),
            np.concatenate([part.probe for part in every]),
            np.concatenate([part.reference for part in every]),
        )
