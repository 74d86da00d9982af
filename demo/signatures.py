"""Enrol two writers, accept their new signatures, and reject skilled forgeries: part of ``make demo``.

The signatures are drawn (``demo/drawn.py``), so that no real ones are shipped. Every expectation is checked;
the exit status is 1 if one of them fails.
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
    """Run the demonstration in a temporary folder; return 0 if every result is right, else 1."""
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
        right, total = _verify(console, verifier)
    console.print(f"{right} of {total} results are right")
    return 0 if right == total else 1


def probes(subject_id: str) -> list[tuple[str, Image, bool]]:
    """Return the probes of a subject: description, image, and whether the subject wrote it."""
    own = Writer(WRITERS[subject_id])
    other = Writer(next(seed for name, seed in WRITERS.items() if name != subject_id))
    photo = photographed(
        own.genuine(REFERENCES + 1), seed=1, ink=(25, 40, 150), tint=(250, 244, 225), gradient=0.4
    )
    return [
        ("genuine, new sample", own.genuine(REFERENCES), True),
        ("genuine, photo in blue ink", photo, True),
        ("skilled forgery", own.forgery(0, 0), False),
        ("skilled forgery, another forger", own.forgery(0, 1), False),
        ("random forgery", other.genuine(0), False),
    ]


def _verify(console: Console, verifier: vk.Verifier) -> tuple[int, int]:
    table = Table(title="Verify: did they write it?", title_justify="left")
    for column in ("claimed", "signature", "score", "decision", ""):
        table.add_column(column)
    right = total = 0
    for subject_id in WRITERS:
        for name, image, expected in probes(subject_id):
            decision = verifier.verify(subject_id, image)
            total += 1
            right += decision.match is expected
            table.add_row(
                subject_id,
                name,
                f"{decision.score:.3f}",
                "match" if decision else "no match",
                "[green]right[/]" if decision.match is expected else "[bold red]WRONG[/]",
            )
            table.caption = (
                f"threshold {decision.threshold:.3f} at false match rate {decision.fmr:.0%} "
                f"for skilled forgeries, {REFERENCES} references"
            )
    console.print(table)
    return right, total


def _scan(folder: Path, image: Image, name: str) -> Path:
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return path


if __name__ == "__main__":
    sys.exit(main())
