"""Train a student alone and with a teacher, and compare both and the teacher on held-out people.

Each difference has an interval of its own, over the same draws of people for both.

``python -m benchmarks.distillation --data PATH``: two runs of ``configs/face_distilled.toml``, one without
its section ``distillation``, of the same number of steps; both can be interrupted and continue. ``--only
alone`` or ``--only distilled`` trains one of them, so that two processes can share a machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.distillation.data import (
    every_held_out_pair,
    held_out_paths,
    read_held_out,
    write_training_list,
)
from benchmarks.distillation.paired import Rows, tables
from benchmarks.face.data import add_data_argument
from verifykit_training.config import Config, load_config
from verifykit_training.dataset import Record
from verifykit_training.evaluation import embed_records, load_encoder
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob
from verifykit_training.teachers import embed_targets, open_teacher

CONFIG = Path(__file__).parents[2] / "configs" / "face_distilled.toml"
VARIANTS = ("alone", "distilled")
console = Console(width=150)


def variant(config: Config, name: str) -> Config:
    """Return the configuration of a student: as it is, or without the teacher."""
    changes: dict[str, object] = {"name": f"face-{name}"}
    return config.model_copy(update=changes | ({"distillation": None} if name == "alone" else {}))


def train_student(
    config: Config, listed: Path, folder: Path, cache: Path, epochs: int
) -> RunFolder:
    """Train, or continue, or leave a finished run as it is; 0 epochs are all."""
    run = RunFolder(folder)
    done = run.last.exists()
    train(TrainingJob(config, listed, folder, cache, resume=done, stop_after=epochs or None))
    return run


def agreement(rows: Rows, teacher: Rows) -> float:
    """Return the mean cosine between the rows of a student and of the teacher."""
    return float(np.mean([rows[path] @ teacher[path] for path in rows if path in teacher]))


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.distillation", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--cache", type=Path, help="folder of the crops; default: runs' own")
    parser.add_argument("--only", choices=VARIANTS, help="train this student, and measure nothing")
    parser.add_argument(
        "--stop-after", type=int, default=0, help="stop both after so many of the epochs"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    cache = arguments.cache or arguments.runs / "crops"
    config = load_config(CONFIG)
    listed = arguments.runs / "train.csv"
    images = write_training_list(arguments.data, listed)
    console.print(f"{images} training images; teacher {config.distillation.teacher}")  # type: ignore[union-attr]
    names = [arguments.only] if arguments.only else list(VARIANTS)
    runs = {
        name: train_student(
            variant(config, name), listed, arguments.runs / name, cache, arguments.stop_after
        )
        for name in names
    }
    if arguments.only:
        return
    held_out = [*read_held_out(arguments.data), every_held_out_pair(arguments.data)]
    paths = held_out_paths(held_out)
    records = [Record(path, path.parent.name) for path in paths]
    embedded: dict[str, Rows] = {}
    for name, run in runs.items():
        rows, kept, _ = embed_records(load_encoder(run)[0], config, records, cache)
        embedded[f"student {name}"] = {
            record.path: row for record, row in zip(kept, rows, strict=True)
        }
    targets = embed_targets(open_teacher(config), records, cache)
    embedded["teacher"] = {
        path: row for path, row in zip(paths, targets.rows, strict=True) if np.isfinite(row).all()
    }
    differences = (("student distilled", "student alone"), ("student distilled", "teacher"))
    for table in tables(embedded, held_out, differences):
        console.print(table)
    for name in VARIANTS:
        mean = agreement(embedded[f"student {name}"], embedded["teacher"])
        console.print(f"student {name}: mean cosine to the teacher {mean:.3f}")


if __name__ == "__main__":
    main()
