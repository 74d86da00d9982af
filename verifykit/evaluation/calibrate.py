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
from verifykit.evaluation.bands import Bands, ends_of, read_bands
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
    as_dataset,
    coded,
    columns,
    count_pairs,
    data_digest,
    score_comparisons,
)
from verifykit.evaluation.reference_scores import DRAWS, Pool, ReferenceScores, draw_scores
from verifykit.evaluation.single_references import (
    Weighted,
    evidence_of,
    group_draws,
    points_of_every_pair,
)
from verifykit.evaluation.tiled_scores import MOST_HELD
from verifykit.evaluation.worst_band import (
    BandedScores,
    Unsupported,
    band_rates,
    joined_sentences,
    worst_band_threshold,
)
from verifykit.metrics import SubjectBootstrap, rate_interval, threshold_at_fmr
from verifykit.scoring import penalties, unit_rows
from verifykit.spec import (
    Attack,
    BandRate,
    Cohort,
    Evidence,
    Fusion,
    ModelSpec,
    OperatingPoint,
    Population,
)
from verifykit.types import Embeddings

ANY = "any"
"""Name of the population whose thresholds keep a rate in every band."""

MOST_BANDED = 50_000_000
"""More pairs than this are refused with bands: the scores of all are held, 30 bytes each."""

LEAST_BAND_PEOPLE = 5
"""A band of fewer people says how these score, and nothing about others."""

REFERENCE_COUNTS = (*range(1, 11), 15, 20)

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
    bands: Sequence[str] = (),
    worst_band: bool = False,
    least_people: int = LEAST_BAND_PEOPLE,
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
        bands: Columns of a CSV, such as ``"sex"``, ``"age=0,7,13,18"`` or ``"sex+age=0,7,13,18"``. The
            calibration gets a population ``"any"``, whose thresholds keep each rate in every band, and the
            rates by band.
        worst_band: Whether these are to be the thresholds that decide when no population is requested.
        least_people: A band of fewer subjects is left out, and the population's notes name it.
        draws: Sets of references a subject.
        seed: Of every draw.
        cache: Embeddings of earlier runs; None computes everything.
        on_progress: Called with the number of images that are done and of all.

    Raises:
        CalibrationError: There are fewer non-mated comparisons than even FMR 0.1 takes, or no image is
            usable; or a band has too few for every rate.
        InputError: A band of no column, ``worst_band`` without bands, a number of references is below 1, or
            a cohort of fewer than 16 subjects, of more than half of them, or for listed pairs is requested.
        ModelContractError: The network returned a row that is zero or not finite.
        ProviderError: The provider failed.
    """
    if worst_band and not bands:
        raise InputError(
            "worst_band takes bands: name the columns, such as bands=['age=0,7,13,18']"
        )
    if not counts or min(counts) < 1:
        raise InputError(f"numbers of references are at least 1, got {list(counts)}")
    embedder, data = as_embedder(model), as_dataset(data)
    cut = read_bands(data, bands)
    if cut and data.pairs is None and not cohort:  # before the long part
        _require_few_pairs(sum(count_pairs(*columns(data.images)).values()))
    embedded = embed_images(embedder, data.images, cache=cache, on_progress=on_progress)
    usable = np.flatnonzero(embedded.row_of >= 0).tolist()
    chosen, usable = embedder.spec.cohort, usable
    if cohort:
        chosen, usable = _drawn_cohort(data, embedded, usable, cohort, seed)
        if (own := embedder.spec.cohort) is not None:
            chosen = replace(chosen, factor=own.factor)
    measured, non_mated = _measure(
        embedder,
        data,
        embedded,
        usable,
        chosen,
        (sorted(set(counts)), draws, seed, cut, least_people),
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
    found = Calibration(
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
    return _with_any(found, measured, embedder.spec, cut, is_usual=worst_band) if cut else found


def _with_any(
    found: Calibration, measured: Measured, spec: ModelSpec, cut: Sequence[Bands], *, is_usual: bool
) -> Calibration:
    """Return the calibration with the population of every band; its thresholds decide if ``is_usual``."""
    if not measured.any_points:
        why = "; ".join(measured.notes) or "too many of their comparisons have the highest score"
        raise CalibrationError(
            f"no rate can be stated in every band: {why}; add people, or leave small bands out "
            "(least_people, --least-people)"
        )
    fmr, attack = default_rate(measured.any_points, spec)
    usual = {(p.fmr, p.attack, p.reference_count): p.fnmr for p in measured.points}
    names = " and ".join(str(each.column) for each in cut)
    of = found.population or found.data
    every = Population(
        name=ANY,
        description=f"{of}; each rate is kept in every measured band of {names}",
        operating_points=measured.any_points,
        usual_fnmr=tuple(usual[p.fmr, p.attack, p.reference_count] for p in measured.any_points),
        default_fmr=fmr,
        default_attack=attack,
        bands=measured.band_rates,
        bands_data="the people whose comparisons chose the thresholds",
        notes=measured.notes,
    )
    if not is_usual:
        return replace(found, populations=(every,))
    return replace(
        found,
        operating_points=every.operating_points,
        default_fmr=fmr,
        default_attack=attack,
        population=every.description,
        populations=(every,),
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
    how: tuple[Sequence[int], int, int, Sequence[Bands], int],
) -> tuple[Measured, int]:
    """Return what the data support, and the number of random non-mated comparisons of single images."""
    counts, draws, seed, cut, least = how
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
            bands=[each.only(usable) for each in cut],
            least_people=least,
            counts=counts,
            draws=draws,
            seed=seed,
        )
        return found, count_pairs(subjects, forged, populations)["random"]
    labels = data.subject_numbers()
    scored = score_comparisons(data, embedded, cohort)
    pools = [
        Pool(kind.scores, labels[kind.probe], labels[kind.reference], *ends_of(data, cut, kind))
        for kind in (scored.mated, scored.random, scored.skilled)
    ]
    single = ReferenceScores(1, len(data.subjects), 1, *pools)
    found = points_of(single, seed=seed)
    if cut:
        found = with_bands(found, single, cut, least)
    return found, scored.random.scores.size


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
        any_points: Points at which every band keeps the rate; empty without bands.
        band_rates: What each band got, for the least number of references.
        notes: What was left out of the bands, or joined.
    """

    points: tuple[OperatingPoint, ...]
    evidence: tuple[Evidence, ...]
    any_points: tuple[OperatingPoint, ...] = ()
    band_rates: tuple[BandRate, ...] = ()
    notes: tuple[str, ...] = ()


def measured_points(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    fusion: Fusion,
    *,
    populations: Sequence[str] | None = None,
    cohort: Cohort | None = None,
    bands: Sequence[Bands] = (),
    least_people: int = LEAST_BAND_PEOPLE,
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
    parts: list[Measured] = []
    for count in counts:
        size = sum(count_pairs(subjects, forged, populations).values())
        if bands:
            _require_few_pairs(size)
        if count == 1 and not bands and size > MOST_HELD:
            images = embeddings, subjects, forged, populations
            parts.append(_of_every_pair(images, cohort, fmrs, seed))
            continue
        scores = draw_scores(
            embeddings,
            subjects,
            forged,
            fusion,
            count,
            populations=populations,
            cohort=cohort,
            bands=[each.codes for each in bands],
            draws=draws,
            seed=seed,
        )
        if count > 1 and scores.subjects < _LEAST_SUBJECTS:
            continue
        found = points_of(scores, fmrs, seed=seed)
        parts.append(with_bands(found, scores, bands, least_people) if bands else found)
    first = next((part for part in parts if part.any_points or part.notes), Measured((), ()))
    return Measured(
        tuple(point for part in parts for point in part.points),
        tuple(each for part in parts for each in part.evidence),
        tuple(point for part in parts for point in part.any_points),
        first.band_rates,
        first.notes,
    )


def _require_few_pairs(size: int) -> None:
    if size > MOST_BANDED:
        raise InputError(
            f"{size:,} pairs are too many for bands, which hold the scores of every pair, at most "
            f"{MOST_BANDED:,}: take fewer images of each subject, or no bands"
        )


def _of_every_pair(
    images: tuple[Embeddings, Sequence[str], Sequence[bool], Sequence[str] | None],
    cohort: Cohort | None,
    fmrs: Mapping[Attack, Sequence[float]],
    seed: int,
) -> Measured:
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
    points, evidence = points_of_every_pair(pairs, fmrs, weights)
    return Measured(tuple(points), tuple(evidence))


def points_of(
    scores: ReferenceScores,
    fmrs: Mapping[Attack, Sequence[float]] = FMRS,
    *,
    seed: int = 0,
) -> Measured:
    """Return the points of one number of references: see :func:`measured_points`."""
    subjects = _subject_count(scores)
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


def with_bands(
    found: Measured, scores: ReferenceScores, bands: Sequence[Bands], least_people: int
) -> Measured:
    """Return what was measured with the points at which every band keeps the rate."""
    points: list[OperatingPoint] = []
    rates: list[BandRate] = []
    notes: list[str] = []
    mates = scores.mated.scores.astype(np.float64)
    ours = _bootstrap(scores.mated, _subject_count(scores), 0)
    for attack in dict.fromkeys(point.attack for point in found.points):
        others = scores.non_mated if attack == "random_forgery" else scores.skilled
        sets = _banded(others, bands, scores.draws)
        left_out, sentences = _left_out(sets[1:], least_people)
        usual = {point.fmr: point for point in found.points if point.attack == attack}
        refusal: str | None = None
        joined: dict[str, float] = {}
        mine: list[OperatingPoint] = []
        least = -math.inf
        for fmr in sorted(usual, reverse=True):
            worst = worst_band_threshold(sets, fmr, [frozenset(), *left_out], least=least)
            if isinstance(worst, Unsupported):
                refusal = refusal or worst.sentence(fmr)
            elif worst.threshold <= 1.0:
                least = worst.threshold
                joined |= {name: fmr for name in worst.joined if name not in joined}
                missed = mates < worst.threshold
                mine.append(
                    worst.operating_point(
                        fmr,
                        float(missed.mean()) if missed.size else None,
                        _interval(missed, ours, scores.draws),
                        attack=attack,
                        reference_count=scores.reference_count,
                    )
                )
        points += mine
        sentences += joined_sentences(joined)
        sentences += [f"{refusal}: lower rates are not stated"] if refusal else []
        notes += [text for text in sentences if text not in notes]
        if not rates:
            at = [(p.fmr, usual[p.fmr].threshold, p.threshold) for p in mine if _is_decade(p.fmr)]
            rates = list(band_rates(sets, at))
    return replace(found, any_points=tuple(points), band_rates=tuple(rates), notes=tuple(notes))


def _banded(pool: Pool, bands: Sequence[Bands], draws: int) -> list[BandedScores]:
    """Return all comparisons, and then the same by each column of bands."""
    values = pool.scores.astype(np.float64)
    none = np.full(len(values), -1, np.int16)
    whole = BandedScores(None, values, pool.probe, pool.reference, none, none, draws)
    return [
        whole,
        *(
            replace(whole, bands=each, left=pool.probe_bands[n], right=pool.reference_bands[n])
            for n, each in enumerate(bands)
        ),
    ]


def _left_out(
    sets: Sequence[BandedScores], least_people: int
) -> tuple[list[frozenset[int]], list[str]]:
    """Return the bands of each column with too few people, and sentences that name them."""
    found: list[frozenset[int]] = []
    notes: list[str] = []
    for each in sets:
        assert each.bands is not None  # noqa: S101 - a set of a column
        small: set[int] = set()
        for group in each.bands.ranges():
            here = each.within(group)
            people = int(np.union1d(each.probe[here], each.reference[here]).size)
            if people < least_people:
                small.update(group)
                notes.append(
                    f"{each.name(group)} is left out: {people} people who can be compared, {least_people} "
                    "are the least"
                )
        unknown = int((each.bands.codes < 0).sum())
        if unknown:
            notes.append(f"{unknown} without a value of {each.bands.column.name} are in no band")
        found.append(frozenset(small))
    return found, notes


def _is_decade(fmr: float) -> bool:
    power = math.log10(fmr)
    return math.isclose(power, round(power), abs_tol=1e-6)


def _subject_count(scores: ReferenceScores) -> int:
    labels = [
        pool.probe.max(initial=0) for pool in (scores.mated, scores.non_mated, scores.skilled)
    ]
    return int(max([*labels, scores.non_mated.reference.max(initial=0)])) + 1


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
