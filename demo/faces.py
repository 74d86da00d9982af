"""Enrol two people, meet them again years later, refuse two others: ``make demo``.

Every expectation is checked; the exit status is 1 if one of them fails.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import verifykit as vk
from demo.portraits import YEARS_APART, portraits

ENROLLED = {"Emmanuel": "person_a_1", "Jacinda": "person_b_1"}
TAKEN_IN = {"person_a_1": 2014, "person_a_2": 2025, "person_b_1": 2018, "person_b_2": 2022}
# What is asked: the claimed subject, the picture, and whether it shows that subject.
CLAIMS = (
    ("Emmanuel", "person_a_2", True),
    ("Jacinda", "person_b_2", True),
    ("Emmanuel", "person_b_2", False),
    ("Emmanuel", "impostor_1", False),
    ("Emmanuel", "impostor_2", False),
    ("Jacinda", "impostor_1", False),
    ("Jacinda", "impostor_2", False),
)
UNKNOWN = (
    ("person_a_2", "Emmanuel"),
    ("person_b_2", "Jacinda"),
    ("impostor_1", None),
    ("impostor_2", None),
)


def main() -> int:
    """Run the demonstration in a temporary folder and print what came out.

    Returns:
        0 if every answer was right, 1 otherwise.
    """
    console = Console()
    with console.status("portraits: from the cache, or downloaded once by checksum"):
        pictures = portraits(carriers=[YEARS_APART])
    with tempfile.TemporaryDirectory(prefix="verifykit-demo-") as folder:
        verifier = vk.Verifier("face", gallery=Path(folder) / "people.db")
        for subject_id, name in ENROLLED.items():
            report = verifier.enroll(subject_id, [pictures[name]])
            console.print(f"enrolled {subject_id}, {len(report.accepted)} picture: {_label(name)}")
        right = _verify(console, verifier, pictures) + _identify(console, verifier, pictures)
    asked = len(CLAIMS) + len(UNKNOWN)
    console.print(f"{right} of {asked} answers are right")
    return 0 if right == asked else 1


def _verify(console: Console, verifier: vk.Verifier, pictures: dict[str, Path]) -> int:
    table = Table(title="Verify: is it who they claim to be?", title_justify="left")
    for column in ("claimed", "picture", "score", "decision", ""):
        table.add_column(column)
    right = 0
    for subject_id, name, expected in CLAIMS:
        decision = verifier.verify(subject_id, pictures[name])
        right += decision.match is expected
        table.add_row(
            subject_id,
            _label(name),
            f"{decision.score:.3f}",
            "match" if decision else "no match",
            _mark(decision.match is expected),
        )
        table.caption = f"match from {decision.threshold:.3f}: false match rate {decision.fmr:g}"
    console.print(table)
    return right


def _identify(console: Console, verifier: vk.Verifier, pictures: dict[str, Path]) -> int:
    table = Table(title="Identify: who is it, of those enrolled?", title_justify="left")
    for column in ("picture", "answer", "score", ""):
        table.add_column(column)
    right = 0
    for name, expected in UNKNOWN:
        candidates = verifier.identify(pictures[name])
        found = [candidate.subject_id for candidate in candidates]
        is_right = found == ([] if expected is None else [expected])
        right += is_right
        table.add_row(
            _label(name),
            ", ".join(found) or "nobody enrolled here",
            f"{candidates[0].score:.3f}" if candidates else "",
            _mark(is_right),
        )
    console.print(table)
    return right


def _label(name: str) -> str:
    return f"{name} ({TAKEN_IN[name]})" if name in TAKEN_IN else name


def _mark(right: bool) -> str:
    return "[green]right[/]" if right else "[bold red]WRONG[/]"


if __name__ == "__main__":
    sys.exit(main())
