"""Train the same configuration with several seeds, each in a folder and a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verifykit._files import atomic_write
from verifykit.errors import shown
from verifykit_training.errors import ConfigError, TrainingError
from verifykit_training.run_folder import RunFolder, before


@dataclass(frozen=True)
class Sweep:
    """The results of several seeds.

    Attributes:
        metric: The validation metric.
        values: The metric of each seed; None without validation.
        mean: Over the seeds; None if a seed has no value.
        deviation: Sample standard deviation over the seeds; None for a single one.
    """

    metric: str
    values: dict[int, float | None]
    mean: float | None
    deviation: float | None


def parse_seeds(text: str) -> list[int]:
    """Read ``0,1,2``; raise ConfigError for anything else, and for a seed that is there twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise ConfigError(f"--seeds takes whole numbers such as 0,1,2, got {shown(text)}")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds names a seed twice: {shown(text)}")
    if max(seeds) >= 2**31:
        raise ConfigError(f"a seed is at most {2**31 - 1}, got {max(seeds)}")
    return seeds


def train_seeds(
    seeds: Sequence[int], base: Path, arguments: Sequence[str], *, resume: bool
) -> tuple[Sweep | None, int]:
    """Train each seed in ``BASE-SEED``, and write ``BASE-seeds.json``.

    Args:
        seeds: One or several.
        base: Path of the folders, without the seed.
        arguments: Of ``verifykit-train train``, without seed, folder and ``--resume``.
        resume: Continue those seeds that have begun.

    Returns:
        The results, or None, and the exit status of the seed that ended the sweep, else 0.
    """
    folders = {seed: RunFolder(base.with_name(f"{base.name}-{seed}")) for seed in seeds}
    for folder in folders.values():
        if not resume:
            folder.require_unused()
    for seed, folder in folders.items():
        command = [sys.executable, "-m", "verifykit_training", "train", *arguments]
        command += ["--set", f"seed={seed}", "--run", str(folder.path)]
        if resume and (folder.last.exists() or before(folder.last).exists()):
            command.append("--resume")
        status = subprocess.run(command, check=False).returncode
        if status:
            return None, 130 if status < 0 else status
    records = {seed: folder.read_record() for seed, folder in folders.items()}
    values = {seed: record.validation for seed, record in records.items()}
    known = [value for value in values.values() if value is not None]
    whole = len(known) == len(values)
    sweep = Sweep(
        metric=next(iter(records.values())).metric,
        values=values,
        mean=statistics.mean(known) if whole else None,
        deviation=statistics.stdev(known) if whole and len(known) > 1 else None,
    )
    target = base.with_name(f"{base.name}-seeds.json")
    try:
        atomic_write(target, json.dumps(vars(sweep), indent=1) + "\n")
    except OSError as error:
        raise TrainingError(f"{shown(str(target))} cannot be written: {error.strerror}") from error
    return sweep, 0
