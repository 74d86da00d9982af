"""Write a data set of drawn writers.

``python -m demo.drawn_set FOLDER --writers 80 --beside DATA/manifest.csv`` writes a PNG for each signature
and ``manifest.csv`` with ``path,subject,label,split``; drawn writers are in the training split. ``--beside``
adds the rows of another manifest, so that a run trains on real and drawn writers; those keep their split,
or are divided by the run.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
from rich.progress import track

from demo.drawn import Writer

GENUINE, FORGERS, ATTEMPTS = 10, 3, 3
# Far from the seeds of tests and demonstration, so that no model is trained on those.
FIRST_SEED = 1000


def draw_set(folder: Path, writers: int) -> list[dict[str, str]]:
    """Draw signatures and write them as PNG.

    Args:
        folder: The folder; it is created if it does not exist.
        writers: Number of writers.

    Returns:
        A row for each signature: ``path`` (relative to the folder), ``subject``, ``label``, ``split``.
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
    """Draw the signatures, and write the manifest."""
    parser = argparse.ArgumentParser(prog="demo.drawn_set", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--writers", type=int, default=80, help="number of writers")
    parser.add_argument("--beside", type=Path, help="add the rows of this manifest.csv")
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
