"""Compare short training runs: other encoders, no synthetic writers, a script that was left out.

``python -m benchmarks.signature_runs --data writers/manifest.csv --runs runs [encoders|across ...]``: the
manifest is that of ``demo.drawn_set``. Every run uses ``configs/signature.toml`` at 64x192 px and the same
number of steps; its name says what differs. A finished run is not repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measure import time_interleaved
from verifykit.evaluation.reference_scores import draw_scores
from verifykit.metrics import equal_error_rate
from verifykit_training.config import Config, load_config
from verifykit_training.dataset import Record, read_records
from verifykit_training.evaluation import embed_records, load_encoder
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob

SMALL = ("crop.height_px=64", "crop.width_px=192", "validation.every_epochs=1000")
# Encoder to its changes of the shipped configuration.
ENCODERS = {
    "grid_resnet": (),
    "signet": ('encoder.name="signet"',),
    "efficientnet_lite0": ('encoder.name="efficientnet_lite0"', 'encoder.weights="imagenet"'),
}
SETS = ("bhsig260_hindi", "bhsig260_bengali", "sigcomp2011_dutch")
REFERENCES = 5


@dataclass(frozen=True)
class Run:
    """A short training run.

    Attributes:
        name: What differs from the other runs.
        config: The configuration.
        data: The manifest for training.
        test: Records for evaluation; None uses the run's own validation subjects.
    """

    name: str
    config: Config
    data: Path
    test: tuple[Record, ...] | None = None


def encoder_runs(base: Path, data: Path, steps: int) -> list[Run]:
    """Return a run for each encoder, with the same data and steps."""
    runs = []
    for name, changes in ENCODERS.items():
        config = load_config(base, [*SMALL, *changes, *_run_options(steps)])
        runs.append(Run(name, config, data))
    return runs


def across_runs(base: Path, data: Path, steps: int, folder: Path) -> list[Run]:
    """Return runs on two sets, evaluated on every writer of the third; with and without drawn writers."""
    runs = []
    records = read_records(data)
    for left_out in SETS:
        test = tuple(r for r in records if r.subject.startswith(left_out))
        for drawn in (True, False):
            kept = [
                record
                for record in records
                if not record.subject.startswith(left_out)
                and (drawn or not record.subject.startswith("drawn"))
            ]
            name = f"{left_out} left out{', drawn writers too' if drawn else ''}"
            manifest = folder / f"{left_out}{'-drawn' if drawn else ''}.csv"
            _write(manifest, kept)
            config = load_config(base, [*SMALL, *_run_options(steps), "data.validation_share=0.0"])
            runs.append(Run(name, config, manifest, test))
    return runs


def evaluate(run: Run, folder: RunFolder) -> dict[str, dict[str, float]]:
    """Return ``writers``, and the EER with five references, ``skilled`` and ``random``, of each set."""
    encoder, config = load_encoder(folder)
    records = run.test
    if records is None:
        subjects = set(folder.read_subjects()["validation"])
        records = tuple(r for r in read_records(run.data) if r.subject in subjects)
    embeddings, kept, _ = embed_records(encoder, config, records)
    results = {}
    for name in sorted({record.subject.split("/")[0] for record in kept}):
        rows = [i for i, record in enumerate(kept) if record.subject.startswith(name)]
        scores = draw_scores(
            embeddings[rows],
            [kept[i].subject for i in rows],
            [kept[i].is_forgery for i in rows],
            "spread",
            REFERENCES,
        )
        results[name] = {
            "writers": scores.subjects,
            "skilled": equal_error_rate(scores.mated.scores, scores.skilled.scores).eer,
            "random": equal_error_rate(scores.mated.scores, scores.non_mated.scores).eer,
        }
    return results


def cost(folder: RunFolder) -> tuple[float, float]:
    """Return millions of parameters, and milliseconds per image of the torch network."""
    encoder, config = load_encoder(folder)
    image = torch.zeros(1, 1, config.crop.height_px, config.crop.width_px)
    with torch.inference_mode():
        timing = time_interleaved({"encoder": lambda: encoder(image)}, 15)["encoder"]
    return sum(p.numel() for p in encoder.parameters()) / 1e6, timing.wall_ms


def main() -> None:
    """Train what is not trained yet, evaluate, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.signature_runs", description=__doc__)
    parser.add_argument("what", nargs="*", default=["encoders", "across"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/signature.toml"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="only runs whose names contain one of these"
    )
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    if "encoders" in arguments.what:
        runs += encoder_runs(arguments.config, arguments.data, arguments.steps)
    if "across" in arguments.what:
        runs += across_runs(arguments.config, arguments.data, arguments.steps, arguments.runs)
    runs = [run for run in runs if any(part in run.name for part in arguments.only)]
    table = Table(title=f"{arguments.steps} steps at 64x192 px; EER, {REFERENCES} references")
    for column in ("run", "set", "writers", "skilled", "random", "Mparam", "ms/image", "s/step"):
        table.add_column(column, justify="left" if column in ("run", "set") else "right")
    for run in runs:
        folder = RunFolder(arguments.runs / run.name.replace(" ", "-").replace(",", ""))
        if not folder.weights.exists():
            train(TrainingJob(run.config, run.data, folder.path, quiet=True))
        steps = [json.loads(line) for line in (folder.path / "metrics.jsonl").open()]
        seconds = statistics.median([s["seconds"] for s in steps if s["event"] == "step"])
        size, per_image = cost(folder)
        for name, rates in evaluate(run, folder).items():
            table.add_row(
                run.name,
                name,
                str(rates["writers"]),
                f"{rates['skilled']:.1%}",
                f"{rates['random']:.1%}",
                f"{size:.1f}",
                f"{per_image:.1f}",
                f"{seconds:.2f}",
            )
        Console(width=150).print(table)


def _run_options(steps: int) -> tuple[str, ...]:
    return ("run.epochs=1", f"run.steps_per_epoch={steps}", "run.ema_decay=0.995")


def _write(path: Path, records: list[Record]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "subject", "label", "split"))
        for record in records:
            label = "skilled_forgery" if record.is_forgery else "genuine"
            writer.writerow((record.path.resolve(), record.subject, label, record.split or ""))


if __name__ == "__main__":
    main()
