"""Fuzz the decoders with broken images: no crash, and no wrong decision.

``python -m benchmarks.broken_images --images 10000`` breaks the demo's portraits in every supported format
(truncated, bytes changed, spliced, lengths and headers overwritten) and compares each with an image of the
same person, and with one of another person. Worker processes do it, so that a crash of a decoder is detected.
The exit status is 1 after a crash, an error that is not a VerifyKitError, a match with another person, or any
decision from a truncated file.
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
SUBJECTS = (("person_a_1", "person_a_2", "impostor_1"), ("person_b_1", "person_b_2", "impostor_2"))
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
DAMAGES = (
    "truncated",
    "bytes changed",
    "bits flipped",
    "spliced",
    "header changed",
    "bytes removed",
)
LONG_SIDE_PX = 320
CHUNK = 50


@dataclass(frozen=True)
class Broken:
    """A damaged image.

    Attributes:
        data: The file's bytes.
        file_format: Pillow's name of the format.
        damage: One of ``DAMAGES``.
        mated: An intact image of the same person.
        non_mated: An intact image of another person.
    """

    data: bytes
    file_format: str
    damage: str
    mated: Path
    non_mated: Path


def break_image(seed: int) -> Broken:
    """Return the damaged image of a seed; the same for the same seed."""
    rng = np.random.default_rng(seed)
    paths = portraits()
    name, mated, non_mated = SUBJECTS[seed % len(SUBJECTS)]
    file_format = FORMATS[int(rng.integers(len(FORMATS)))]
    damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
    intact = encode(paths[name], file_format)
    other = encode(paths[non_mated], file_format)
    data = _damage(intact, other, damage, rng)
    return Broken(data, file_format, damage, paths[mated], paths[non_mated])


@cache
def encode(path: Path, file_format: str) -> bytes:
    """Return an image file reduced in size, in another format."""
    with PilImage.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX))
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def _damage(intact: bytes, other: bytes, damage: str, rng: np.random.Generator) -> bytes:
    data = bytearray(intact)
    at = int(rng.integers(1, len(data)))
    if damage == "truncated":
        # Some formats end with bytes after the last pixel that have no meaning.
        return intact[: min(at, int(len(intact) * 0.97))]
    if damage == "bytes removed":
        del data[at : at + int(rng.integers(1, 4096))]
    elif damage == "spliced":
        data[at:] = other[at:]
    else:
        early = damage == "header changed"
        count = int(rng.integers(1, 8 if early else 200))
        offsets = rng.integers(0, min(64, len(data)) if early else len(data), size=count)
        for offset in offsets.tolist():
            bit = 1 << int(rng.integers(8))
            data[offset] = (
                data[offset] ^ bit if damage == "bits flipped" else int(rng.integers(256))
            )
    return bytes(data)


@cache
def open_verifier() -> vk.Verifier:
    """Open the face model, once per process."""
    return vk.Verifier("face", quality="warn", multi_face="largest", threads=1)


def outcome(case: Broken) -> str:
    """Compare a broken image: the kind of refusal, the decision, or ``FAILED`` and why."""
    try:
        mated = open_verifier().compare(case.data, case.mated).match
        non_mated = open_verifier().compare(case.data, case.non_mated).match
    except vk.AcquisitionError:
        return "no usable face"
    except vk.ImageError:
        return "refused as an image"
    except Exception as error:  # noqa: BLE001 - any other error is a finding
        return f"FAILED: {type(error).__name__}: {error}"
    if case.damage == "truncated":
        return "FAILED: decision on a truncated file"
    # A spliced image may show the other person, so that the match is right.
    if non_mated and case.damage != "spliced":
        return "FAILED: matches another person"
    return "match" if mated else "no match"


def outcomes(seeds: range) -> list[tuple[str, str, str]]:
    """Return (format, damage, outcome) of each seed."""
    cases = map(break_image, seeds)
    return [(case.file_format, case.damage, outcome(case)) for case in cases]


def run(count: int, workers: int) -> Iterator[tuple[str, str, str]]:
    """Yield the outcomes of ``count`` images; a worker that crashes raises BrokenProcessPool."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        for found in track(pool.map(outcomes, chunks), "broken images", total=len(chunks)):
            yield from found


def main() -> int:
    """Break, compare, and print the outcomes."""
    parser = argparse.ArgumentParser(prog="benchmarks.broken_images", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    portraits()  # downloaded once, before the workers need them
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    try:
        for file_format, damage, found in run(options.images, options.workers):
            if found.startswith("FAILED"):
                failures.append(f"{file_format}, {damage}: {found}")
                found = "FAILED"
            counts[damage, found] += 1
    except BrokenProcessPool:
        failures.append("a worker process crashed")
    columns = sorted({found for _, found in counts})
    table = Table("damage", *columns, title=f"{sum(counts.values()):,} broken images")
    for damage in DAMAGES:
        table.add_row(damage, *(f"{counts[damage, found]:,}" for found in columns))
    console.print(table)
    for failure in failures[:20]:
        console.print(failure)
    console.print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
