"""Measure how the false non-match rate rises with face quality degradation, to set quality limits.

``python -m benchmarks.quality --data PATH``

One image of each subject is the reference, another one the probe, degraded step by step; pose is measured on
the images as they are. The threshold is that of FMR 1e-4 over the non-mated pairs of the undegraded images of
the same run. ``refused`` is the share that the default limits refuse.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_subjects
from verifykit import models
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import load_image
from verifykit.metrics import threshold_at_fmr
from verifykit.types import Embeddings, Image, Sample

FMR = 1e-4
WHITE_ELECTRONS = 1000  # full well of the simulated sensor: shot noise of a small pixel


@dataclass(frozen=True)
class Degradation:
    """A degradation of an image, in steps.

    Attributes:
        name: Description.
        measure: The quality measure that should detect it.
        levels: Strengths, increasing.
        apply: Function of image, clean sample and level that returns the degraded image.
    """

    name: str
    measure: str
    levels: tuple[float, ...]
    apply: Callable[[Image, Sample, float], Image]


def defocus(image: Image, sample: Sample, sigma: float) -> Image:
    """Blur by a Gaussian with sigma in hundredths of the eye distance."""
    sigma_px = sigma / 100 * sample.quality["eye_distance_px"]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


def motion_blur(image: Image, sample: Sample, length: float) -> Image:
    """Blur by a sideways motion, in hundredths of the eye distance."""
    length_px = max(1, round(length / 100 * sample.quality["eye_distance_px"]))
    return np.asarray(cv2.blur(image, (length_px, 1)), np.uint8)


def reduce_size(image: Image, sample: Sample, eye_distance_px: float) -> Image:
    """Scale down to an eye distance in pixels."""
    scale = eye_distance_px / sample.quality["eye_distance_px"]
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def change_exposure(image: Image, _: Sample, stops: float) -> Image:
    """Change the exposure by f-stops in linear light, with photon noise, clipped at white."""
    rng = np.random.default_rng(image.size + int(image[0, 0, 0]))
    electrons = (image / 255.0) ** 2.2 * WHITE_ELECTRONS * 2.0**stops
    linear = rng.poisson(electrons) / WHITE_ELECTRONS
    encoded = np.minimum(linear, 1.0) ** (1 / 2.2) * 255
    return np.asarray(encoded.round(), np.uint8)


def clip(image: Image, sample: Sample, kept: float) -> Image:
    """Cut off one of the four sides, so that this share of the face box is left."""
    left, top, width, height = (round(value) for value in _box(sample))
    right, bottom = left + round(width * kept), top + round(height * kept)
    lost_x, lost_y = left + width - right, top + height - bottom
    sides = (
        image[:, max(left + lost_x, 0) :],
        image[:, :right],
        image[max(top + lost_y, 0) :],
        image[:bottom],
    )
    side = int(image[0, 0].sum() + image[-1, -1].sum()) % 4
    return np.ascontiguousarray(sides[side])


def _box(sample: Sample) -> tuple[float, float, float, float]:
    if sample.detection is None:
        raise ValueError("the sample has no detection")
    return sample.detection.box_px


DEGRADATIONS = (
    Degradation(
        "focus, sigma in % of eye distance", "sharpness", (2, 3, 4, 5, 6, 7, 9, 12), defocus
    ),
    Degradation("motion, % of eye distance", "sharpness", (10, 15, 20, 25, 30, 40), motion_blur),
    Degradation(
        "eye distance px", "eye_distance_px", (24, 18, 16, 14, 12, 11, 10, 9, 8), reduce_size
    ),
    Degradation("darker, f-stops", "brightness", (-2, -3, -4, -5, -6, -7, -8), change_exposure),
    Degradation("brighter, f-stops", "bright_share", (1, 1.5, 2, 2.5, 3, 3.5, 4), change_exposure),
    Degradation("share of the face box left", "visible_share", (0.9, 0.8, 0.7, 0.6, 0.5), clip),
)


class DegradedProbes:
    """References, clean probes and the threshold, for measuring degraded probes."""

    def __init__(self, encoder: Encoder, pairs: Sequence[tuple[Path, Path]]) -> None:
        self.encoder = encoder
        references = [largest(encoder.extractor, load_image(path)) for path, _ in pairs]
        probes = [largest(encoder.extractor, load_image(path)) for _, path in pairs]
        both = [i for i, pair in enumerate(zip(references, probes, strict=True)) if all(pair)]
        self.images = [load_image(pairs[i][1]) for i in both]
        self.samples = [sample for i in both if (sample := probes[i])]
        self.references = encode(encoder, [references[i] for i in both])
        scores = self.references @ encode(encoder, self.samples).T
        non_mated = scores[~np.eye(len(both), dtype=bool)]
        self.threshold = threshold_at_fmr(non_mated, FMR)
        self.non_mated_count = len(non_mated)
        self.clean_scores = np.diag(scores)
        self._outcomes: dict[str, list[tuple[float, bool]]] = defaultdict(list)

    def row(self, degradation: Degradation, level: float) -> tuple[str, ...]:
        """Return the table row of one level of a degradation."""
        found, rows = [], []
        for number, (image, clean) in enumerate(zip(self.images, self.samples, strict=True)):
            if sample := largest(self.encoder.extractor, degradation.apply(image, clean, level)):
                found.append(sample)
                rows.append(number)
        embeddings = encode(self.encoder, found)
        scores = (self.references[rows] * embeddings).sum(axis=1)
        values = [sample.quality[degradation.measure] for sample in found]
        self._outcomes[degradation.name] += zip(values, scores < self.threshold, strict=True)
        return (f"{level:g}", *self._columns(degradation.measure, found, scores))

    def by_measure(self, degradation: Degradation) -> Table:
        """Return FNMR by decile of the measure over all degraded probes."""
        values, failing = map(np.array, zip(*self._outcomes[degradation.name], strict=True))
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 11)).round(3)).tolist()
        edges[-1] += 0.001
        return bins(degradation.measure, values, edges, failing)

    def clean_row(self, measure: str) -> tuple[str, ...]:
        """Return the table row of the undegraded probes."""
        return ("none", *self._columns(measure, self.samples, self.clean_scores))

    def _columns(
        self, measure: str, found: Sequence[Sample], scores: NDArray[np.float32]
    ) -> tuple[str, ...]:
        if not found:
            return ("-", "100.0%", *"----")
        values = [sample.quality[measure] for sample in found]
        passing = np.array([not sample.reasons for sample in found])
        failing = scores < self.threshold
        return (
            "/".join(f"{value:.3g}" for value in np.percentile(values, (5, 50, 95))),
            f"{1 - len(found) / len(self.images):.1%}",
            f"{scores.mean():.3f}",
            f"{failing.mean():.1%}",
            f"{1 - passing.mean():.1%}",
            f"{failing[passing].mean():.1%}" if passing.any() else "-",
        )


def largest(extractor: SampleExtractor, image: Image) -> Sample | None:
    """Return the largest face, whatever its quality; None without a face."""
    try:
        return extractor.samples(image, SampleOptions("largest", "warn"))[0]
    except AcquisitionError:
        return None


def encode(encoder: Encoder, samples: Sequence[Sample | None]) -> Embeddings:
    """Embed the crops of samples."""
    return encoder.encode([sample.crop for sample in samples if sample])


def pose_tables(
    encoder: Encoder, images: Sequence[tuple[Path, str]], threshold: float
) -> list[Table]:
    """Return FNMR by yaw and pitch of the probe, against the most frontal other image of its subject."""
    samples_of: dict[str, list[Sample]] = defaultdict(list)
    reasons: Counter[str] = Counter()
    for path, subject in track(images, description="pose"):
        if sample := largest(encoder.extractor, load_image(path)):
            samples_of[subject].append(sample)
            reasons.update(sample.reasons or ["(accepted)"])
        else:
            reasons["no_face"] += 1
    scores, yaws, pitches = [], [], []
    for samples in samples_of.values():
        frontal = min(range(len(samples)), key=lambda i: abs(samples[i].quality["yaw_deg"]))
        embeddings = encode(encoder, samples)
        for number, sample in enumerate(samples):
            if number != frontal:
                scores.append(float(embeddings[number] @ embeddings[frontal]))
                yaws.append(abs(sample.quality["yaw_deg"]))
                pitches.append(sample.quality["pitch_deg"])
    failing = np.array(scores) < threshold
    yaw = bins("|yaw|, degrees", np.array(yaws), (0, 10, 20, 30, 40, 50, 90), failing)
    edges = (-90, -25, -20, -15, -10, -5, 0, 5, 10, 90)
    pitch = bins("pitch, degrees", np.array(pitches), edges, failing)
    every = [sample for samples in samples_of.values() for sample in samples]
    return [yaw, pitch, ranges(every), refusals("lfw_train, undegraded", reasons)]


def ranges(samples: Sequence[Sample]) -> Table:
    """Return percentiles of each measure over all undegraded images."""
    table = Table("measure", "minimum", "1 %", "median", "99 %", "maximum", title="lfw_train")
    for name in samples[0].quality:
        values = [sample.quality[name] for sample in samples]
        table.add_row(
            name, *(f"{value:.3g}" for value in np.percentile(values, (0, 1, 50, 99, 100)))
        )
    return table


def bins(
    name: str, values: NDArray[np.float64], edges: Sequence[float], failing: NDArray[np.bool_]
) -> Table:
    """Return FNMR in each range of a measure."""
    table = Table(name, "mated pairs", "non-matches", "FNMR", title=f"FNMR by {name}")
    for low, high in itertools.pairwise(edges):
        inside = failing[(values >= low) & (values < high)]
        if len(inside):
            rate = f"{inside.mean():.1%}"
            table.add_row(f"{low:.3g} .. {high:.3g}", str(len(inside)), str(inside.sum()), rate)
    return table


def refusals(name: str, reasons: Counter[str]) -> Table:
    """Return the number of images by refusal reason."""
    table = Table("reason", "images", title=name)
    for reason, count in reasons.most_common():
        table.add_row(reason, str(count))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--people", type=int, default=250, help="number of subjects to degrade")
    parser.add_argument("--only", metavar="MEASURE", help="only the degradations of this measure")
    arguments = parser.parse_args()
    console = Console(width=130)
    cv2.setNumThreads(2)
    encoder = Encoder.open(models.load("face"), threads=2)

    images = read_subjects(arguments.data, "lfw_train")
    paths_of: dict[str, list[Path]] = defaultdict(list)
    for path, subject in images:
        paths_of[subject].append(path)
    pairs = [(paths[0], paths[1]) for paths in paths_of.values() if len(paths) > 1]
    probes = DegradedProbes(encoder, pairs[: arguments.people])
    console.print(
        f"{len(probes.images)} mated pairs; threshold {probes.threshold:.4f} at FMR {FMR:g} over "
        f"{probes.non_mated_count} non-mated pairs; limits {encoder.extractor.checks[0].limits}"
    )
    chosen = [each for each in DEGRADATIONS if arguments.only in (None, each.measure)]
    for degradation in chosen:
        table = Table(title=degradation.name)
        measure = f"{degradation.measure} 5/50/95 %"
        for column in ("level", measure, "no face", "score", "FNMR", "refused", "FNMR of the rest"):
            table.add_column(column, justify="right")
        table.add_row(*probes.clean_row(degradation.measure))
        for level in track(degradation.levels, description=degradation.name):
            table.add_row(*probes.row(degradation, level))
        console.print(table)
        console.print(probes.by_measure(degradation))
    if arguments.only:
        return
    for table in pose_tables(encoder, images, probes.threshold):
        console.print(table)
    reasons: Counter[str] = Counter()
    for path, _ in track(read_subjects(arguments.data, "lfw_val"), description="lfw_val"):
        sample = largest(encoder.extractor, load_image(path))
        reasons.update(["no_face"] if sample is None else sample.reasons or ["(accepted)"])
    console.print(refusals("lfw_val, undegraded: other subjects", reasons))


if __name__ == "__main__":
    main()
