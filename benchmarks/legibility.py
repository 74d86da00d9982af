"""Measure signature quality, to set its limits: ``python -m benchmarks.legibility --data DIR [--not DIR]``.

Measures every image below ``--data`` (signatures) and ``--not`` (other images), and prints the range of each
measure and the number of images that each reason refuses.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from verifykit.datasets import IMAGE_SUFFIXES
from verifykit.image import load_image
from verifykit.modalities.signature.ink import find_ink
from verifykit.modalities.signature.quality import (
    SignatureLimits,
    measure_signature,
    signature_reasons,
)
from verifykit.spec import SignatureCrop

SPEC = SignatureCrop(96, 288)
PERCENTILES = (0, 0.5, 5, 50, 95, 99.5, 100)


def measure(path: Path) -> dict[str, float]:
    """Return the quality measures of an image."""
    cv2.setNumThreads(1)
    return measure_signature(find_ink(load_image(path), SPEC))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.legibility", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of signatures")
    parser.add_argument("--not", dest="others", type=Path, help="folder of other images")
    parser.add_argument("--every", type=int, default=1, help="use every n-th image only")
    arguments = parser.parse_args()
    limits = SignatureLimits()
    for folder in filter(None, (arguments.data, arguments.others)):
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        paths = paths[:: arguments.every]
        with ProcessPoolExecutor(2) as pool:
            results = pool.map(measure, paths, chunksize=20)
            measures = list(track(results, str(folder), total=len(paths)))
        table = Table(title=f"{folder}: {len(paths)} images", title_justify="left")
        for column in ("measure", *(f"{p:g} %" for p in PERCENTILES)):
            table.add_column(column, justify="right")
        for name in measures[0]:
            values = np.percentile([each[name] for each in measures], PERCENTILES)
            table.add_row(name, *(f"{value:.3g}" for value in values))
        Console().print(table)
        reasons = [signature_reasons(each, limits) for each in measures]
        refused = {str(p): r for p, r in zip(paths, reasons, strict=True) if r}
        counts = Counter(reason for several in reasons for reason in several)
        Console().print(
            f"refused: {len(refused)} ({len(refused) / len(paths):.2%}), {dict(counts)}"
        )
        for path, codes in list(refused.items())[:12]:
            Console().print(f"  {path}: {', '.join(codes)}")


if __name__ == "__main__":
    main()
