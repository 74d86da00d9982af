"""Measure what int8 costs a trained encoder, and what fine-tuning with its rounding gains.

``python -m benchmarks.int8_training --data PATH --run RUN`` takes a run of ``benchmarks.distillation`` and
trains it further for the same few steps twice: with ``[quantisation]`` and without it. What is compared on
held-out people, all through ONNX Runtime: the run in float32 and int8, and both continuations in int8. Both
can be interrupted and continue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

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
from verifykit_export.parity import embed_with_onnx, open_session
from verifykit_export.precision import to_int8
from verifykit_export.torch_export import to_onnx
from verifykit_training.config import Config, QuantisationConfig, SoftmaxStageConfig
from verifykit_training.crop_cache import CropCache
from verifykit_training.dataset import Record, read_records
from verifykit_training.evaluation import load_encoder
from verifykit_training.learner import input_of
from verifykit_training.loop import train
from verifykit_training.preparation import crop_records
from verifykit_training.run_folder import RunFolder, TrainingJob

STEPS_PER_EPOCH = 25
RANGE_CROPS = 300
console = Console(width=150)


def continuation(base: RunFolder, *, rounded: bool, steps: int) -> Config:
    """Return the configuration that trains a run further at a tenth of its rates."""
    config = base.read_config()
    optimiser, epochs = config.optimiser, max(1, steps // STEPS_PER_EPOCH)
    backbone = optimiser.backbone_rate
    changes = {
        "name": f"{config.name}-{'int8' if rounded else 'further'}",
        "encoder": config.encoder.model_copy(update={"weights": str(base.path)}),
        "quantisation": QuantisationConfig() if rounded else None,
        "softmax_stage": SoftmaxStageConfig(name="cosface"),
        "optimiser": optimiser.model_copy(
            update={
                "rate": optimiser.rate / 10,
                "backbone_rate": None if backbone is None else backbone / 10,
            }
        ),
        "schedule": config.schedule.model_copy(update={"warm_up_steps": 0}),
        "run": config.run.model_copy(
            update={"epochs": epochs, "steps_per_epoch": min(steps, STEPS_PER_EPOCH)}
        ),
    }
    return config.model_copy(update=changes)


def train_further(config: Config, listed: Path, folder: Path, cache: Path) -> RunFolder:
    """Train, or continue, or leave a finished run as it is."""
    run = RunFolder(folder)
    train(TrainingJob(config, listed, folder, cache, resume=run.last.exists()))
    return run


def embed(
    run: RunFolder,
    records: tuple[list[Record], list[Record]],
    crops: CropCache,
    *,
    in_int8: bool,
) -> Rows:
    """Return the rows of held-out images by the exported file; training images state the ranges."""
    held_out, trained = records
    encoder, config = load_encoder(run)
    spec = input_of(config)
    model = to_onnx(encoder, spec, config.encoder.embedding_size)
    if in_int8:
        model = to_int8(model, spec, [crops.crop(record.path) for record in trained])
    rows = embed_with_onnx(
        open_session(model), spec, [crops.crop(record.path) for record in held_out]
    )
    return {record.path: row for record, row in zip(held_out, rows, strict=True)}


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.int8_training", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--run", type=Path, default=Path("runs/distillation/alone"))
    parser.add_argument("--runs", type=Path, default=Path("runs/int8_training"))
    parser.add_argument("--cache", type=Path, help="folder of the crops; default: runs' own")
    parser.add_argument("--steps", type=int, default=100, help="of each continuation")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    cache = arguments.cache or arguments.runs / "crops"
    listed, base = arguments.runs / "train.csv", RunFolder(arguments.run)
    write_training_list(arguments.data, listed)
    further = {
        name: train_further(
            continuation(base, rounded=name == "int8", steps=arguments.steps),
            listed,
            arguments.runs / name,
            cache,
        )
        for name in ("int8", "further")
    }
    held_out = [*read_held_out(arguments.data), every_held_out_pair(arguments.data)]
    images = [Record(path, path.parent.name) for path in held_out_paths(held_out)]
    trained = read_records(listed)
    crops, kept, _ = crop_records([*images, *trained], base.read_config(), cache)
    usable = {record.path for record in kept}
    shown = [record for record in images if record.path in usable]
    ranges = [record for record in trained if record.path in usable]
    records = shown, ranges[:: max(1, len(ranges) // RANGE_CROPS)]
    embedded = {
        "float32": embed(base, records, crops, in_int8=False),
        "int8": embed(base, records, crops, in_int8=True),
        "trained further, int8": embed(further["further"], records, crops, in_int8=True),
        "fine-tuned for int8, int8": embed(further["int8"], records, crops, in_int8=True),
    }
    differences = (
        ("int8", "float32"),
        ("fine-tuned for int8, int8", "int8"),
        ("fine-tuned for int8, int8", "trained further, int8"),
        ("fine-tuned for int8, int8", "float32"),
    )
    for table in tables(embedded, held_out, differences):
        console.print(table)


if __name__ == "__main__":
    main()
