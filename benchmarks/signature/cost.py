"""Cost of a model per image, in time and size, and the images that it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import time_interleaved
from benchmarks.signature.data import Signatures
from benchmarks.signature.report import Cell, ResultTable, format_counts
from verifykit.encoder import Encoder
from verifykit.image import load_image
from verifykit.modalities import crop
from verifykit.models import load
from verifykit.types import Image

_ROUNDS, _IMAGES = 40, 20


def cost(
    models: Mapping[str, str], signatures: Signatures, usable: NDArray[np.bool_]
) -> ResultTable:
    """Measure time and size of each model, with interleaved rounds."""
    good = np.flatnonzero(usable)
    at = good[np.linspace(0, len(good) - 1, min(_IMAGES, len(good))).astype(int)]
    images = [load_image(signatures.paths[i]) for i in at.tolist()]
    jobs: dict[tuple[str, str], Callable[[], object]] = {}
    for name, model in models.items():
        file = load(model)
        for threads in (2, 1):
            encoder = Encoder.open(file, threads=threads)
            crops = [crop(image, encoder.spec.crop) for image in images]
            jobs[name, f"network {threads}"] = partial(_encode_next, encoder, cycle(crops))
        jobs[name, "crop"] = partial(_crop_next, encoder, cycle(images))
    timings = time_interleaved(jobs, _ROUNDS)
    columns = ("network 2", "network 1", "crop")
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            *(timings[name, column].wall_ms for column in columns),
            load(model).path.stat().st_size / 1e6,
        )
        for name, model in models.items()
    ]
    return ResultTable(
        "Cost of an image",
        ("model", "network, 2 threads, ms", "network, 1 thread, ms", "crop, ms", "file, MB"),
        tuple(rows),
        f"Medians of {_ROUNDS} rounds over {len(images)} images, one image at a time.",
    )


def refusals(signatures: Signatures, found: Mapping[str, NDArray[np.str_]]) -> ResultTable:
    """Count the images that gave no template, by reason; no rate includes them."""
    rows: list[tuple[Cell, ...]] = []
    for name, refused in found.items():
        for set_name in signatures.set_names():
            here = signatures.sets == set_name
            reasons = [
                Counter(each for each in refused[here & kind].tolist() if each)
                for kind in (~signatures.forged, signatures.forged)
            ]
            rows.append((name, set_name, int(here.sum()), *map(format_counts, reasons)))
    return ResultTable(
        "Failures to acquire",
        ("model", "set", "images", "genuine, refused", "skilled forgeries, refused"),
        tuple(rows),
        "Refused images are neither references nor probes, and no rate includes them.",
    )


def _encode_next(encoder: Encoder, crops: Iterator[Image]) -> object:
    return encoder.encode([next(crops)])


def _crop_next(encoder: Encoder, images: Iterator[Image]) -> object:
    return crop(next(images), encoder.spec.crop)
