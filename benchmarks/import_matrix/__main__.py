"""Write docs/reference/import-matrix.md: ``python -m benchmarks.import_matrix``.

Exit status: 0, or 1 if a file failed otherwise than by a refusal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path

import onnx
import onnxruntime
import torch
import torchvision
from rich.console import Console
from rich.progress import Progress

from benchmarks.import_matrix.matrix import (
    Outcome,
    all_networks,
    try_network,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "import-matrix.md"

_ABOUT = (
    "Files that [`verifykit-export import`](../how-to/import-an-encoder.md) was tried on: networks with "
    "random weights and 128 values an image, written by both exporters of torch with a batch of 1 and with "
    "a free batch, in every opset from 11 to 24 that the exporter writes. Every imported file was "
    "compared with the original in ONNX Runtime; the column 1 - cosine is the greatest difference."
)
_WAYS = (
    "At once: the network embeds a batch as a whole. One after the other: the exporter wrote the number of "
    "images into the network where it cannot be freed, so `Scan` runs it for each image; one image takes as "
    "long as before."
)


def render(outcomes: Sequence[Outcome]) -> str:
    """Return the page."""
    versions = ", ".join(
        f"{module.__name__} {module.__version__.partition('+')[0]}"
        for module in (torch, torchvision, onnx, onnxruntime)
    )
    imported = [item for item in outcomes if item.gap is not None]
    refused = [item for item in outcomes if item.refusal]
    failed = [item for item in outcomes if item.failure]
    lines = [
        "# Import matrix",
        "",
        "<!-- Written by python -m benchmarks.import_matrix. -->",
        "",
        _ABOUT,
        "",
        (
            f"{len(outcomes)} files: {len(imported)} imported, {len(refused)} refused, {len(failed)} failed "
            f"({versions})."
        ),
        "",
        "| network | exporter | batch | opsets | imported | 1 - cosine | several images |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]

    def group(item: Outcome) -> tuple[str, str, int]:
        return item.case.network, item.case.exporter, item.case.batch

    lines += [_row(key, list(some)) for key, some in groupby(outcomes, key=group)]
    lines += ["", _WAYS]
    if refused:
        lines += ["", "## Refused", ""]
        lines += sorted({f"- {item.case.network}, {item.refusal}" for item in refused})
    return "\n".join(_wrapped(lines)) + "\n"


def _row(key: tuple[str, str, int], some: Sequence[Outcome]) -> str:
    network, exporter, batch = key
    opsets = [item.case.opset for item in some]
    gaps = [item.gap for item in some if item.gap is not None]
    ways = {
        "one after the other" if item.one_by_one else "at once"
        for item in some
        if item.gap is not None
    }
    gap = f"{max(gaps):.0e}" if gaps else ""
    return (
        f"| {network} | {exporter} | {batch or 'free'} | {min(opsets)} to {max(opsets)} "
        f"| {len(gaps)} of {len(some)} | {gap} | {', '.join(sorted(ways))} |"
    )


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    """Wrap paragraphs as the other pages are; tables and lists stay."""
    for line in lines:
        if line.startswith(("|", "- ", "<!--")) or not line:
            yield line
        else:
            yield from textwrap.wrap(line, 115, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="benchmarks.import_matrix", description=__doc__)
    parser.add_argument("--network", action="append", choices=all_networks(), help="only this one")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    options = parser.parse_args()
    networks = options.network or all_networks()
    outcomes: list[Outcome] = []
    with (
        ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool,
        Progress(console=Console(stderr=True)) as progress,
    ):
        for some in progress.track(pool.map(try_network, networks), total=len(networks)):
            outcomes += some
            for outcome in some:
                if outcome.refusal or outcome.failure:
                    progress.console.print(outcome)
    options.out.write_text(render(outcomes), encoding="utf-8")
    sys.exit(1 if any(item.failure for item in outcomes) else 0)


if __name__ == "__main__":
    main()
