"""``verifykit gallery duplicates``: who was enrolled twice?"""

from __future__ import annotations

import typer

from verifykit.cli._run import emit, progress
from verifykit.cli.gallery.opening import GalleryArgument
from verifykit.cli.options import (
    CalibrationOption,
    JsonOption,
    KeyFileOption,
    ModelOption,
    NetworkChoice,
    PopulationOption,
    SearchDecision,
    command,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import columns, counted, rate_text
from verifykit.decision import DecisionOptions, DecisionRule, rule_for_pairs
from verifykit.gallery import searcher, shown_location
from verifykit.gallery.duplicates import (
    DuplicatePair,
    Enrolled,
    find_duplicates,
    read_enrolled,
)
from verifykit.session import NetworkOptions

FOUND = 1  # something for a person to look at, as `verifykit-train check` has it


@command
def duplicates(
    gallery: GalleryArgument,
    model: ModelOption = "face",
    decision: SearchDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    network: NetworkChoice = NetworkOptions(),
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find who is enrolled under two ids: every subject against every other.

    Without a rate it takes the one at which less than one false pair is expected in this gallery. Status 0
    when there is none, 1 when there are pairs to look at.
    """
    opened = open_reader(
        model,
        gallery,
        network=network,
        calibration=calibration,
        population=population,
        key=gallery_key(key_file),
    )
    enrolled = read_enrolled(opened.gallery)
    if decision.fmr is None and decision.threshold is None and decision.fpir is None:
        rule = rule_for_pairs(opened.spec, enrolled.comparison_count, decision.attack)
    else:
        rule = decision.search_rule(opened.spec, DecisionOptions(), len(enrolled.subject_ids))
    with progress("duplicates") as on_template:
        pairs = find_duplicates(
            opened.gallery,
            rule.threshold,
            search=searcher(opened.gallery, opened.spec),
            enrolled=enrolled,
            on_template=on_template,
        )
    expected = _expected(rule, enrolled)
    body = {
        "gallery": shown_location(gallery),
        "pairs": [pair.to_dict() for pair in pairs],
        "subject_count": len(enrolled.subject_ids),
        "template_count": len(enrolled.owners),
        "comparison_count": enrolled.comparison_count,
        "expected_false_pairs": expected,
        **rule.search_values(),
        "model": opened.spec.digest,
    }
    emit(body, _text(pairs, enrolled, rule, expected), as_json=as_json)
    if pairs:
        raise typer.Exit(FOUND)


def _expected(rule: DecisionRule, enrolled: Enrolled) -> float | None:
    """Return how many pairs of different people reach the threshold at most; None for a bare one."""
    return None if rule.fmr is None else rule.fmr * enrolled.comparison_count


def _text(
    pairs: list[DuplicatePair], enrolled: Enrolled, rule: DecisionRule, expected: float | None
) -> str:
    who = (
        f"{counted(len(enrolled.subject_ids), 'subject')}, "
        f"{counted(len(enrolled.owners), 'template')}"
    )
    lines = [f"no duplicates among {who}"]
    if pairs:
        table = columns(
            ("score", "subject", "and"),
            [(f"{pair.score:.4f}", pair.subject_id, pair.other_id) for pair in pairs],
        )
        lines = [f"{counted(len(pairs), 'possible duplicate')} among {who}", table]
    lines += [
        f"threshold  {rule.threshold:.4f}",
        f"FMR        {rate_text(rule.fmr, rule.attack)}",
    ]
    if expected is not None:
        lines.append(
            f"expected   {expected:.2g} pairs by chance in {enrolled.comparison_count:,} comparisons"
        )
    return "\n".join(lines)
