"""Fit and measure ``verifykit.modalities.face.profile``, the sign of a head in profile.

``python -m benchmarks.profiles --data PATH [--write FILE]``

The positives are CFP's profiles, the negatives its frontal images and LFW, each as it is, cut as tightly as
CFP's images are, and rolled. Every second subject of CFP and LFW's training people fit; the others of CFP,
``lfw_val`` and AAF measure. ``--write`` writes the constants.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.covered import fit_logistic
from benchmarks.face.data import add_data_argument
from verifykit.encoder import Encoder
from verifykit.image import load_image
from verifykit.metrics import wilson_interval
from verifykit.modalities.face import FaceDetector
from verifykit.modalities.face.profile import measure_profile, profile_terms
from verifykit.modalities.face.quality import yaw_deg
from verifykit.models import load
from verifykit.types import Detection, Image

FALSE_ALARMS = 0.01  # of LFW's images, where it is fitted
TURNED_YAW_DEG, TURNED_WEIGHT = 20.0, 3.0
ROLLS_DEG = (-25.0, 25.0)
# Shares of the box between it and the left, top, right and bottom of CFP's frontal images: 5 to 95 %.
MARGINS = ((0.09, 0.27), (-0.02, 0.19), (0.09, 0.27), (0.03, 0.16))


@dataclass(frozen=True)
class Heads:
    """The faces of a set: what is measured, what the points say, and whether each is a profile."""

    faces: list[Detection]
    subjects: NDArray[np.str_]
    is_profile: NDArray[np.bool_]

    def terms(self) -> NDArray[np.float64]:
        """Return (N, T) terms of the model."""
        return np.array([profile_terms(face) for face in self.faces])

    def yaws(self) -> NDArray[np.float64]:
        """Return (N,) absolute yaws in degrees."""
        return np.array([abs(yaw_deg(face.landmarks_px)) for face in self.faces])

    def found(self) -> NDArray[np.bool_]:
        """Return (N,) whether each is called a profile."""
        pairs = zip(self.faces, self.yaws(), strict=True)
        return np.array([measure_profile(face, yaw) > 0.5 for face, yaw in pairs])


def _cut(image: Image, face: Detection, rng: np.random.Generator) -> Image:
    """Return the image cut as tightly around a face as CFP's are."""
    left, top, width, height = face.box_px
    margins = [rng.uniform(*bounds) for bounds in MARGINS]
    rows = slice(max(0, int(top - margins[1] * height)), int(top + (1 + margins[3]) * height))
    columns = slice(max(0, int(left - margins[0] * width)), int(left + (1 + margins[2]) * width))
    return np.ascontiguousarray(image[rows, columns])


def _rolled(image: Image, face: Detection, degrees: float) -> Image:
    left, top, width, height = face.box_px
    centre = (left + width / 2, top + height / 2)
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1]), np.uint8)


def read_heads(detector: FaceDetector, paths: Sequence[Path], form: str) -> Heads:
    """Return the face in the middle of each image, ``"whole"``, ``"cut"`` or ``"rolled"``."""
    rng = np.random.default_rng(0)
    faces, subjects, profiles = [], [], []
    for number, path in enumerate(track(paths, description=form)):
        image = load_image(path)
        face = _middle(detector.detect(image), image)
        if face is not None and form != "whole":
            image = (
                _cut(image, face, rng)
                if form == "cut"
                else _rolled(image, face, ROLLS_DEG[number % len(ROLLS_DEG)])
            )
            face = _middle(detector.detect(image), image)
        if face is not None:
            faces.append(face)
            subjects.append(path.stem if "aaf" in path.parts else path.parent.name)
            profiles.append(path.name.startswith("profile"))
    return Heads(faces, np.array(subjects), np.array(profiles))


def _middle(faces: Sequence[Detection], image: Image) -> Detection | None:
    def off(face: Detection) -> float:
        left, top, width, height = face.box_px
        return float(
            np.hypot(left + (width - image.shape[1]) / 2, top + (height - image.shape[0]) / 2)
        )

    return min(faces, key=off, default=None)


def fit(cfp: Heads, lfw: Sequence[Heads]) -> str:
    """Return the source of the fitted constants."""
    fits = np.isin(cfp.subjects, np.unique(cfp.subjects)[::2])
    terms = np.vstack([cfp.terms()[fits], *(part.terms() for part in lfw)])
    yaws = np.concatenate([part.yaws() for part in lfw])
    is_profile = np.append(cfp.is_profile[fits], np.zeros(len(yaws), bool))
    turned = np.where(yaws > TURNED_YAW_DEG, TURNED_WEIGHT, 1.0)
    weights = np.append(np.ones(fits.sum()), turned)
    mean, deviation = terms.mean(axis=0), terms.std(axis=0)
    deviations = np.clip((terms - mean) / deviation, -4, 4)
    fitted = fit_logistic(deviations, is_profile.astype(float), weights)
    logits = deviations @ fitted[:-1] + fitted[-1]
    limit = np.quantile(logits[fits.sum() :], 1 - FALSE_ALARMS)
    rows = [
        f"    ({m:.3f}, {d:.3f}, {w:.4f}),"
        for m, d, w in zip(mean, deviation, fitted, strict=False)
    ]
    title = (
        '"""Constants of the sign of a profile, by ``python -m benchmarks.profiles --write``."""'
    )
    lines = [title, "", "# Of each term its mean, deviation and weight."]
    lines += [f"INTERCEPT = {fitted[-1] - limit:.4f}", "TERMS = (", *rows, ")", ""]
    return "\n".join(lines)


def rows_of(name: str, heads: Heads, chosen: NDArray[np.bool_]) -> list[tuple[str, ...]]:
    """Return table rows of how many are called profiles, by the yaw that the points give."""
    found, yaws = heads.found(), heads.yaws()
    rows: list[tuple[str, ...]] = []
    for low, high in ((0, 91), (0, 30), (30, 45), (45, 91)):
        part = chosen & (yaws >= low) & (yaws < high)
        if not part.any():
            continue
        people = len(np.unique(heads.subjects[part]))
        rate = found[part].mean()
        # As many independent trials as subjects: their images are alike.
        interval = wilson_interval(round(rate * people), people)
        bounds = "all" if high - low == 91 else f"{low} to {high}"
        text = f"{rate:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
        by_yaw = f"{(yaws[part] > 50).mean():.1%}"
        rows.append((name, bounds, f"{part.sum()} of {people} people", text, by_yaw))
    return rows


def main() -> None:
    """Fit, or measure the constants as they are."""
    parser = argparse.ArgumentParser(prog="benchmarks.profiles", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--limit", type=int, help="use so many images of each set")
    parser.add_argument("--write", type=Path, help="fit, and write the constants to this file")
    options = parser.parse_args()
    detector = Encoder.open(load("face"), threads=2).extractor.detector
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    faces = options.data / "faces"

    def read(name: str, form: str = "whole") -> Heads:
        return read_heads(detector, sorted((faces / name).rglob("*.jpg"))[: options.limit], form)

    cfp = read("cfp")
    if options.write is not None:
        source = fit(cfp, [read("lfw_train", form) for form in ("whole", "cut", "rolled")])
        options.write.write_text(source, encoding="utf-8")
        return
    table = Table(title="Called a profile, by the absolute yaw of the five points, degrees")
    for column in ("images", "yaw", "number", "called a profile", "yaw over 50"):
        table.add_column(column)
    others = ~np.isin(cfp.subjects, np.unique(cfp.subjects)[::2])
    parts = [("CFP, profile", cfp, others & cfp.is_profile)]
    parts += [("CFP, frontal", cfp, others & ~cfp.is_profile)]
    for name in ("lfw_val", "aaf"):
        for form in ("whole", "cut", "rolled"):
            heads = read(name, form)
            parts.append((f"{name}, {form}", heads, np.ones(len(heads.faces), bool)))
    terms = np.median(parts[2][1].terms(), axis=0)  # lfw_val, whole
    width, height = np.exp(terms[12:])
    for part in parts:
        for row in rows_of(*part):
            table.add_row(*row)
    Console(width=130).print(table)
    print(
        f"the box of lfw_val in the aligned crop, medians: its middle {terms[11]:.1f} px from the top, "
        f"{width:.1f} px wide and {height:.1f} px high"
    )


if __name__ == "__main__":
    main()
