"""Reports over random scores: what an evaluation would find, with a plain Wilson interval."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from verifykit.evaluation.results import (
    AttackResult,
    Det,
    EvaluationReport,
    Failure,
    Folds,
    HardestPair,
    Histogram,
    Interval,
    ModelResult,
    OpenSetResult,
    Rate,
    RateAtFmr,
    Subgroup,
)
from verifykit.metrics import det_curve, equal_error_rate, threshold_at_fmr
from verifykit.spec import Attack

Scores = NDArray[np.float64]

NASTY = "<script>alert('a')</script> \"b\" & $c$ \u2028\u7530\u4e2d"
ASKED = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def rate(errors: int, trials: int) -> Rate:
    """Wilson's interval with 95 % confidence, the rule of three where nothing went wrong."""
    share = errors / trials
    if errors == 0:
        return Rate(0.0, 0.0, min(1.0, 3 / trials), 0, trials)
    z = 1.96
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    half /= 1 + z * z / trials
    return Rate(
        share, max(0.0, float(middle - half)), min(1.0, float(middle + half)), errors, trials
    )


def attack_result(attack: Attack, mated: Scores, non_mated: Scores) -> AttackResult:
    curve = det_curve(mated, non_mated)
    keep = np.unique(np.linspace(0, len(curve.fmr) - 2, 400).astype(int))
    keep = keep[curve.fmr[keep] > 0]
    rates = [rate(round(curve.fnmr[at] * len(mated)), len(mated)) for at in keep]
    supported = [fmr for fmr in ASKED if len(non_mated) >= 3 / fmr]
    equal = equal_error_rate(mated, non_mated)
    edges = np.linspace(-0.4, 1.0, 71)
    spread = np.sqrt((mated.var() + non_mated.var()) / 2)
    return AttackResult(
        attack,
        len(mated),
        len(non_mated),
        Interval(equal.eer, 0.8 * equal.eer, 1.25 * equal.eer),
        equal.threshold,
        float((mated.mean() - non_mated.mean()) / spread),
        tuple(_rate_at(fmr, mated, non_mated) for fmr in supported),
        tuple(fmr for fmr in ASKED if fmr not in supported),
        Det(
            tuple(curve.thresholds[keep].tolist()),
            tuple(curve.fmr[keep].tolist()),
            tuple(curve.fnmr[keep].tolist()),
            tuple(one.low for one in rates),
            tuple(one.high for one in rates),
        ),
        Histogram(
            tuple(edges.tolist()),
            tuple(np.histogram(mated, edges)[0].tolist()),
            tuple(np.histogram(non_mated, edges)[0].tolist()),
        ),
    )


def _rate_at(fmr: float, mated: Scores, non_mated: Scores) -> RateAtFmr:
    threshold = threshold_at_fmr(non_mated, fmr)
    return RateAtFmr(
        fmr,
        threshold,
        rate(int((non_mated >= threshold).sum()), len(non_mated)),
        rate(int((mated < threshold).sum()), len(mated)),
    )


def model_result(
    name: str, seed: int = 0, *, skilled: bool = True, people: bool = True, modality: str = "face"
) -> ModelResult:
    """A model that is the better the lower the seed; subgroups, folds and searches with ``people``."""
    random = np.random.default_rng(seed)
    mated = np.clip(random.normal(0.62 - 0.05 * seed, 0.13, 6000), -1, 1)
    non_mated = np.clip(random.normal(0.02, 0.1, 40_000), -1, 1)
    attacks = [attack_result("random_forgery", mated, non_mated)]
    if skilled:
        forged = np.clip(random.normal(0.3, 0.12, 900), -1, 1)
        attacks.append(attack_result("skilled_forgery", mated[:1500], forged))
    result = ModelResult(
        model=f"models/{name}.onnx",
        name=name,
        digest=f"{seed:02x}" + "3b9f" * 15 + "ab",
        modality=modality,
        licence="Apache-2.0",
        fusion="mean",
        image_count=4000,
        acquired_count=3977 - seed,
        failures=(
            Failure("no_face", 20 + seed, ("s01/000.jpg", f"s02/{NASTY}.jpg")),
            Failure("unreadable", 3, ("s03/\udcff.jpg",)),
        ),
        fta=rate(23 + seed, 4000),
        fte=rate(1 + seed, 400),
        lost_mated=41,
        lost_non_mated=310,
        attacks=tuple(attacks),
        worst=_worst(random, skilled=skilled),
    )
    if not people:
        return result
    return replace(
        result,
        open_set=tuple(_open_set(random, size, seed) for size in (100, 1000, 10_000)),
        folds=_folds(random),
        subgroups=_subgroups(random, attacks[0].rates[-1]),
        notes=(
            "FMR 0.0001 % was requested; the data have too few non-mated comparisons.",
            f"Column {NASTY} has more than 50 values and was left out.",
        ),
    )


def _worst(random: np.random.Generator, *, skilled: bool) -> tuple[HardestPair, ...]:
    pairs = [
        HardestPair(None, float(score), f"s{k:02}/a.jpg", f"s{k:02}/b.jpg", f"s{k:02}", f"s{k:02}")
        for k, score in enumerate(np.sort(random.uniform(-0.1, 0.2, 7)))
    ]
    kinds: tuple[Attack, ...] = ("random_forgery", "skilled_forgery")
    for kind in kinds[: 1 + skilled]:
        pairs += [
            HardestPair(kind, float(score), f"s{k:02}/a.jpg", f"{NASTY}/{k}.jpg", f"s{k:02}", NASTY)
            for k, score in enumerate(np.sort(random.uniform(0.3, 0.6, 5))[::-1])
        ]
    return tuple(pairs)


def _open_set(random: np.random.Generator, size: int, seed: int) -> OpenSetResult:
    mates = random.normal(0.62 - 0.05 * seed, 0.12, 2000)
    others = random.normal(0.1 + 0.05 * np.log10(size), 0.06, 3000)
    best = random.normal(0.1 + 0.05 * np.log10(size), 0.06, 2000)
    thresholds = np.linspace(0.9, -0.2, 120)
    missed = [float(((mates < t) | (mates < best)).mean()) for t in thresholds]
    named = [float((others >= t).mean()) for t in thresholds]
    ranks = {1: float((mates >= best).mean())}
    ranks |= {5: min(1.0, ranks[1] + 0.008), 10: min(1.0, ranks[1] + 0.012)}
    draws = 1 if size == 10_000 else 10
    return OpenSetResult(
        size, draws, 2000, 3000, tuple(named), tuple(missed), tuple(thresholds.tolist()), ranks
    )


def _folds(random: np.random.Generator) -> Folds:
    shares = random.normal(0.993, 0.003, 10).clip(0, 1)
    return Folds(
        tuple(shares.tolist()),
        tuple(random.normal(0.3, 0.005, 10).tolist()),
        float(shares.mean()),
        float(shares.std(ddof=1) / np.sqrt(10)),
        4,
    )


def _subgroups(random: np.random.Generator, row: RateAtFmr) -> tuple[Subgroup, ...]:
    groups = {
        "age & <decade>": [("10-19", 300), ("20-39", 9000), ("40-59", 4000), ("60 and more", 50)],
        "camera": [
            ("phone", 6000),
            (NASTY, 700),
            ("\u7530\u4e2d", 400),
            ("a very long name of one", 9),
        ],
    }
    found = []
    for column, values in groups.items():
        for value, size in values:
            false = rate(int(random.binomial(size * 10, row.asked_fmr * 1.5)), size * 10)
            miss = rate(int(random.binomial(size, 0.03)), size)
            trials = 0 if size == 9 else size * 10
            at = (row.asked_fmr, row.threshold, false if trials else None, miss)
            found.append(Subgroup(column, value, size, trials, *at))
    return tuple(found)


def report(*models: ModelResult, data: str = "faces/employees & <guests>") -> EvaluationReport:
    return EvaluationReport(
        data=data,
        kind="folder",
        data_digest="5f" * 32,
        image_count=4000,
        subject_count=610,
        multi_face="error",
        quality="warn",
        created="2025-03-04T05:06:07+00:00",
        verifykit_version="0.9.0",
        models=models,
    )


def picture(number: int, size: tuple[int, int] = (112, 112)) -> bytes:
    """A JPEG of a drawn face, different for each number."""
    random = np.random.default_rng(number)
    shade = [int(value) for value in random.integers(120, 230, 3)]
    image = Image.new("RGB", size, (shade[2], shade[0], shade[1]))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 10, size[0] - 20, size[1] - 6), fill=(shade[0], shade[1], shade[2]))
    for x in (0.38, 0.62):
        draw.ellipse((x * size[0] - 5, 40, x * size[0] + 5, 50), fill=(30, 30, 30))
    draw.arc((40, 60, size[0] - 40, 88), 10, 170, fill=(90, 20, 20), width=3)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def crops_of(found: EvaluationReport) -> dict[str, bytes]:
    """A picture for every other image of the worst pairs and for all of the first ones."""
    names = {name for model in found.models for pair in model.worst for name in (pair.probe,)}
    return {name: picture(number) for number, name in enumerate(sorted(names))}
