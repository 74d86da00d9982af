"""Drawn writers as a data set: ``python -m demo.drawn_set FOLDER --writers 80 --beside DATA/manifest.csv``.

Writes a PNG for each signature and ``manifest.csv`` with ``path,subject,label,split``, all of it for
training. ``--beside`` puts the rows of another manifest into the same file, so that one run learns from
real and drawn writers; those keep their own split, or are divided by the run's.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
from rich.progress import track

from demo.drawn import Writer

# Three forgers, each with three attempts.
GENUINE, FORGERS, ATTEMPTS = 10, 3, 3
# Far from the seeds of tests and demonstration, so that none of those was trained on.
FIRST_SEED = 1000


def draw_set(folder: Path, writers: int) -> list[dict[str, str]]:
    """Draw signatures and write them as PNG.

    Args:
        folder: Where to; made if it is not there.
        writers: How many.

    Returns:
        A row for each: ``path`` (relative to the folder), ``subject``, ``label``, ``split``.
    """
    rows = []
    for number in track(range(writers), "drawing"):
        writer = Writer(FIRST_SEED + number)
        subject = f"drawn/{number:03d}"
        (folder / subject).mkdir(parents=True, exist_ok=True)
        images = {f"g{i:02d}": writer.genuine(i) for i in range(GENUINE)}
        images |= {
            f"f{forger * ATTEMPTS + i:02d}": writer.forgery(i, forger)
            for forger in range(FORGERS)
            for i in range(ATTEMPTS)
        }
        for name, image in images.items():
            path = f"{subject}/{name}.png"
            cv2.imwrite(str(folder / path), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
            label = "genuine" if name.startswith("g") else "skilled_forgery"
            rows.append({"path": path, "subject": subject, "label": label, "split": "train"})
    return rows


def main() -> None:
    """Draw, and write the manifest."""
    parser = argparse.ArgumentParser(prog="demo.drawn_set", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--writers", type=int, default=80)
    parser.add_argument("--beside", type=Path, help="another manifest.csv whose rows are added")
    arguments = parser.parse_args()
    rows = draw_set(arguments.folder, arguments.writers)
    if arguments.beside is not None:
        with arguments.beside.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                path = (arguments.beside.parent / row["path"]).resolve()
                rows.append({"split": "", "label": "", **row, "path": str(path)})
    with (arguments.folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "subject", "label", "split"])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
