"""What is measured on signatures, each a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.signature_protocol import (
    Plan,
    Scorer,
    TrialScores,
    draw_pairs,
    draw_trials,
    score_pairs,
    score_trials,
)
from benchmarks.signature_rates import Share, errors, share_with_interval
from benchmarks.signature_report import Cell, ResultTable
from benchmarks.signatures import Signatures
from verifykit.errors import CalibrationError
from verifykit.spec import ModelSpec

__all__ = [
    "MANY",
    "SKILLED_FMR",
    "Method",
    "by_method",
    "by_references",
    "groups",
    "operating_points",
    "pairs",
]

REFERENCES = (1, 3, 5, 10)
MANY = 5
SKILLED_FMR, RANDOM_FMR = 1e-2, 1e-3

ATTACKS = (("skilled", SKILLED_FMR), ("random", RANDOM_FMR))
_RATES = ("writers", "genuine", "forged", "EER [95 %]", "FNMR at FMR {:g}", "EER, own thresholds")
_HOW = (
    "One threshold for all writers, but for the last column: the mean over writers and draws of the EER with "
    "a threshold for each, as published work often reports it. Intervals: writers drawn again. Genuine and "
    "forged: distinct probes of one draw. A dash: fewer than 3 / FMR forged probes, or none at all."
)


@dataclass(frozen=True, eq=False)
class Method:
    """One way to score, over N images.

    Attributes:
        name: What it is called in the tables.
        scorer: The scores.
        usable: (N,) images that it takes.
    """

    name: str
    scorer: Scorer
    usable: NDArray[np.bool_]


def groups(signatures: Signatures, trials: Sequence[TrialScores]) -> dict[str, list[TrialScores]]:
    """The trials of each set, and of all together where there are several."""
    parts = {}
    for name in signatures.set_names():
        writers = set(signatures.writers(name))
        parts[name] = [trial for trial in trials if trial.writer in writers]
    return parts if len(parts) == 1 else parts | {"all": list(trials)}


def by_references(
    name: str, signatures: Signatures, method: Method, plan: Plan
) -> list[ResultTable]:
    """Skilled and random forgeries apart, by set and by number of references."""
    scored = {}
    for count in REFERENCES:
        trials = draw_trials(signatures, count, plan, method.usable)
        scored[count] = groups(signatures, score_trials(trials, method.scorer))
    return [
        ResultTable(
            f"{name}: {kind} forgeries, by number of references",
            ("set", "references", *(column.format(fmr) for column in _RATES)),
            tuple(
                (group, count, *_rates(scored[count][group], kind, fmr))
                for group in scored[REFERENCES[0]]
                for count in REFERENCES
            ),
            f"{_HOW} {plan.draws} draws of references a writer; a writer with too few genuine signatures for "
            "a number of references is not in that row.",
        )
        for kind, fmr in ATTACKS
    ]


def by_method(signatures: Signatures, methods: Sequence[Method], plan: Plan) -> list[ResultTable]:
    """Models and baselines side by side, with five references."""
    found: dict[str, dict[str, list[TrialScores]]] = {}
    for method in methods:
        trials = draw_trials(signatures, MANY, plan, method.usable)
        scores: list[TrialScores] = []
        for trial in track(trials, description=method.name, transient=True):
            scores += score_trials([trial], method.scorer)
        found[method.name] = groups(signatures, scores)
    return [
        ResultTable(
            f"Models and baselines: {kind} forgeries, {MANY} references",
            ("set", "scored by", *(column.format(fmr) for column in _RATES)),
            tuple(
                (group, name, *_rates(parts[group], kind, fmr))
                for group in next(iter(found.values()))
                for name, parts in found.items()
            ),
            f"{_HOW} Paper of the crop: what a network sees beside the ink; other than 50 % the pipeline "
            "leaks. What the paper of the scan, its size or the stroke width give comes from how the data "
            "were gathered, and will not from other data.",
        )
        for kind, fmr in ATTACKS
    ]


def pairs(name: str, signatures: Signatures, method: Method, plan: Plan) -> ResultTable:
    """Single pairs, as published work reports these sets."""
    scores = score_pairs(draw_pairs(signatures, method.usable, plan.seed), method.scorer)
    rows: list[tuple[Cell, ...]] = []
    for group, part in groups(signatures, scores).items():
        found = errors(part, "skilled", SKILLED_FMR)
        share = _share(found.writer_eer)
        rows.append((group, found.writers, found.mated, found.others, found.eer, share))
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
        "forgery, drawn at random; all of those where they are fewer.",
    )


def operating_points(
    name: str, spec: ModelSpec, signatures: Signatures, method: Method, plan: Plan
) -> ResultTable:
    """What the model's calibrated thresholds against skilled forgeries do here, with five references."""
    trials = draw_trials(signatures, MANY, plan, method.usable)
    parts = groups(signatures, score_trials(trials, method.scorer))
    calibrated = {p.fmr for p in spec.operating_points if p.attack == "skilled_forgery"}
    rows: list[tuple[Cell, ...]] = []
    for asked in sorted(calibrated):
        try:
            point = spec.operating_point(asked, "skilled_forgery", references=MANY)
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
        f"{name}: its own thresholds, {MANY} references",
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
        "FMR is that of skilled forgeries, but in the last column. The point is what the runtime takes for "
        "the rate asked for."
        if rows
        else f"The model has no threshold against skilled forgeries for {MANY} references or fewer.",
    )


def _rates(trials: Sequence[TrialScores], kind: str, fmr: float) -> tuple[Cell, ...]:
    found = errors(trials, kind, fmr)
    return (
        found.writers,
        found.mated,
        found.others,
        found.eer,
        _share(found.fnmr),
        _share(found.writer_eer),
    )


def _share(value: float | None) -> Share | None:
    return None if value is None else Share(value)


def _share_at(trials: Sequence[TrialScores], kind: str, threshold: float) -> Share | None:
    """Share of forged scores at or above a threshold; of ``"mated"`` ones, below it."""
    hits: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for trial in trials:
        scores: NDArray[np.float32] = getattr(trial, kind)
        wrong = scores < threshold if kind == "mated" else scores >= threshold
        hits[trial.writer] += int(wrong.sum())
        counts[trial.writer] += len(scores)
    return share_with_interval([hits[w] for w in counts], list(counts.values()))
