"""Fit and measure the models of ``verifykit.modalities.face.covered``.

``python -m benchmarks.covered --data PATH [--crops FOLDER] [--write FILE]``

Every second subject of LFW's training people, of CFP and of AAF fits; the others and ORL, in grey, measure.
Covers are drawn (``benchmarks.covers``). ``--crops`` keeps the crops, ``--write`` writes the constants.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.covers import COVERS, OPEN
from benchmarks.face.data import add_data_argument
from verifykit.encoder import Encoder
from verifykit.image import load_image
from verifykit.metrics import wilson_interval
from verifykit.modalities.face import FaceDetector
from verifykit.modalities.face.covered import measure_covered, measure_regions
from verifykit.modalities.face.crop import crop_five_point
from verifykit.models import load
from verifykit.spec import FivePointCrop
from verifykit.types import Detection

# Real sunglasses and deeply tinted glasses, found by eye among the highest scores.
REAL_COVERS = frozenset(
    [
        *(f"cfp/{name}.jpg" for name in (
            "003/frontal_03", "004/frontal_05", "011/frontal_01", "011/frontal_06", "083/frontal_05",
            "113/frontal_06", "120/frontal_01", "120/frontal_02", "160/frontal_02", "162/frontal_05",
            "162/frontal_06", "175/frontal_06", "186/frontal_04", "192/frontal_05", "193/frontal_05",
            "212/frontal_05", "212/frontal_06", "233/frontal_03", "240/frontal_04", "240/frontal_05",
            "249/frontal_05",
        )),
        *(f"lfw_train/{name[:-5]}/{name}.jpg" for name in (
            "Claudia_Pechstein_0005", "Elton_John_0001", "Elton_John_0002", "Heath_Ledger_0002",
            "Keanu_Reeves_0005", "Kevin_Costner_0002", "Meryl_Streep_0003", "Mick_Jagger_0002",
            "Patricia_Clarkson_0004", "Pedro_Almodovar_0003", "Sepp_Blatter_0001", "Sharon_Stone_0001",
            "Susan_Sarandon_0004",
        )),
    ]
)  # fmt: skip
# Pattern of the images; how many of a subject are used, and how many of these are covered.
SETS = {
    "lfw_train": ("*/*.jpg", 5, 2),
    "cfp": ("*/frontal_*.jpg", 6, 1),
    "aaf": ("**/*.jpg", 1, 0),
    "orl": ("*/*.pgm", 10, 2),
}
# What each model is to find, and the covers of other parts, which it need not tell from bare faces.
MODELS = {
    "covered_eyes": (("sunglasses", "real"), ("mask", "scarf", "hand")),
    "covered_mouth": (("mask", "scarf"), ("sunglasses", "real", "hand")),
    "covered_hand": (("hand",), ("sunglasses", "real", "mask", "scarf")),
}
# Share of the uncovered faces that each model may call covered, where it is fitted.
FALSE_ALARMS = {"covered_eyes": 0.003, "covered_mouth": 0.0005, "covered_hand": 0.002}
UNCOVERED = ("bare", *OPEN)
TERMS = 28
_GREY_WEIGHT = 0.5


@dataclass(frozen=True)
class Faces:
    """Crops with what covers each, and their subjects."""

    crops: NDArray[np.uint8]
    kinds: NDArray[np.str_]
    subjects: NDArray[np.str_]
    missed: Mapping[str, int]

    def grey(self) -> Faces:
        """Return the same crops in grey."""
        crops = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in self.crops]
        return Faces(
            np.repeat(np.stack(crops)[..., None], 3, axis=-1),
            self.kinds,
            self.subjects,
            self.missed,
        )

    def fits(self) -> NDArray[np.bool_]:
        """Return which crops are of subjects that fit."""
        return np.isin(self.subjects, np.unique(self.subjects)[::2])

    def measures(self) -> NDArray[np.float64]:
        """Return (N, M) measures of the regions."""
        return np.array([list(measure_regions(crop).values()) for crop in self.crops])


def read_faces(data: Path, name: str, cache: Path | None) -> Faces:
    """Return the crops of a set, from the cache if it has them."""
    path = None if cache is None else cache / f"crops_{name}.npz"
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as file:
            missed = dict(zip(file["missed"].tolist(), file["misses"].tolist(), strict=True))
            return Faces(file["crops"], file["kinds"], file["subjects"], missed)
    faces = _draw(data / "faces" / name, name)
    if path is not None:
        np.savez(
            path,
            crops=faces.crops,
            kinds=faces.kinds,
            subjects=faces.subjects,
            missed=np.array(list(faces.missed), dtype=str),
            misses=np.array(list(faces.missed.values()), dtype=int),
        )
    return faces


def _draw(folder: Path, name: str) -> Faces:
    extractor = Encoder.open(load("face"), threads=2).extractor
    detector, spec = extractor.detector, extractor.spec
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    assert isinstance(spec, FivePointCrop)  # noqa: S101 - of the face model
    pattern, used, covered = SETS[name]
    rng, seen = np.random.default_rng(0), Counter[str]()
    crops, kinds, subjects, missed = [], [], [], Counter[str]()
    for path in track(sorted(folder.glob(pattern)), description=name):
        subject = path.stem if name == "aaf" else path.parent.name
        seen[subject] += 1
        image = load_image(path)
        face = _nearest(detector.detect(image), image.shape[1] / 2, image.shape[0] / 2)
        if seen[subject] > used or face is None:
            continue
        is_real = path.relative_to(folder.parent).as_posix() in REAL_COVERS
        drawn = {"real" if is_real else "bare": image}
        if seen[subject] <= covered:
            some = list(OPEN)[rng.integers(len(OPEN))]
            for kind, draw in {**COVERS, some: OPEN[some]}.items():
                drawn[kind] = draw(image, face, rng)
        left, top, width, height = face.box_px
        for kind, shown in drawn.items():
            found = _nearest(detector.detect(shown), left + width / 2, top + height / 2)
            if found is None:
                missed[kind] += 1
                continue
            crops.append(crop_five_point(shown, spec, found.landmarks_px))
            kinds.append(kind)
            subjects.append(subject)
    return Faces(np.stack(crops), np.array(kinds), np.array(subjects), missed)


def _nearest(faces: Sequence[Detection], x: float, y: float) -> Detection | None:
    def distance(face: Detection) -> float:
        left, top, width, height = face.box_px
        return float(np.hypot(left + width / 2 - x, top + height / 2 - y))

    return min(faces, key=distance, default=None)


def fit_logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression with a quadratic penalty, the intercept last."""
    x = np.column_stack([x, np.ones(len(x))])
    fitted, penalty = np.zeros(x.shape[1]), np.append(np.ones(x.shape[1] - 1), 1e-6)
    for _ in range(30):  # Newton's method
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ fitted, -30, 30)))
        curvature = (x.T * (weights * p * (1 - p) + 1e-9)) @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, x.T @ (weights * (p - y)) + penalty * fitted)
        fitted -= step
        if np.abs(step).max() < 1e-6:
            break
    return fitted


def fit(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the measures that a model keeps, and its weights; the smallest are left out step by step."""
    kept = np.arange(x.shape[1])
    fitted = fit_logistic(x, y, weights)
    while len(kept) > TERMS:
        count = len(kept) - max(1, (len(kept) - TERMS) // 4)
        kept = kept[np.sort(np.argsort(-np.abs(fitted[:-1]))[:count])]
        fitted = fit_logistic(x[:, kept], y, weights)
    return kept, fitted


def fit_models(faces: Mapping[str, Faces]) -> str:
    """Return the source of the fitted constants."""
    parts = [faces[name] for name in ("lfw_train", "cfp", "aaf")] + [faces["lfw_train"].grey()]
    fits = np.concatenate([part.fits() for part in parts])
    x = np.concatenate([part.measures() for part in parts])[fits]
    kinds = np.concatenate([part.kinds for part in parts])[fits]
    weights = np.repeat([1, 1, 1, _GREY_WEIGHT], [len(part.kinds) for part in parts])[fits]
    names = list(measure_regions(parts[0].crops[0]))
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)  # one is constant
    deviations = np.clip((x - mean) / deviation, -4, 4)
    lines = [
        '"""Constants of the models of covered faces, by ``python -m benchmarks.covered --write``."""',
        "",
        "# Of each model the intercept, and for each measure its mean, deviation and weight.",
        "MODELS: dict[str, tuple[float, dict[str, tuple[float, float, float]]]] = {",
    ]
    for model, (found, ignored) in MODELS.items():
        used = ~np.isin(kinds, ignored)
        kept, fitted = fit(
            deviations[used], np.isin(kinds[used], found).astype(float), weights[used]
        )
        logits = deviations[:, kept] @ fitted[:-1] + fitted[-1]
        limit = np.quantile(logits[np.isin(kinds, UNCOVERED)], 1 - FALSE_ALARMS[model])
        lines.append(f'    "{model}": (')
        lines += [f"        {fitted[-1] - limit:.4f},", "        {"]
        lines += [
            f'            "{names[i]}": ({mean[i]:.4f}, {deviation[i]:.4f}, {weight:.4f}),'
            for i, weight in zip(kept, fitted[:-1], strict=True)
        ]
        lines += ["        },", "    ),"]
    return "\n".join([*lines, "}", ""])


def report(name: str, faces: Faces, chosen: NDArray[np.bool_]) -> None:
    """Print how many faces of each kind are called covered, with the interval over subjects."""
    for kind in (*UNCOVERED, "real", *COVERS):
        of_kind = chosen & (faces.kinds == kind)
        if not of_kind.any():
            continue
        covered = np.array(
            [max(measure_covered(crop).values()) > 0.5 for crop in faces.crops[of_kind]]
        )
        subjects = faces.subjects[of_kind]
        people = len(np.unique(subjects))
        # As many independent trials as subjects: their images are alike.
        low, high = wilson_interval(round(covered.mean() * people), people)
        print(
            f"{name:16} {kind:10} {covered.sum():5} of {len(covered):5} covered: {covered.mean():6.1%} "
            f"({low:.1%} to {high:.1%}, {people} subjects), no face {faces.missed.get(kind, 0)}"
        )


def main() -> None:
    """Fit, or measure the constants as they are."""
    parser = argparse.ArgumentParser(prog="benchmarks.covered", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--crops", type=Path, help="folder in which crops are kept")
    parser.add_argument("--write", type=Path, help="fit, and write the constants to this file")
    options = parser.parse_args()
    if options.crops:
        options.crops.mkdir(parents=True, exist_ok=True)
    faces = {name: read_faces(options.data, name, options.crops) for name in SETS}
    if options.write is not None:
        options.write.write_text(fit_models(faces), encoding="utf-8")
        print(f"written: {options.write}; run again without --write to measure")
        return
    for name in ("lfw_train", "cfp", "aaf"):
        report(name, faces[name], ~faces[name].fits())
    report("lfw_train, grey", faces["lfw_train"].grey(), ~faces["lfw_train"].fits())
    report("orl, grey", faces["orl"].grey(), np.ones(len(faces["orl"].kinds), bool))


if __name__ == "__main__":
    main()
