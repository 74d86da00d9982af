"""Write drawn signatures as files, for the examples in the documents.

``python -m demo.signature_files FOLDER``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from demo.drawn import Writer
from demo.photographed import photographed

ADA, BLAISE = 3, 8


def write_signatures(folder: Path) -> list[Path]:
    """Write scans, a photo and a forgery into a folder.

    Returns:
        Paths of ``ada_1.png`` to ``ada_6.png``, ``ada_photo.jpg`` (blue ink on tinted, ruled paper in uneven
        light), ``ada_forged.png``, ``blaise_1.png`` to ``blaise_3.png``, ``blank.png``.
    """
    ada, blaise = Writer(ADA), Writer(BLAISE)
    images = {f"ada_{i + 1}.png": ada.genuine(i) for i in range(6)}
    images |= {f"blaise_{i + 1}.png": blaise.genuine(i) for i in range(3)}
    images["ada_forged.png"] = ada.forgery(0, 0)
    images["ada_photo.jpg"] = photographed(
        ada.genuine(6),
        seed=2,
        ink=(25, 40, 150),
        tint=(250, 244, 225),
        gradient=0.4,
        shadow=0.3,
        noise=3.0,
        paper_edge=("right", "bottom"),
        rotation_deg=2.0,
    )
    images["blank.png"] = ada.genuine(0)
    images["blank.png"][:] = 255
    written = []
    for name, image in images.items():
        path = folder / name
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        written.append(path)
    return written


def main() -> None:
    """Write the signatures into the given folder."""
    parser = argparse.ArgumentParser(prog="demo.signature_files", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_signatures(folder)


if __name__ == "__main__":
    main()
