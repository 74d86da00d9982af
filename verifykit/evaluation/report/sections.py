"""The content of each section of the page, computed from the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verifykit.evaluation.report.charts import det_chart, open_set_chart, score_chart
from verifykit.evaluation.report.formats import bounds, number, one_in, percent, plain_text
from verifykit.evaluation.report.palette import Line, Series, series_of, shades
from verifykit.evaluation.report.whiskers import Whisker, whisker_chart
from verifykit.evaluation.results import (
    AttackResult,
    Band,
    EvaluationReport,
    HardestPair,
    OpenSetResult,
    Subgroup,
)
from verifykit.spec import Attack

_ATTACKS: tuple[Attack, ...] = ("random_forgery", "skilled_forgery")
# The sentence at the head is about this false match rate, or the nearest that the data support.
_HEADLINE_FMR = 1e-4
_FPIRS = (1e-1, 1e-2)


@dataclass(frozen=True)
class _AttackSection:
    attack: Attack
    measured: tuple[tuple[Series, AttackResult], ...]
    requested: tuple[float, ...]
    unsupported: dict[tuple[tuple[float, ...], int], list[str]]
    det: str
    scores: tuple[tuple[Series, AttackResult, str], ...]


@dataclass(frozen=True)
class _OpenSetSection:
    series: Series
    rows: tuple[tuple[Line, OpenSetResult, tuple[float | None, ...]], ...]
    ranks: tuple[int, ...]
    chart: str


@dataclass(frozen=True)
class _SubgroupSection:
    column: str
    fmr: float
    series: tuple[Series, ...]
    groups: tuple[tuple[str, tuple[tuple[Series, Subgroup], ...]], ...]
    fnmr_chart: str
    fmr_chart: str


@dataclass(frozen=True)
class _BandSection:
    column: str
    series: Series
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class _HardestSection:
    series: Series
    kinds: tuple[tuple[Attack | None, tuple[HardestPair, ...]], ...]


def sections_of(report: EvaluationReport) -> dict[str, Any]:
    """Return the variables of the template; a section without content is empty."""
    series = series_of(report.models)
    searches = [result for model in report.models for result in model.open_set]
    return {
        "report": report,
        "series": series,
        "headlines": {one.key: _headlines(one.result.attacks) for one in series},
        "attacks": [
            _attack_section(attack, series)
            for attack in _ATTACKS
            if any(result.attack == attack for one in series for result in one.result.attacks)
        ],
        "open_sets": [_open_set_section(one, searches) for one in series if one.result.open_set],
        "fpirs": _FPIRS,
        "folds": [one for one in series if one.result.folds is not None],
        "subgroups": _subgroup_sections(series),
        "bands": _band_sections(series),
        "worst": [_hardest_section(one) for one in series if one.result.worst],
        "noted": [one for one in series if one.result.notes],
    }


def _headlines(attacks: Sequence[AttackResult]) -> list[str]:
    return [_headline(result) for result in attacks] or ["No comparison had a score."]


def _headline(result: AttackResult) -> str:
    whom = "different people" if result.attack == "random_forgery" else "a skilled forgery"
    if not result.rates:
        return (
            f"{result.non_mated_count:,} comparisons of {whom} are too few for any false match "
            "rate that was requested."
        )
    supported = sorted(result.rates, key=lambda row: row.asked_fmr)
    row = next((row for row in supported if row.asked_fmr >= _HEADLINE_FMR), supported[-1])
    comparisons = f"comparisons of {whom}" if "people" in whom else "comparisons with " + whom
    often = one_in(row.asked_fmr).replace("1 in", "one in")
    refused = f"{percent(row.fnmr.value)} {bounds(row.fnmr)}".strip()
    return (
        f"At the threshold {number(row.threshold)} {often} {comparisons} would match; "
        f"{refused} of the right ones would be refused."
    )


def _attack_section(attack: Attack, series: Sequence[Series]) -> _AttackSection:
    key = attack.partition("_")[0]
    measured = tuple(
        (one, result) for one in series for result in one.result.attacks if result.attack == attack
    )
    requested = {
        fmr
        for _, result in measured
        for fmr in (*(row.asked_fmr for row in result.rates), *result.unsupported)
    }
    unsupported: dict[tuple[tuple[float, ...], int], list[str]] = {}
    for one, result in measured:
        if result.unsupported:
            missing = (result.unsupported, result.non_mated_count)
            unsupported.setdefault(missing, []).append(one.label)
    return _AttackSection(
        attack,
        measured,
        tuple(sorted(requested, reverse=True)),
        unsupported,
        det_chart(f"{key}-det", measured),
        tuple(
            (one, result, score_chart(f"{key}-scores-{one.key}", one, result))
            for one, result in measured
        ),
    )


def _open_set_section(series: Series, everything: Sequence[OpenSetResult]) -> _OpenSetSection:
    results = series.result.open_set
    lines = shades(series.line, len(results))
    ranks = {rank for result in results for rank in result.hit_rates}
    return _OpenSetSection(
        series,
        tuple(
            (line, result, tuple(_fnir_at(result, fpir) for fpir in _FPIRS))
            for line, result in zip(lines, results, strict=True)
        ),
        tuple(sorted(ranks)),
        open_set_chart(
            f"open-{series.key}", series, list(zip(lines, results, strict=True)), everything
        ),
    )


def _fnir_at(result: OpenSetResult, fpir: float) -> float | None:
    """Return the FNIR at the lowest threshold that keeps FPIR; None where the searches are too few for it."""
    if result.non_mated_searches * fpir < 3 - 1e-9:
        return None
    kept = [miss for found, miss in zip(result.fpir, result.fnir, strict=True) if found <= fpir]
    return min(kept, default=None)


def _subgroup_sections(series: Sequence[Series]) -> list[_SubgroupSection]:
    grouped: dict[tuple[str, float], list[tuple[Series, Subgroup]]] = {}
    for one in series:
        for group in one.result.subgroups:
            grouped.setdefault((group.column, group.asked_fmr), []).append((one, group))
    return [
        _subgroup_section(f"group{index}", column, requested, rows)
        for index, ((column, requested), rows) in enumerate(grouped.items())
    ]


def _subgroup_section(
    key: str, column: str, requested: float, rows: Sequence[tuple[Series, Subgroup]]
) -> _SubgroupSection:
    groups: dict[str, list[tuple[Series, Subgroup]]] = {}
    for one, group in rows:
        groups.setdefault(group.value, []).append((one, group))

    def whiskers(name: str) -> list[Whisker]:
        return [
            Whisker(value, one.label, one.line, getattr(group, name))
            for value, found in groups.items()
            for one, group in found
        ]

    about = plain_text(column)
    return _SubgroupSection(
        column,
        requested,
        tuple({one.key: one for one, _ in rows}.values()),
        tuple((value, tuple(found)) for value, found in groups.items()),
        whisker_chart(f"{key}-fnmr", f"FNMR by {about}", whiskers("fnmr")),
        whisker_chart(f"{key}-fmr", f"FMR by {about}", whiskers("fmr"), requested),
    )


def _band_sections(series: Sequence[Series]) -> list[_BandSection]:
    columns = dict.fromkeys(band.column for one in series for band in one.result.bands)
    return [
        _BandSection(
            column,
            one,
            tuple(band for band in one.result.bands if band.column == column),
        )
        for column in columns
        for one in series
    ]


def _hardest_section(series: Series) -> _HardestSection:
    kinds: dict[Attack | None, list[HardestPair]] = {}
    for pair in series.result.worst:
        kinds.setdefault(pair.attack, []).append(pair)
    return _HardestSection(series, tuple((kind, tuple(pairs)) for kind, pairs in kinds.items()))
