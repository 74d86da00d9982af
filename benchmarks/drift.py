"""Simulate how soon a false match rate that rose is found in live scores, and how often it is found wrongly.

``python -m benchmarks.drift`` draws non-mated scores from the calibration of ``face``: as it is, as far from
it as is tolerated, and after changes that triple the stated rate. ``--data PATH`` also plays real faces, of
LFW, ORL and All-Age-Faces, as the traffic of a gallery.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.bands import Faces
from benchmarks.face.data import read_ages, read_evaluation_data
from benchmarks.populations import embed, read_cfp
from verifykit.drift import ScoreWatch
from verifykit.drift.evidence import (
    ALLOWANCE,
    FALSE_ALARM_PROBES,
    Bets,
    Evidence,
    Levels,
    rate_now,
    shifted,
    spread,
)
from verifykit.drift.watch import PANEL_SUBJECTS
from verifykit.encoder import Encoder
from verifykit.evaluation.embedding import EmbeddingCache, ModelEmbedder
from verifykit.metrics import wilson_interval
from verifykit.models import load
from verifykit.scoring import penalties
from verifykit.spec import ModelSpec

WITHIN = 2000
RATIO = 3.0
PROBE_SHARE = 0.1  # of the variance of a score, what all scores of one probe have in common
SUBJECT_SHARE = 0.05  # the same of an enrolled subject, and of one pair of people
PAIR_SHARE = 0.3

_NORMAL = NormalDist()
Values = NDArray[np.float64]


def raised_below_a_tenth(rates: Sequence[float], at: float, ratio: float) -> Values:
    """Return the rates after those below 0.1 rose, and no others, so that ``at`` is multiplied."""
    power = math.log(at * ratio / 0.1) / math.log(at / 0.1)
    return np.array([rate if rate >= 0.1 else 0.1 * (rate / 0.1) ** power for rate in rates])


CHANGES = {
    "all scores higher": shifted,
    "scores spread": spread,
    "upper tenth only": raised_below_a_tenth,
}


@dataclass(frozen=True)
class Setting:
    """Scores of each probe, and subjects of the gallery."""

    scores: int
    subjects: int


def shares(
    rng: np.random.Generator, tails: Values, scores: int, runs: int, steps: int
) -> NDArray[np.float64]:
    """Return the share of a probe's scores that reach each level (steps, runs, L)."""
    cuts = np.array([-_NORMAL.inv_cdf(min(max(tail, 1e-12), 1 - 1e-12)) for tail in tails])
    own = rng.standard_normal((steps, runs, 1)) if scores > 1 else np.zeros((steps, runs, 1))
    share = PROBE_SHARE if scores > 1 else 0.0
    drawn = math.sqrt(share) * own + math.sqrt(1 - share) * rng.standard_normal(
        (steps, runs, scores)
    )
    return np.stack([(drawn >= cut).mean(axis=2) for cut in cuts], axis=2)


def alarms(bets: Bets, blocks: Iterator[NDArray[np.float64]], runs: int) -> NDArray[np.int64]:
    """Return the number of probes at the alarm of each run; 0 for none."""
    logs = np.full((runs, len(bets.slopes)), -np.inf)
    limit = math.log(FALSE_ALARM_PROBES) + math.log(len(bets.slopes))
    found, done = np.zeros(runs, np.int64), 0
    for block in blocks:
        for step in block:
            done += 1
            values = 1.0 + (step - bets.expected) @ bets.slopes.T
            logs = np.log(values) + np.logaddexp(logs, 0.0)
            top = logs.max(axis=1)
            total = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
            found[(total >= limit) & (found == 0)] = done
        if found.all():
            break
    return found


def simulate(
    levels: Levels, tails: Values, setting: Setting, *, runs: int, probes: int, seed: int
) -> NDArray[np.int64]:
    """Return when each run of independent probes alarms; 0 for never."""
    rng = np.random.default_rng(seed)
    bets = levels.bets(setting.subjects)
    assert bets is not None  # noqa: S101 - no setting has fewer than 30 subjects
    steps = max(1, 1_000_000 // (runs * setting.scores))
    blocks = (
        shares(rng, tails, setting.scores, runs, min(steps, probes - start))
        for start in range(0, probes, steps)
    )
    return alarms(bets, blocks, runs)


def closed(
    levels: Levels, subjects: int, *, scores: int, runs: int, probes: int, seed: int
) -> float:
    """Return the share of galleries with an alarm, whose own subjects, again and again, are the probes.

    Each pair of subjects has its own mean score: what 50 people have among themselves is theirs.
    """
    rng = np.random.default_rng(seed)
    cuts = np.array([-_NORMAL.inv_cdf(rate) for rate in levels.rates])
    bets = levels.bets(subjects)
    if bets is None:
        return math.nan
    drawn = min(scores, subjects - 1)
    people = rng.standard_normal((runs, subjects)) * math.sqrt(SUBJECT_SHARE)
    pairs = np.triu(rng.standard_normal((runs, subjects, subjects)), 1) * math.sqrt(PAIR_SHARE)
    means = people[:, :, None] + people[:, None] + pairs + pairs.transpose(0, 2, 1)
    rest = math.sqrt(1 - 2 * SUBJECT_SHARE - PAIR_SHARE)

    def block() -> NDArray[np.float64]:
        who = rng.integers(subjects, size=(20, runs))
        met = (who[:, :, None] + 1 + np.arange(drawn)) % subjects
        if drawn < subjects - 1:  # a run of neighbours, from anywhere
            start = rng.integers(subjects - 1, size=(20, runs, 1))
            met = (who[:, :, None] + 1 + (start + np.arange(drawn)) % (subjects - 1)) % subjects
        mine = means[np.arange(runs)[None, :, None], who[:, :, None], met]
        values = mine + rest * rng.standard_normal(mine.shape)
        return np.stack([(values >= cut).mean(axis=2) for cut in cuts], axis=2)

    blocks = (block() for _ in range(probes // 20))
    return float((alarms(bets, blocks, runs) > 0).mean())


def information(levels: Levels, tails: Values) -> float:
    """Return the Kullback-Leibler divergence of one score from what is tolerated, in nats.

    With a bound of A probes on false alarms, the mean delay of the best test is about log(A) over it (Lorden,
    "Procedures for reacting to a change in distribution", Annals of Mathematical Statistics 42, 1971).
    """
    was, now = (
        -np.diff(np.concatenate([[1.0], each, [0.0]])) for each in (levels.tolerated, tails)
    )
    kept = now > 0
    return float((now[kept] * np.log(now[kept] / np.maximum(was[kept], 1e-300))).sum())


def simulated(levels: Levels, console: Console, runs: int) -> None:
    """Print how soon changes are found."""
    table = Table(title=f"stated FMR {levels.stated:g}, {RATIO:g} times as high: {runs} runs each")
    columns = ("scores a probe", "subjects", "change", f"found in {WITHIN:,}", "95 %", "median")
    for column in (*columns, "95 % in", "nats a score"):
        table.add_column(column, justify="left" if column == "change" else "right")
    settings = [Setting(1, 10_000), *(Setting(128, n) for n in (10_000, 1000, 200))]
    settings.insert(1, Setting(16, 10_000))
    for setting, (name, change) in itertools.product(settings, CHANGES.items()):
        tails = change(levels.rates, levels.stated, RATIO)
        when = simulate(levels, tails, setting, runs=runs, probes=2 * WITHIN, seed=0)
        reached = np.where(when == 0, 2 * WITHIN + 1, when)
        found = int((reached <= WITHIN).sum())
        low, high = wilson_interval(found, runs)
        cells = [str(setting.scores), f"{setting.subjects:,}", name, f"{found / runs:.1%}"]
        cells += [f"{low:.1%} to {high:.1%}", *map(_count, np.quantile(reached, (0.5, 0.95)))]
        known = f"{information(levels, tails):.4f}" if setting.scores == 1 else ""
        table.add_row(*cells, known)
    console.print(table)


def _count(probes: float) -> str:
    return f"{probes:,.0f}" if probes <= 2 * WITHIN else f"> {2 * WITHIN:,}"


def false_alarms(levels: Levels, console: Console, years: float) -> None:
    """Print how often an unchanged rate alarms."""
    table = Table(title=f"no change: {years:g} years of 1,000 probes a day each")
    for column in ("scores a probe", "subjects", "scores", "alarms", "a year"):
        table.add_column(column, justify="left" if column == "scores" else "right")
    for setting in (Setting(1, 10_000), Setting(128, 10_000), Setting(128, 200)):
        most = np.minimum(np.array(levels.tolerated) + ALLOWANCE / setting.subjects, 1.0)
        for name, tails in (
            ("as calibrated", np.array(levels.rates)),
            ("as much as is tolerated", most),
        ):
            # Short runs from the beginning alarm less often than long ones, so they are long.
            runs = 20
            probes = round(years * FALSE_ALARM_PROBES / runs)
            when = simulate(levels, tails, setting, runs=runs, probes=probes, seed=1)
            seen = np.where(when == 0, probes, when).sum() / FALSE_ALARM_PROBES
            cells = [str(setting.scores), f"{setting.subjects:,}", name, str((when > 0).sum())]
            table.add_row(*cells, f"{(when > 0).sum() / seen:.2g}")
    console.print(table)


def closed_groups(levels: Levels, console: Console, runs: int) -> None:
    """Print how often galleries whose own people come again and again alarm in a year."""
    probes, least = 50_000, levels.least_subjects
    table = Table(
        title=f"the same people again and again, {probes:,} probes, {runs} galleries each"
    )
    for column in ("subjects", "galleries with an alarm"):
        table.add_column(column, justify="right")
    for subjects in (least, 100, 300):
        share = closed(levels, subjects, scores=128, runs=runs, probes=probes, seed=2)
        table.add_row(str(subjects), f"{share:.0%}")
    console.print(table)


def traffic(faces: Faces, spec: ModelSpec, levels: Levels, seed: int) -> tuple[int, float | None]:
    """Return the number of probes at the alarm (0 for none in 2,000), and the estimate of the rate then.

    Half of the people are enrolled with an image each, the images of the others are the probes, in turns.
    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(faces.subjects))
    enrolled = [np.flatnonzero(faces.subjects == name)[0] for name in names[::2]]
    bets = levels.bets(len(enrolled))
    assert bets is not None  # noqa: S101 - only sets of enough people are played
    own = penalties(spec.cohort, faces.rows) / 2
    probes = np.flatnonzero(np.isin(faces.subjects, names[1::2]))
    scores = faces.rows[probes].astype(np.float64) @ faces.rows[enrolled].T
    scores -= own[probes][:, None] + own[enrolled]
    reached = scores[:, :, None] >= levels.thresholds(spec, 1)
    found, met = Evidence.none(levels), min(PANEL_SUBJECTS, len(enrolled))
    turns = itertools.chain.from_iterable(rng.permutation(len(probes)) for _ in itertools.count())
    for probe in itertools.islice(turns, WITHIN):
        drawn = rng.choice(len(enrolled), met, replace=False)
        counts = reached[probe][drawn].sum(axis=0)
        found = found.then(Evidence.of_probe(bets, met, counts))
        if found.is_alarm:
            break
    rate = rate_now(levels, found.recent[1], found.recent[2:].tolist())
    return found.probes if found.is_alarm else 0, rate


def real(data: Path, cache: Path | None, model: str, fmr: float, console: Console) -> None:
    """Print whether the people of each set, in front of a camera, would raise an alarm."""
    embedder = ModelEmbedder(Encoder.open(load(model)), model, multi_face="middle", quality="warn")
    spec, sets = embedder.spec, {}
    with tempfile.TemporaryDirectory() as folder, EmbeddingCache(cache) as kept:
        train, val = (
            read_evaluation_data(data, name, Path(folder)).images
            for name in ("lfw_train", "lfw_val")
        )
        known = {image.subject for image in train}
        others = [image for image in val if image.subject not in known]
        frontal = [image for image in read_cfp(data) if image.groups["band"] == "frontal"]
        ages = embed(embedder, read_ages(data), kept, embedder)
        sets = {
            "LFW, other people": embed(embedder, others, kept, embedder),
            "CFP, frontal": embed(embedder, frontal, kept, embedder),
        }
        for band in np.unique(ages.kinds):
            sets[f"All-Age-Faces, {band}"] = ages.only(ages.kinds == band)
    levels = Levels.of(spec, fmr)
    table = Table(
        title=f"{model}, FMR {levels.stated:g}: half of the people enrolled, others the probes"
    )
    for column in ("set", "enrolled", "alarms in 20", "median probes", "estimated FMR"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for name, faces in sets.items():
        enrolled = (len(np.unique(faces.subjects)) + 1) // 2
        if enrolled < levels.least_subjects:
            table.add_row(name, str(enrolled), "too few", "", "")
            continue
        found = [traffic(faces, spec, levels, seed) for seed in range(20)]
        when = [probes for probes, _ in found if probes]
        rates = [rate for _, rate in found if rate is not None]
        cells = [str(len(when)), f"{np.median(when):,.0f}" if when else ""]
        table.add_row(name, str(enrolled), *cells, f"{np.median(rates):.1e}" if rates else "")
    console.print(table)


def cost(spec: ModelSpec, console: Console) -> None:
    """Print the processor time that counting one probe adds to a request."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((11_000, spec.embedding_size)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gallery = vk.MemoryGallery(
        spec_digest=spec.digest, embedding_size=spec.embedding_size, fusion=spec.fusion
    )
    for n, row in enumerate(rows[:10_000]):
        gallery.add(f"{n:05}", [vk.Template(row, spec.digest)])
    watch, taken = ScoreWatch(spec), []
    for row in rows[10_000:]:
        began = time.process_time()
        watch.record(gallery, row[None], [None])
        taken.append(1000 * (time.process_time() - began))
    console.print(
        f"a probe, 10,000 subjects: {np.median(taken[300:]):.2f} ms; the first, which draws them: "
        f"{taken[0]:.1f} ms (processor time)"
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.drift", description=__doc__)
    parser.add_argument("--model", default="face", help="whose calibration is drawn from")
    parser.add_argument("--fmr", type=float, default=1e-4, help="the stated rate")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--years", type=float, default=4.0)
    parser.add_argument("--data", type=Path, help="folder with faces/: play real faces instead")
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    arguments = parser.parse_args()
    spec = load(arguments.model).spec
    levels, console = Levels.of(spec, arguments.fmr), Console(width=120)
    if arguments.data:
        real(arguments.data, arguments.cache, arguments.model, arguments.fmr, console)
        return
    simulated(levels, console, arguments.runs)
    false_alarms(levels, console, arguments.years)
    closed_groups(levels, console, 40)
    cost(spec, console)


if __name__ == "__main__":
    main()
