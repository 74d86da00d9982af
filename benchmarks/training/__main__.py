"""Measure the overhead of a training step: ``python -m benchmarks.training --data PATH``.

``PATH`` is a folder with a folder for each subject. Four measurements: the share of a step of the training
loop that is not forward, backward or optimiser; useful triplets per second by mining a P x K batch, against
three forward passes over explicit random triplets; the loader alone against the consumption of the step; and
mining and loss against pytorch-metric-learning (``benchmarks.training.mining``).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from benchmarks.training.mining import compare_mining
from verifykit_training.batches import Batch, BatchPlan, build_loader
from verifykit_training.config import Config, parse_config
from verifykit_training.encoders import build_encoder
from verifykit_training.learner import Learner, input_of
from verifykit_training.loop import train
from verifykit_training.losses import build_loss
from verifykit_training.preparation import build_sampler, prepare
from verifykit_training.run_folder import RunFolder, TrainingJob

console = Console()
WARM_UP_STEPS = 2


class Stopwatch:
    """Seconds of the wrapped calls, a list for each name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that times the call."""

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            answer = call(*args, **options)
            self.seconds.setdefault(name, []).append(time.perf_counter() - start)
            return answer

        return timed


@contextmanager
def instrument_loop(stopwatch: Stopwatch) -> Iterator[None]:
    """Time forward, backward and optimiser step of the training loop."""
    enter_epoch = Learner.enter_epoch

    def enter(learner: Learner, epoch: int) -> None:
        enter_epoch(learner, epoch)
        learner.encoder.forward = stopwatch.wrap("forward", learner.encoder.forward)

    with (
        patch.object(Learner, "enter_epoch", enter),
        patch.object(Learner, "take_step", stopwatch.wrap("optimiser", Learner.take_step)),
        patch.object(Fabric, "backward", stopwatch.wrap("backward", Fabric.backward)),
    ):
        yield


def build_config(options: argparse.Namespace) -> Config:
    """Return the configuration of the measured run: random weights, batch-hard loss."""
    return parse_config(
        {
            "name": "benchmark",
            "modality": "face",
            "licence": "none: a measurement",
            "training_data": "none: a measurement",
            "crop": {"kind": options.crop, "height_px": options.size, "width_px": options.size},
            "encoder": {"name": options.encoder, "weights": "none"},
            "data": {"validation_share": 0.0, "workers": 1},
            "sampler": {"p": options.p, "k": options.k},
            "augmentation": {"preset": "face"},
            "loss": {"name": "batch_hard"},
            "run": {
                "epochs": 1,
                "steps_per_epoch": options.steps + WARM_UP_STEPS,
                "precision": options.precision,
                "ema_decay": 0.999,
                "log_every_steps": 1,
                "tensorboard": False,
            },
        }
    )


def time_step(config: Config, options: argparse.Namespace) -> float:
    """Print the parts of a step of the training loop, and return the median seconds of a step."""
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, instrument_loop(stopwatch):
        run = RunFolder(Path(folder) / "run")
        train(TrainingJob(config, options.data, run.path, cache=options.cache, quiet=True))
        steps = [row["seconds"] for row in run.read_metrics() if row["event"] == "step"]
    steps = steps[WARM_UP_STEPS:]
    parts = {name: values[WARM_UP_STEPS:] for name, values in stopwatch.seconds.items()}
    accounted = [sum(row) for row in zip(*parts.values(), strict=True)]
    overhead = statistics.median(
        (step - spent) / step for step, spent in zip(steps, accounted, strict=True)
    )
    title = f"{options.encoder}, {options.size} px, P={options.p} K={options.k}, {len(steps)} steps"
    table = Table("part", "ms (median)", title=title)
    for name, values in {"step": steps, **parts}.items():
        table.add_row(name, f"{statistics.median(values) * 1e3:.0f}")
    console.print(table)
    console.print(f"share of overhead: {overhead:.1%} (goal: at most 5 %)")
    return float(statistics.median(steps))


def time_loader(config: Config, options: argparse.Namespace, step_s: float) -> Batch:
    """Print the speed of the loader alone against the consumption of a step; return a batch."""
    data = prepare(config, options.data, input_of(config), options.cache)
    sampler = build_sampler(config, data.train.records, data.train.labels, None)
    batches = options.steps + WARM_UP_STEPS
    plan = BatchPlan(sampler, batches=batches, seed=0, unit=1, rank=0, processes=1)
    taken: list[float] = []
    last: Batch | None = None
    start = time.perf_counter()
    for batch in build_loader(data.train, plan, config.data.workers, pinned=False):
        taken.append(time.perf_counter() - start)
        last, start = batch, time.perf_counter()
    alone = statistics.median(taken[WARM_UP_STEPS:])
    console.print(
        f"loader alone: {alone * 1e3:.1f} ms per batch, {step_s / alone:.1f} times as fast as the step "
        "(goal: at least 2)"
    )
    if last is None:
        raise RuntimeError(f"the loader gave no batch; its plan has {batches}")
    return last


def compare_triplets(batch: Batch, options: argparse.Namespace) -> None:
    """Print useful triplets per second: mined in one batch, and drawn at random for three passes."""
    encoder = build_encoder(options.encoder, weights="none").train()
    mined, explicit = build_loss("batch_all"), build_loss("triplet")
    images, labels = batch.images, batch.labels
    generator = torch.Generator().manual_seed(0)
    rows: list[int] = []
    while len(rows) < 3 * (len(labels) // 3):
        anchor = int(torch.randint(len(labels), (), generator=generator))
        same = torch.nonzero(labels == labels[anchor]).flatten()
        same = same[same != anchor]
        others = torch.nonzero(labels != labels[anchor]).flatten()
        pair = [int(c[torch.randint(len(c), (), generator=generator)]) for c in (same, others)]
        rows += [anchor, *pair]
    table = Table("", "images", "useful triplets", "ms", "useful triplets/s", title="one step")
    for name, loss, indices in (
        ("mined, batch-all", mined, torch.arange(len(labels))),
        ("explicit, random", explicit, torch.tensor(rows)),
    ):
        useful, seconds = [], []
        for _ in range(options.steps):
            start = time.perf_counter()
            output = loss(encoder(images[indices]), labels[indices])
            output.loss.backward()
            seconds.append(time.perf_counter() - start)
            values = output.statistics
            useful.append(float(values["active_share"]) * float(values["valid_terms"]))
            encoder.zero_grad()
        rate = statistics.median(u / s for u, s in zip(useful, seconds, strict=True))
        milliseconds = statistics.median(seconds) * 1e3
        count = f"{statistics.median(useful):.0f}"
        table.add_row(name, str(len(indices)), count, f"{milliseconds:.0f}", f"{rate:.0f}")
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder that caches crops")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--crop", choices=("five_point", "plain"), default="five_point")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--p", type=int, default=8)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = build_config(options)
    batch = time_loader(config, options, time_step(config, options))
    compare_triplets(batch, options)
    table = Table("loss", "ours / theirs", "same definition", title="N=1024, D=128")
    for one in compare_mining():
        table.add_row(one.name, f"{one.ratio:.2f}", "yes" if one.same else "no")
    console.print(table)


if __name__ == "__main__":
    main()
