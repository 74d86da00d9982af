"""Train ResNet-152 at 112 px for some minutes: ``python -m benchmarks.training.resnet152 --data FACES``.

``FACES`` holds ``lfw_train`` and ``cfp``; people of CFP who are in LFW are left out. The curve of the
validation EER and the peak memory are printed, and the run's folder keeps ``report/training.png``. This
has never been run on a GPU: there was none. It ran on a CPU with ``--set`` values for a tiny network.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import signal
import threading
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from verifykit_training import loop
from verifykit_training.config import load_config
from verifykit_training.reporting import draw_curves
from verifykit_training.run_folder import RunFolder, TrainingJob

CONFIG = Path(__file__).parents[2] / "configs" / "face_resnet152_112.toml"


def write_list(faces: Path, target: Path) -> int:
    """Write the images of LFW's training people and of CFP as a CSV, and return their number."""
    lfw, cfp = faces / "lfw_train", faces / "cfp"
    rows = [(str(path), path.parent.name) for path in sorted(lfw.glob("*/*.jpg"))]
    with (cfp / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows += [
            (str(cfp / row["path"]), row["subject"])
            for row in csv.DictReader(file)
            if row["in_lfw"] == "0"
        ]
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "subject"), *rows])
    return len(rows)


def main() -> None:
    """Train until the time is over, and print curve and memory."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of lfw_train and cfp")
    parser.add_argument("--run", type=Path, default=Path("runs/resnet152-112"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    console = Console()
    options.run.parent.mkdir(parents=True, exist_ok=True)
    listed = options.run.with_suffix(".csv")
    console.print(f"{write_list(options.data.absolute(), listed)} images")
    config = load_config(CONFIG, options.set)
    job = TrainingJob(config, listed.absolute(), options.run, cache=options.cache)
    # As Ctrl-C does, after the step under way; crops are made before that, and count.
    timer = threading.Timer(options.minutes * 60, _stop, [console])
    timer.daemon = True
    timer.start()
    began = time.perf_counter()
    outcome = loop.train(job)
    timer.cancel()
    seconds = time.perf_counter() - began
    folder = RunFolder(options.run)
    folder.report.mkdir(exist_ok=True)
    draw_curves(folder.report / "training.png", folder.read_metrics())
    table = Table(
        "epoch", "step", "validation EER", title=f"{config.encoder.name}, {seconds:.0f} s"
    )
    for line in folder.read_metrics():
        if line["event"] == "validation":
            table.add_row(str(line["epoch"]), str(line["step"]), f"{line['eer']:.1%}")
    console.print(table)
    if torch.cuda.is_available():
        console.print(
            f"GPU peak: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of activations, weights"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    console.print(f"{outcome.step} steps; peak of this process {peak:.1f} GB")


def _stop(console: Console) -> None:
    console.print("the time is over")
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
