"""Enrol two people, verify them years later, and reject two others: part of ``make demo``.

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
# Claimed subject, image, and whether the image shows that subject.
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
    """Run the demonstration in a temporary folder; return 0 if every result is right, else 1."""
    console = Console()
    with console.status("portraits: read from the cache, or downloaded and checked once"):
        images = portraits(carriers=[YEARS_APART])
    with tempfile.TemporaryDirectory(prefix="verifykit-demo-") as folder:
        verifier = vk.Verifier("face", gallery=Path(folder) / "people.db")
        for subject_id, name in ENROLLED.items():
            report = verifier.enroll(subject_id, [images[name]])
            console.print(f"enrolled {subject_id}, {len(report.accepted)} image: {_label(name)}")
        right = _verify(console, verifier, images) + _identify(console, verifier, images)
    total = len(CLAIMS) + len(UNKNOWN)
    console.print(f"{right} of {total} results are right")
    return 0 if right == total else 1


def _verify(console: Console, verifier: vk.Verifier, images: dict[str, Path]) -> int:
    table = Table(title="Verify: is it who they claim to be?", title_justify="left")
    for column in ("claimed", "image", "score", "decision", ""):
        table.add_column(column)
    right = 0
    for subject_id, name, expected in CLAIMS:
        decision = verifier.verify(subject_id, images[name])
        right += decision.match is expected
        table.add_row(
            subject_id,
            _label(name),
            f"{decision.score:.3f}",
            "match" if decision else "no match",
            _mark(decision.match is expected),
        )
        table.caption = f"threshold {decision.threshold:.3f} at false match rate {decision.fmr:g}"
    console.print(table)
    return right


def _identify(console: Console, verifier: vk.Verifier, images: dict[str, Path]) -> int:
    table = Table(title="Identify: which enrolled subject is it?", title_justify="left")
    for column in ("image", "result", "score", ""):
        table.add_column(column)
    right = 0
    for name, expected in UNKNOWN:
        candidates = verifier.identify(images[name])
        subject_ids = [candidate.subject_id for candidate in candidates]
        is_right = subject_ids == ([] if expected is None else [expected])
        right += is_right
        table.add_row(
            _label(name),
            ", ".join(subject_ids) or "no candidate",
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
