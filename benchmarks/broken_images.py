"""Broken pictures through the real decode path: none may end the process, none may be decided wrongly.

``python -m benchmarks.broken_images --images 10000`` breaks the demo's portraits in every format that is
read (cut short, bytes changed, spliced, lengths and headers overwritten) and compares each with a picture
of somebody else, and with one of the same person. Worker processes do it, so that a crash of a decoder
is seen. Status 1 when there was a crash, an error of no type of ours, a match with somebody else, or any
decision from a file that was cut short.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image as PilImage
from rich.console import Console
from rich.progress import track
from rich.table import Table

import verifykit as vk
from demo.portraits import portraits

console = Console()
PEOPLE = (("person_a_1", "person_a_2", "impostor_1"), ("person_b_1", "person_b_2", "impostor_2"))
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
WAYS = ("cut short", "bytes changed", "bits flipped", "spliced", "header changed", "bytes left out")
LONG_SIDE_PX = 320
CHUNK = 50


@dataclass(frozen=True)
class Broken:
    """A picture that was damaged.

    Attributes:
        data: The file's bytes.
        file_format: Pillow's name of the format.
        way: Of ``WAYS``.
        mate: A sound picture of the same person.
        stranger: One of somebody else.
    """

    data: bytes
    file_format: str
    way: str
    mate: Path
    stranger: Path


def broken(seed: int) -> Broken:
    """The picture of this number; always the same."""
    rng = np.random.default_rng(seed)
    paths = portraits()
    name, mate, stranger = PEOPLE[seed % len(PEOPLE)]
    file_format = FORMATS[int(rng.integers(len(FORMATS)))]
    way = WAYS[int(rng.integers(len(WAYS)))]
    sound = _encoded(paths[name], file_format)
    other = _encoded(paths[stranger], file_format)
    return Broken(_damaged(sound, other, way, rng), file_format, way, paths[mate], paths[stranger])


@cache
def _encoded(path: Path, file_format: str) -> bytes:
    with PilImage.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX))
    file = io.BytesIO()
    picture.save(file, file_format)
    return file.getvalue()


def _damaged(sound: bytes, other: bytes, way: str, rng: np.random.Generator) -> bytes:
    data = bytearray(sound)
    at = int(rng.integers(1, len(data)))
    if way == "cut short":
        # Behind the last pixel some formats end with bytes that mean nothing.
        return sound[: min(at, int(len(sound) * 0.97))]
    if way == "bytes left out":
        del data[at : at + int(rng.integers(1, 4096))]
    elif way == "spliced":
        data[at:] = other[at:]
    else:
        early = way == "header changed"
        count = int(rng.integers(1, 8 if early else 200))
        places = rng.integers(0, min(64, len(data)) if early else len(data), size=count)
        for place in places.tolist():
            bit = 1 << int(rng.integers(8))
            data[place] = data[place] ^ bit if way == "bits flipped" else int(rng.integers(256))
    return bytes(data)


@cache
def _verifier() -> vk.Verifier:
    return vk.Verifier("face", quality="warn", multi_face="largest", threads=1)


def outcome(case: Broken) -> str:
    """What came of comparing it: a refusal's class, what was decided, or ``FAILED`` and why."""
    try:
        mate = _verifier().compare(case.data, case.mate).match
        stranger = _verifier().compare(case.data, case.stranger).match
    except vk.AcquisitionError:
        return "no usable face in it"
    except vk.ImageError:
        return "refused as an image"
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"FAILED: {type(error).__name__}: {error}"
    if case.way == "cut short":
        return "FAILED: decided on a file that is cut short"
    # A splice may show the stranger, who is then rightly found.
    if stranger and case.way != "spliced":
        return "FAILED: matches somebody else"
    return "read, same person" if mate else "read, another or no person"


def outcomes(seeds: range) -> list[tuple[str, str, str]]:
    """(format, way, outcome) of each."""
    cases = map(broken, seeds)
    return [(case.file_format, case.way, outcome(case)) for case in cases]


def run(count: int, workers: int) -> Iterator[tuple[str, str, str]]:
    """The outcomes of so many pictures; a worker that dies raises BrokenProcessPool."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        for found in track(pool.map(outcomes, chunks), "broken pictures", total=len(chunks)):
            yield from found


def main() -> int:
    """Break, compare, and say what came of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.broken_images", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    portraits()  # fetched once, before the workers want them
    seen: Counter[tuple[str, str]] = Counter()
    failures = []
    try:
        for file_format, way, found in run(options.images, options.workers):
            if found.startswith("FAILED"):
                failures.append(f"{file_format}, {way}: {found}")
                found = "FAILED"
            seen[way, found] += 1
    except BrokenProcessPool:
        failures.append("a worker process died")
    columns = sorted({found for _, found in seen})
    table = Table("way", *columns, title=f"{sum(seen.values()):,} broken pictures")
    for way in WAYS:
        table.add_row(way, *(f"{seen[way, found]:,}" for found in columns))
    console.print(table)
    for failure in failures[:20]:
        console.print(failure)
    console.print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
