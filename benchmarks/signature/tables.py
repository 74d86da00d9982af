"""The result tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.signature.data import Signatures
from benchmarks.signature.protocol import (
    Plan,
    Scorer,
    TrialScores,
    draw_pairs,
    draw_trials,
    score_pairs,
    score_trials,
)
from benchmarks.signature.rates import Share, errors, share_with_interval
from benchmarks.signature.report import Cell, ResultTable
from verifykit.errors import CalibrationError
from verifykit.spec import ModelSpec

REFERENCE_COUNTS = (1, 3, 5, 10)
REFERENCE_COUNT = 5
SKILLED_FMR, RANDOM_FMR = 1e-2, 1e-3

ATTACKS = (("skilled", SKILLED_FMR), ("random", RANDOM_FMR))
_RATES = ("writers", "genuine", "forged", "EER [95 %]", "FNMR at FMR {:g}", "EER, own thresholds")
_NOTE = (
    "One threshold for all writers, except in the last column: the mean over writers and draws of the EER "
    "with a threshold for each, as published work often reports it. Intervals: bootstrap over writers. "
    "Genuine and forged: distinct probes of one draw. A dash: fewer than 3 / FMR forged probes, or none."
)


@dataclass(frozen=True, eq=False)
class Method:
    """A scoring method, over N images.

    Attributes:
        name: Its name in the tables.
        scorer: The scorer.
        usable: (N,) images that it does not refuse.
    """

    name: str
    scorer: Scorer
    usable: NDArray[np.bool_]


def groups(signatures: Signatures, trials: Sequence[TrialScores]) -> dict[str, list[TrialScores]]:
    """Return the trials of each set, and of all sets together if there are several."""
    parts = {}
    for name in signatures.set_names():
        writers = set(signatures.writers(name))
        parts[name] = [trial for trial in trials if trial.writer in writers]
    return parts if len(parts) == 1 else parts | {"all": list(trials)}


def by_references(
    name: str, signatures: Signatures, method: Method, plan: Plan
) -> list[ResultTable]:
    """Measure skilled and random forgeries separately, by set and by number of references."""
    scored = {}
    for count in REFERENCE_COUNTS:
        trials = draw_trials(signatures, count, plan, method.usable)
        scored[count] = groups(signatures, score_trials(trials, method.scorer))
    return [
        ResultTable(
            f"{name}: {kind} forgeries, by number of references",
            ("set", "references", *(column.format(fmr) for column in _RATES)),
            tuple(
                (group, count, *_rates(scored[count][group], kind, fmr))
                for group in scored[REFERENCE_COUNTS[0]]
                for count in REFERENCE_COUNTS
            ),
            f"{_NOTE} {plan.draws} draws of references per writer; a row excludes writers with too few "
            "genuine signatures for its number of references.",
        )
        for kind, fmr in ATTACKS
    ]


def by_method(signatures: Signatures, methods: Sequence[Method], plan: Plan) -> list[ResultTable]:
    """Compare models and baselines, with five references."""
    found: dict[str, dict[str, list[TrialScores]]] = {}
    for method in methods:
        trials = draw_trials(signatures, REFERENCE_COUNT, plan, method.usable)
        scores: list[TrialScores] = []
        for trial in track(trials, description=method.name, transient=True):
            scores += score_trials([trial], method.scorer)
        found[method.name] = groups(signatures, scores)
    return [
        ResultTable(
            f"Models and baselines: {kind} forgeries, {REFERENCE_COUNT} references",
            ("set", "scored by", *(column.format(fmr) for column in _RATES)),
            tuple(
                (group, name, *_rates(parts[group], kind, fmr))
                for group in next(iter(found.values()))
                for name, parts in found.items()
            ),
            f"{_NOTE} Paper of the crop: what a network sees besides the ink; other than 50 % the pipeline "
            "leaks. The results of the paper of the scan, its size and the stroke width come from how the "
            "data were collected, and do not carry over to other data.",
        )
        for kind, fmr in ATTACKS
    ]


def pairs(name: str, signatures: Signatures, method: Method, plan: Plan) -> ResultTable:
    """Measure single pairs, as published work on these sets."""
    scores = score_pairs(draw_pairs(signatures, method.usable, plan.seed), method.scorer)
    rows: list[tuple[Cell, ...]] = []
    for group, part in groups(signatures, scores).items():
        found = errors(part, "skilled", SKILLED_FMR)
        share = _share(found.writer_eer)
        rows.append((group, found.writers, found.mated, found.forged, found.eer, share))
    return ResultTable(
        f"{name}: single pairs",
        (
            "set",
            "writers",
            "genuine pairs",
            "forged pairs",
            "EER [95 %]",
            "EER, own thresholds",
        ),
        tuple(rows),
        "Every pair of a writer's genuine signatures, 276 of 24, and as many of a genuine one with a "
        "forgery, drawn at random; all of these if there are fewer.",
    )


def operating_points(
    name: str, spec: ModelSpec, signatures: Signatures, method: Method, plan: Plan
) -> ResultTable:
    """Measure the rates at the model's thresholds against skilled forgeries, with five references."""
    trials = draw_trials(signatures, REFERENCE_COUNT, plan, method.usable)
    parts = groups(signatures, score_trials(trials, method.scorer))
    calibrated = {p.fmr for p in spec.operating_points if p.attack == "skilled_forgery"}
    rows: list[tuple[Cell, ...]] = []
    for asked in sorted(calibrated):
        try:
            point = spec.operating_point(asked, "skilled_forgery", references=REFERENCE_COUNT)
        except CalibrationError:
            continue
        for group, part in parts.items():
            fmr = _share_at(part, "skilled", point.threshold)
            rows.append(
                (
                    group,
                    f"{asked:g}",
                    f"{point.fmr:g}, {point.reference_count}",
                    point.threshold,
                    fmr,
                    None if fmr is None else fmr.value / asked,
                    _share_at(part, "mated", point.threshold),
                    _share_at(part, "random", point.threshold),
                )
            )
    return ResultTable(
        f"{name}: its own thresholds, {REFERENCE_COUNT} references",
        (
            "set",
            "FMR asked",
            "point: FMR, references",
            "threshold",
            "FMR found [95 %]",
            "found / asked",
            "FNMR found [95 %]",
            "random FMR found [95 %]",
        ),
        tuple(rows),
        "FMR is that of skilled forgeries, except in the last column. The point is the one that the runtime "
        "uses for the requested FMR."
        if rows
        else f"The model has no threshold against skilled forgeries with {REFERENCE_COUNT} references.",
    )


def _rates(trials: Sequence[TrialScores], kind: str, fmr: float) -> tuple[Cell, ...]:
    found = errors(trials, kind, fmr)
    return (
        found.writers,
        found.mated,
        found.forged,
        found.eer,
        _share(found.fnmr),
        _share(found.writer_eer),
    )


def _share(value: float | None) -> Share | None:
    return None if value is None else Share(value)


def _share_at(trials: Sequence[TrialScores], kind: str, threshold: float) -> Share | None:
    """Return the share of forged scores at or above a threshold; for ``"mated"``, of scores below it."""
    hits: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for trial in trials:
        scores: NDArray[np.float32] = getattr(trial, kind)
        wrong = scores < threshold if kind == "mated" else scores >= threshold
        hits[trial.writer] += int(wrong.sum())
        counts[trial.writer] += len(scores)
    return share_with_interval([hits[w] for w in counts], list(counts.values()))
