"""Train from a Python program: :func:`train` and the run that it returns."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from verifykit.errors import shown
from verifykit_training.config import Config, load_config, parse_config
from verifykit_training.encoders import EmbeddingNetwork
from verifykit_training.errors import TrainingError
from verifykit_training.evaluation import load_encoder
from verifykit_training.in_memory import LIST, write_images
from verifykit_training.loop import train as train_job
from verifykit_training.reporting import summarise
from verifykit_training.run_folder import RunFolder, TrainingJob
from verifykit_training.stages import shown_stages
from verifykit_training.teachers import Teacher


@dataclass(frozen=True)
class TrainedRun:
    """A run in its folder.

    Attributes:
        folder: The run's folder, for ``verifykit-train evaluate`` and ``verifykit-export``.
        data: Its images, for their ``--data``: the path that was given, or the list of the written images.
        config: The configuration as resolved.
        epochs: Epochs that were trained.
        best_epoch: The epoch, from 1, whose weights were kept.
        metric: By which it was chosen.
        value: Its value, in [0, 1]; None without validation.
        ended: Whether there is nothing left to train.
    """

    folder: Path
    data: Path
    config: Config
    epochs: int
    best_epoch: int
    metric: str
    value: float | None
    ended: bool

    def load_encoder(self) -> EmbeddingNetwork:
        """Return the network with the kept weights, in eval mode, on the CPU."""
        return load_encoder(RunFolder(self.folder))[0]


def train(
    dataset: Any,
    config: Config | Mapping[str, Any] | str | Path,
    *,
    run: str | Path | None = None,
    columns: tuple[str, str] | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    extend: int = 0,
    quiet: bool = False,
    teacher: nn.Module | Teacher | None = None,
) -> TrainedRun:
    """Train an encoder on data of a program, and write the run's folder.

    Data in memory are written into the folder ``data`` of the run as PNG files, so that evaluation and
    export find them later. Images are uint8, or floats from 0 to 1: (H, W), (H, W, 1 or 3), or channels
    first; PIL images too. They are not normalised, and not augmented: the configuration says both.

    Args:
        dataset: The path of a folder or a CSV as for ``--data``; ``(images, labels)``; a map-style torch
            dataset of (image, label); or a Hugging Face dataset.
        config: A configuration, its sections as a mapping, or the path of a TOML file.
        run: The run's folder; None is ``runs/NAME-SEED``.
        columns: The columns of image and subject, for a dataset whose items are mappings.
        cache: Folder of the crops; None is verifykit's own.
        resume: Continue the run in the folder.
        extend: So many epochs more for the finished run in the folder.
        quiet: No progress on standard error.
        teacher: For a configuration with a section ``distillation``: a torch module, in place of the
            teacher that the section names.

    Returns:
        The run, with the weights that its validation chose.

    Raises:
        ConfigError: The configuration holds an unknown key or a value that is not allowed.
        DataError: The data are not images with labels, or too few.
        TrainingError: The run cannot start or continue.
        KeyboardInterrupt: Ctrl-C; the folder has a checkpoint, and ``resume`` continues.
    """
    parsed = _config(config)
    folder = Path(run) if run is not None else Path("runs") / f"{parsed.name}-{parsed.seed}"
    if not (resume or extend):
        RunFolder(folder).require_unused()
    data = Path(dataset) if isinstance(dataset, (str, Path)) else _written(dataset, folder, columns)
    job = TrainingJob(
        parsed,
        data,
        folder,
        Path(cache) if cache is not None else None,
        resume=resume,
        quiet=quiet,
        extend=extend,
        teacher=teacher,
    )
    outcome = train_job(job)
    if outcome.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    if outcome.ended and outcome.is_first_process:
        with shown_stages(quiet=quiet) as stages:
            summarise(RunFolder(folder), data, job.cache, stages=stages)
    return TrainedRun(
        folder=folder,
        data=data,
        config=RunFolder(folder).read_config(),
        epochs=outcome.epoch,
        best_epoch=outcome.best_epoch,
        metric=parsed.validation.metric,
        value=outcome.best,
        ended=outcome.ended,
    )


def _config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return parse_config(config)
    return load_config(Path(config))


def _written(dataset: Any, folder: Path, columns: tuple[str, str] | None) -> Path:
    try:
        return write_images(dataset, folder / "data", columns)
    except OSError as error:
        raise TrainingError(
            f"the images cannot be written to {shown(str(folder / 'data' / LIST))} ({error.strerror}): give "
            "another run"
        ) from error
