"""Train a student alone and with a teacher, and compare both and the teacher on held-out people.

``python -m benchmarks.distillation --data PATH``: two runs of ``configs/face_distilled.toml``, one without
its section ``distillation``, of the same number of steps; both can be interrupted and continue. ``--only
alone`` or ``--only distilled`` trains one of them, so that two processes can share a machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.distillation.data import HeldOut, read_held_out, write_training_list
from benchmarks.face.data import add_data_argument
from verifykit.metrics import SubjectBootstrap, eer_interval, equal_error_rate
from verifykit_training.config import Config, load_config
from verifykit_training.dataset import Record
from verifykit_training.evaluation import embed_records, load_encoder
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob
from verifykit_training.teachers import embed_targets, open_teacher

CONFIG = Path(__file__).parents[2] / "configs" / "face_distilled.toml"
VARIANTS = ("alone", "distilled")
console = Console()


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


def scores(rows: dict[Path, NDArray[np.float32]], pairs: HeldOut) -> NDArray[np.float64]:
    """Return the cosine of each pair; NaN where an image gave no crop."""
    return np.array(
        [
            float(rows[a] @ rows[b]) if a in rows and b in rows else np.nan
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ]
    )


def eer_with_interval(
    found: NDArray[np.float64], pairs: HeldOut, used: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Return the EER of the used pairs, with the 95 % interval over draws of people."""
    mated, non_mated = found[used & pairs.mated], found[used & ~pairs.mated]
    names, places = np.unique(pairs.subjects, return_inverse=True)
    places = places.reshape(pairs.subjects.shape)
    thresholds = np.concatenate([[-np.inf], np.unique(found[used]), [np.inf]])
    draws = []
    for kind, happened in ((False, np.greater_equal), (True, np.less)):
        chosen = used & (pairs.mated == kind)
        bootstrap = SubjectBootstrap(
            places[0][chosen],
            places[1][chosen],
            subjects=len(names),
            resamples=500,
            groups=200,  # of people, where there are more: a table of all would take minutes
        )
        draws.append(np.stack([bootstrap.rates(happened(found[chosen], t)) for t in thresholds]))
    low, high = eer_interval(draws[0], draws[1])
    return equal_error_rate(mated, non_mated).eer, low, high


def report(
    embedded: dict[str, dict[Path, NDArray[np.float32]]], held_out: Sequence[HeldOut]
) -> None:
    """Print a row for each network: the EER on each set, of the pairs that all could embed."""
    table = Table(title="EER (95 % interval over people)")
    table.add_column("network")
    found = {name: [scores(rows, pairs) for pairs in held_out] for name, rows in embedded.items()}
    used = [
        np.asarray(np.isfinite(np.stack([each[number] for each in found.values()])).all(axis=0))
        for number in range(len(held_out))
    ]
    for pairs, kept in zip(held_out, used, strict=True):
        people = len(np.unique(pairs.subjects[:, kept]))
        table.add_column(f"{pairs.name}: {kept.sum()} of {kept.size} pairs, {people} people")
    for name, of_network in found.items():
        cells = []
        for values, pairs, kept in zip(of_network, held_out, used, strict=True):
            eer, low, high = eer_with_interval(values, pairs, kept)
            cells.append(f"{eer:.2%} ({low:.2%} to {high:.2%})")
        table.add_row(name, *cells)
    console.print(table)


def agreement(
    rows: dict[Path, NDArray[np.float32]], teacher: dict[Path, NDArray[np.float32]]
) -> float:
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
    held_out = read_held_out(arguments.data)
    paths = sorted({path for pairs in held_out for path in (*pairs.first, *pairs.second)})
    records = [Record(path, path.parent.name) for path in paths]
    embedded: dict[str, dict[Path, NDArray[np.float32]]] = {}
    for name, run in runs.items():
        rows, kept, _ = embed_records(load_encoder(run)[0], config, records, cache)
        embedded[f"student {name}"] = {
            record.path: row for record, row in zip(kept, rows, strict=True)
        }
    targets = embed_targets(open_teacher(config), records, cache)
    embedded["teacher"] = {
        path: row for path, row in zip(paths, targets.rows, strict=True) if np.isfinite(row).all()
    }
    report(embedded, held_out)
    for name in VARIANTS:
        mean = agreement(embedded[f"student {name}"], embedded["teacher"])
        console.print(f"student {name}: mean cosine to the teacher {mean:.3f}")


if __name__ == "__main__":
    main()
