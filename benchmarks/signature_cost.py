"""What a model costs for an image: time and size; and which images it did not take."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.signature_report import Cell, ResultTable, listed
from benchmarks.signatures import Signatures
from verifykit.encoder import Encoder
from verifykit.image import load_image
from verifykit.modalities import crop
from verifykit.models import load
from verifykit.types import Image

__all__ = ["cost", "refusals"]

_TIMED_RUNS, _TIMED_IMAGES = 40, 20


def cost(
    models: Mapping[str, str], signatures: Signatures, usable: NDArray[np.bool_]
) -> ResultTable:
    """Time and size of each model; their rounds take turns, so that a busy machine is busy for all."""
    good = np.flatnonzero(usable)
    at = good[np.linspace(0, len(good) - 1, min(_TIMED_IMAGES, len(good))).astype(int)]
    pictures = [load_image(signatures.paths[i]) for i in at.tolist()]
    jobs: dict[tuple[str, str], Callable[[int], object]] = {}
    for name, model in models.items():
        file = load(model)
        for threads in (2, 1):
            encoder = Encoder.open(file, threads=threads)
            crops = [crop(picture, encoder.spec.crop) for picture in pictures]
            jobs[name, f"network {threads}"] = partial(_encode, encoder, crops)
        jobs[name, "crop"] = partial(_crop, encoder, pictures)
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    for turn in track(range(_TIMED_RUNS + 1), description="timing", transient=True):
        for key, job in jobs.items():
            start = time.perf_counter()
            job(turn % len(pictures))
            taken[key].append((time.perf_counter() - start) * 1e3)
    medians = {key: statistics.median(values[1:]) for key, values in taken.items()}
    columns = ("network 2", "network 1", "crop")
    rows = [
        (
            name,
            *(medians[name, column] for column in columns),
            load(model).path.stat().st_size / 1e6,
        )
        for name, model in models.items()
    ]
    return ResultTable(
        "Cost of an image",
        ("model", "network, 2 threads, ms", "network, 1 thread, ms", "crop, ms", "file, MB"),
        tuple(rows),
        f"Medians of {_TIMED_RUNS} rounds over {len(pictures)} images, one image at a time.",
    )


def refusals(signatures: Signatures, found: Mapping[str, NDArray[np.str_]]) -> ResultTable:
    """Images that gave no template, by reason; they are in no rate."""
    rows: list[tuple[Cell, ...]] = []
    for name, refused in found.items():
        for set_name in signatures.set_names():
            here = signatures.sets == set_name
            reasons = [
                Counter(each for each in refused[here & kind].tolist() if each)
                for kind in (~signatures.forged, signatures.forged)
            ]
            rows.append((name, set_name, int(here.sum()), *map(listed, reasons)))
    return ResultTable(
        "Failures to acquire",
        ("model", "set", "images", "genuine, refused", "skilled forgeries, refused"),
        tuple(rows),
        "Refused images are neither references nor probes, and in none of the rates.",
    )


def _encode(encoder: Encoder, crops: list[Image], number: int) -> object:
    return encoder.encode([crops[number]])


def _crop(encoder: Encoder, pictures: list[Image], number: int) -> object:
    return crop(pictures[number], encoder.spec.crop)
