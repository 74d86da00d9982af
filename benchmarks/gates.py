"""Measure what the limits of quality do to faces.

``python -m benchmarks.gates --data PATH [--only PART ...]``

``refused``: how many images of each set are refused at enrollment and as probes, by reason. ``clipped``: FNMR
of CFP's frontal pairs by the share of the head that is in the image, at the threshold of ``--fmr``.
``profiles``: FMR of pairs of profiles there. ``second``: how large the second face of LFW's images is, and
whether the largest is the labelled one. ``small``: small faces next to a large one. ``boxes``: faces that the
detector misses in reduced images, given by their box; and boxes that show none.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_subjects
from verifykit._given_faces import PlacedImage, given_faces
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import middle
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.metrics import wilson_interval
from verifykit.modalities.face import FaceDetector
from verifykit.models import load
from verifykit.scoring import penalties, scores_of
from verifykit.types import Image, Sample

EVERY = SampleOptions("all", "warn", max_faces=1000)
FORMER_SHARE = 0.77
SHARE_EDGES = (0.0, 0.70, 0.735, 0.77, 0.80, 1.01)
AREA_EDGES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.7, 1.01)
SMALL_SIDES_PX = (120, 80, 60, 50, 40)
REDUCED_EYES_PX = (14.0, 10.0, 8.0, 6.0)


def interval(count: int, total: int) -> str:
    """Return a share with its interval."""
    low, high = wilson_interval(count, total)
    return f"{count / total:.2%} ({low:.2%} to {high:.2%})"


def images_of(data: Path) -> dict[str, list[Path]]:
    """Return the images of each set."""
    faces = data / "faces"
    return {
        "CFP, frontal": sorted((faces / "cfp").glob("*/frontal_*.jpg")),
        "CFP, profile": sorted((faces / "cfp").glob("*/profile_*.jpg")),
        "LFW, lfw_val": [path for path, _ in read_subjects(data, "lfw_val")],
        "AAF": sorted((faces / "aaf").rglob("*.jpg")),
        "ORL": [path for path, _ in read_subjects(data, "orl")],
    }


def labelled(encoder: Encoder, path: Path) -> Sample | str:
    """Return the face in the middle of an image, or the reason why there is none."""
    loaded = encoder.extractor.load(path)
    try:
        return middle(encoder.extractor.samples(loaded, EVERY), *loaded.size_px)
    except AcquisitionError as error:
        return error.reason


def refused(encoder: Encoder, data: Path, limit: int | None) -> Table:
    """Return how many images of each set are refused in each role, with the reasons."""
    table = Table(title='Labelled faces that quality="strict" refuses; 95 % intervals by image')
    for column in (
        "images",
        "number",
        "at enrollment",
        "as a probe",
        "by the former 0.77",
        "reasons",
    ):
        table.add_column(column)
    for name, paths in images_of(data).items():
        counts, reasons, number = Counter[str](), Counter[str](), 0
        for path in track(paths[:limit], description=name):
            number += 1
            found = labelled(encoder, path)
            if isinstance(found, str):
                counts.update(("enrollment", "probe", "former"))
                reasons[found] += 1
                continue
            at_enrollment = encoder.extractor.refusing(found, "enrollment")
            counts["enrollment"] += bool(at_enrollment)
            counts["probe"] += bool(encoder.extractor.refusing(found, "probe"))
            was_clipped = found.quality["visible_share"] < FORMER_SHARE
            counts["former"] += bool(at_enrollment) or was_clipped
            reasons.update(at_enrollment)
        rates = [interval(counts[role], number) for role in ("enrollment", "probe", "former")]
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        table.add_row(name, str(number), *rates, listed)
    return table


def clipped(encoder: Encoder, data: Path, limit: int | None, fmr: float) -> Table:
    """Return FNMR of CFP's frontal pairs by the less visible share of the two heads."""
    root = data / "faces" / "cfp"
    with (root / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["protocol"] == "FF" and row["same"] == "1"
        ]
    names = sorted({row[side] for row in rows for side in ("path_a", "path_b")})[:limit]
    samples = {name: labelled(encoder, root / name) for name in track(names, description="clipped")}
    kept = {name: sample for name, sample in samples.items() if isinstance(sample, Sample)}
    embeddings = dict(zip(kept, encoder.encode([each.crop for each in kept.values()]), strict=True))
    threshold = encoder.spec.operating_point(fmr).threshold
    shares, failing = [], []
    for row in rows:
        a, b = row["path_a"], row["path_b"]
        if a in kept and b in kept:
            score = scores_of(embeddings[a], embeddings[b][np.newaxis], encoder.spec.cohort)[0]
            shares.append(min(kept[name].quality["visible_share"] for name in (a, b)))
            failing.append(score < threshold)
    return _bins(
        f"FNMR of CFP's frontal pairs at FMR {fmr:g}, threshold {threshold:.3f}",
        "less visible share",
        SHARE_EDGES,
        np.array(shares),
        np.array(failing),
        "FNMR",
    )


def profiles(encoder: Encoder, data: Path, limit: int | None, fmr: float) -> Table:
    """Return the FMR of CFP's non-mated pairs by which of the two are profiles."""
    rows: dict[str, list[Image]] = {}
    people: dict[str, NDArray[np.str_]] = {}
    for kind in ("frontal", "profile"):
        paths = images_of(data)[f"CFP, {kind}"][:limit]
        found = [(path, labelled(encoder, path)) for path in track(paths, description=kind)]
        kept = [(path, sample.crop) for path, sample in found if isinstance(sample, Sample)]
        rows[kind] = [crop for _, crop in kept]
        people[kind] = np.array([path.parent.name for path, _ in kept])
    threshold = encoder.spec.operating_point(fmr).threshold
    embedded = {kind: encoder.encode(crops) for kind, crops in rows.items()}
    lowered = {kind: penalties(encoder.spec.cohort, each) for kind, each in embedded.items()}
    table = Table("pairs", "non-mated pairs", "FMR", title=f"CFP at a requested FMR of {fmr:g}")
    for a, b in (("frontal", "frontal"), ("frontal", "profile"), ("profile", "profile")):
        non_mated = people[a][:, None] != people[b]
        if a == b:
            non_mated &= np.triu(np.ones_like(non_mated), 1)
        scores = embedded[a] @ embedded[b].T - (lowered[a][:, None] + lowered[b]) / 2
        matched = (scores >= threshold)[non_mated]
        table.add_row(f"{a}, {b}", f"{len(matched):,}", f"{matched.mean():.2g}")
    return table


def small(encoder: Encoder, data: Path, limit: int | None) -> Table:
    """Return how often a small portrait next to a large one is found."""
    detector = encoder.extractor.detector
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    paths = [path for path, _ in read_subjects(data, "lfw_val")][: 2 * (limit or 50)]
    table = Table(title="Collages of 1280x960 px: a portrait of 800 px and a small one")
    for column in ("small portrait, px", "collages", "found at 640 px", 'found with "all"'):
        table.add_column(column)
    for side in SMALL_SIDES_PX:
        counts = [0, 0]
        for large, other in zip(track(paths[::2], f"{side} px"), paths[1::2], strict=False):
            image = np.full((960, 1280, 3), 127, np.uint8)
            portrait = load_image(large)[40:210, 40:210]
            image[100:900, 40:840] = cv2.resize(portrait, (800, 800), interpolation=cv2.INTER_CUBIC)
            image[300 : 300 + side, 1000 : 1000 + side] = cv2.resize(
                load_image(other), (side, side), interpolation=cv2.INTER_AREA
            )
            for number, every_size in enumerate((False, True)):
                found = detector.detect_turned(image, every_size=every_size)
                counts[number] += any(face.detection.box_px[0] > 950 for face in found)
        table.add_row(str(side), str(len(paths) // 2), *map(str, counts))
    return table


def second(encoder: Encoder, data: Path, limit: int | None) -> Table:
    """Return how often the largest face is the labelled one, by the share of the second face's area."""
    shares, is_labelled, number = [], [], 0
    for path, _ in track(read_subjects(data, "lfw_train", "lfw_val")[:limit], description="second"):
        number += 1
        loaded = encoder.extractor.load(path)
        try:
            found = encoder.extractor.samples(loaded, EVERY)
        except AcquisitionError:
            continue
        if len(found) > 1:
            areas = [_area(sample) for sample in found]
            shares.append(areas[1] / areas[0])
            is_labelled.append(middle(found, *loaded.size_px) is found[0])
    return _bins(
        f"LFW: {len(shares)} of {number} images show several faces",
        "second over largest area",
        AREA_EDGES,
        np.array(shares),
        np.array(is_labelled),
        "the largest is the labelled face",
    )


def boxes(encoder: Encoder, data: Path, limit: int | None) -> list[Table]:
    """Return how many faces of reduced images are found, without and with their box."""
    detector = encoder.extractor.detector
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    images: list[tuple[Image, Sample]] = []
    for path, _ in read_subjects(data, "lfw_val")[: limit or 400]:
        sample = labelled(encoder, path)
        if isinstance(sample, Sample):
            images.append((load_image(path), sample))
    whole = encoder.encode([sample.crop for _, sample in images])
    table = Table(title="Labelled faces of lfw_val in reduced images")
    for column in (
        "eye distance, px",
        "images",
        "found",
        "found at the box",
        "cosine to the whole image",
    ):
        table.add_column(column)
    for eyes_px in REDUCED_EYES_PX:
        found, cosines = 0, []
        for row, (image, sample) in zip(whole, track(images, f"{eyes_px:g} px"), strict=True):
            scale = eyes_px / sample.quality["eye_distance_px"]
            small = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
            box_px = tuple(scale * value for value in _box(sample))
            found += any(_shares(face.box_px, box_px) for face in detector.detect(small))
            given = PlacedImage(small, given_faces(box_px))
            try:
                (near,) = encoder.extractor.samples(given, EVERY)
            except AcquisitionError:
                continue
            cosines.append(float(encoder.encode([near.crop])[0] @ row))
        table.add_row(
            f"{eyes_px:g}",
            str(len(images)),
            str(found),
            str(len(cosines)),
            f"{np.mean(cosines):.3f}",
        )
    return [table, _empty_boxes(detector, [image for image, _ in images])]


def _empty_boxes(detector: FaceDetector, images: Sequence[Image]) -> Table:
    """Return how often a face is found at a box that shows none."""
    rng, tried, found = np.random.default_rng(0), 0, 0
    for image in track(images, description="without a face"):
        faces = [face.box_px for face in detector.detect(image)]
        for _ in range(4):
            side = rng.uniform(30, 90)
            corner = rng.uniform(0, np.array(image.shape[1::-1]) - side)
            box_px = (float(corner[0]), float(corner[1]), side, side)
            if not any(_shares(face, box_px, 0.0) for face in faces):
                tried += 1
                found += detector.detect_near(image, box_px) is not None
    table = Table(
        "boxes", "a face is found", title="Boxes of lfw_val in which the detector finds no face"
    )
    table.add_row(str(tried), interval(found, tried))
    return table


def _shares(a: Sequence[float], b: Sequence[float], least: float = 0.3) -> bool:
    """Return whether two boxes share more than this, intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both > least * (a[2] * a[3] + b[2] * b[3] - both)


def _box(sample: Sample) -> tuple[float, float, float, float]:
    assert sample.detection is not None  # noqa: S101 - of faces
    return sample.detection.box_px


def _area(sample: Sample) -> float:
    _, _, width, height = _box(sample)
    return width * height


def _bins(
    title: str,
    measure: str,
    edges: Sequence[float],
    values: NDArray[np.float64],
    outcomes: NDArray[np.bool_],
    outcome: str,
) -> Table:
    table = Table(measure, "number", outcome, title=title)
    for low, high in itertools.pairwise(edges):
        inside = outcomes[(values >= low) & (values < high)]
        if len(inside):
            rate = interval(int(inside.sum()), len(inside))
            table.add_row(f"{low:g} to {min(high, 1.0):g}", str(len(inside)), rate)
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.gates", description=__doc__)
    add_data_argument(parser)
    names = ("refused", "clipped", "profiles", "second", "small", "boxes")
    parser.add_argument("--only", choices=names, nargs="+", default=names, metavar="PART")
    parser.add_argument("--limit", type=int, help="use so many images of each set")
    parser.add_argument("--fmr", type=float, default=1e-4)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    encoder = Encoder.open(load("face"), threads=1)
    console = Console(width=160)
    data, limit = options.data, options.limit
    if "refused" in options.only:
        console.print(refused(encoder, data, limit))
    if "clipped" in options.only:
        console.print(clipped(encoder, data, limit, options.fmr))
    if "profiles" in options.only:
        console.print(profiles(encoder, data, limit, options.fmr))
    if "small" in options.only:
        console.print(small(encoder, data, limit))
    if "second" in options.only:
        console.print(second(encoder, data, limit))
    if "boxes" in options.only:
        for table in boxes(encoder, data, limit):
            console.print(table)


if __name__ == "__main__":
    main()
