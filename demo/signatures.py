"""Enrol two hands, accept their own next signatures, refuse skilled forgeries: part of ``make demo``.

The signatures are drawn (``demo/drawn.py``), so that no real one has to be shipped. Every expectation is
checked; the exit status is 1 if one of them fails.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2
from rich.console import Console
from rich.table import Table

import verifykit as vk
from demo.drawn import Writer
from demo.photographed import photographed
from demo.signature_files import ADA, BLAISE
from verifykit.types import Image

REFERENCES = 5
WRITERS = {"Ada": ADA, "Blaise": BLAISE}


def main() -> int:
    """Run the demonstration in a temporary folder and print what came out.

    Returns:
        0 if every answer was right, 1 otherwise.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="verifykit-demo-") as name:
        folder = Path(name)
        verifier = vk.Verifier("signature", gallery=folder / "signatures.db")
        for subject_id, seed in WRITERS.items():
            writer = Writer(seed)
            scans = [
                _scan(folder, writer.genuine(i), f"{subject_id}{i}") for i in range(REFERENCES)
            ]
            report = verifier.enroll(subject_id, scans)
            console.print(f"enrolled {subject_id}, {len(report.accepted)} scans of the signature")
        right, asked = _verify(console, verifier)
    console.print(f"{right} of {asked} answers are right")
    return 0 if right == asked else 1


def probes(subject_id: str) -> list[tuple[str, Image, bool]]:
    """What is shown for a subject: what it is, the picture, and whether the subject wrote it."""
    own = Writer(WRITERS[subject_id])
    other = Writer(next(seed for name, seed in WRITERS.items() if name != subject_id))
    photo = photographed(
        own.genuine(REFERENCES + 1), seed=1, ink=(25, 40, 150), tint=(250, 244, 225), gradient=0.4
    )
    return [
        ("own, a new one", own.genuine(REFERENCES), True),
        ("own, a photo in blue ink", photo, True),
        ("skilled forgery", own.forgery(0, 0), False),
        ("skilled forgery, another hand", own.forgery(0, 1), False),
        ("somebody else's", other.genuine(0), False),
    ]


def _verify(console: Console, verifier: vk.Verifier) -> tuple[int, int]:
    table = Table(title="Verify: did they write it?", title_justify="left")
    for column in ("claimed", "picture", "score", "decision", ""):
        table.add_column(column)
    right = asked = 0
    for subject_id in WRITERS:
        for name, image, expected in probes(subject_id):
            decision = verifier.verify(subject_id, image)
            asked += 1
            right += decision.match is expected
            table.add_row(
                subject_id,
                name,
                f"{decision.score:.3f}",
                "match" if decision else "no match",
                "[green]right[/]" if decision.match is expected else "[bold red]WRONG[/]",
            )
            table.caption = (
                f"match from {decision.threshold:.3f}: {decision.fmr:.0%} of skilled forgeries "
                f"accepted, with {REFERENCES} references"
            )
    console.print(table)
    return right, asked


def _scan(folder: Path, image: Image, name: str) -> Path:
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return path


if __name__ == "__main__":
    sys.exit(main())
