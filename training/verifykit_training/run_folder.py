"""The job of a run, its progress, and the files in its folder.

``config.toml``, ``weights.safetensors``, ``spec.json``, ``metrics.jsonl`` and ``report/``; next to them
``subjects.json`` (the subjects of each split, for an honest evaluation) and ``checkpoints/``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from verifykit._files import atomic_file, atomic_write
from verifykit.errors import shortened
from verifykit.spec import CropSpec, InputSpec
from verifykit.spec.strict_json import build, plain
from verifykit_training.config import Config, load_config
from verifykit_training.errors import TrainingError
from verifykit_training.learner import input_of
from verifykit_training.preparation import Prepared


@dataclass(frozen=True)
class TrainingJob:
    """A configuration, its data and the folder of the run.

    Attributes:
        config: As the TOML file states it.
        data: A folder with a folder for each subject, or a CSV.
        run: The run's folder.
        cache: Folder of the crops; None is verifykit's own.
        triplets: A CSV of triplets, for ``sampler.name = "triplet_file"``.
        resume: Continue the run in the folder.
        stop_after: Stop with a checkpoint after this number of epochs; the schedule covers all.
        quiet: No progress on standard error.
    """

    config: Config
    data: Path
    run: Path
    cache: Path | None = None
    triplets: Path | None = None
    resume: bool = False
    stop_after: int | None = None
    quiet: bool = False


@dataclass
class Outcome:
    """The progress of a run, also stored in checkpoints.

    Attributes:
        epoch: Epochs done.
        batch: Steps done in the epoch under way.
        step: Optimiser steps done.
        best_epoch: The epoch, from 1, whose weights are kept; 0 before the first validation.
        best: Its validation metric; None without validation.
        without_gain: Validations since.
        ended: Whether there is nothing left to do.
        collapsed: Whether collapse was said.
        is_first_process: Whether this is the process that writes.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: float | None = None
    without_gain: int = 0
    ended: bool = False
    collapsed: bool = False
    is_first_process: bool = True


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the file before it stays until this one is on the disk.

    Args:
        path: Where to.
        state: Tensors, numbers, strings, and lists and dicts of them.
    """
    with atomic_file(path) as part:
        torch.save(state, part)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {shortened(path)}: nothing to resume"
        ) from error
    except Exception as error:  # torch raises many kinds on a damaged file
        raise TrainingError(f"{shortened(path)} is not a readable checkpoint: {error}") from error
    return dict(state)


def save_weights(path: Path, encoder: nn.Module) -> None:
    """Write an encoder's weights and buffers as safetensors.

    Args:
        path: Where to.
        encoder: The module.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    with atomic_file(path) as part:
        save_file(state, part)


def load_weights(path: Path, encoder: nn.Module) -> None:
    """Load weights that :func:`save_weights` wrote, key by key."""
    try:
        encoder.load_state_dict(load_file(path), strict=True)
    except Exception as error:  # safetensors and torch have no common one
        raise TrainingError(
            f"{shortened(path)} does not fit the encoder, or is damaged: {error}"
        ) from error


@dataclass(frozen=True)
class EncoderRecord:
    """What a trained encoder contributes to the specification of its model file.

    Attributes:
        name: Of the model.
        modality: What it compares.
        licence: SPDX identifier.
        training_data: The sets it was trained on, and their terms.
        embedding_size: D.
        encoder: The encoder's name, for ``build_encoder``.
        options: The encoder's options.
        input: Input values of the network.
        crop: Geometry from image to crop.
        detector_model: The model that lends a five_point crop its detector; None for other crops.
        trained_images: How many images it was trained on.
        trained_subjects: Of how many subjects.
        epoch: The epoch whose weights these are, from 1; 0 before training.
        metric: The validation metric by which it was chosen.
        validation: That metric's value; None without validation.
    """

    name: str
    modality: str
    licence: str
    training_data: str
    embedding_size: int
    encoder: str
    options: dict  # type: ignore[type-arg]  # the strict reader knows plain types
    input: InputSpec
    crop: CropSpec
    detector_model: str | None
    trained_images: int
    trained_subjects: int
    epoch: int
    metric: str
    validation: float | None


class RunFolder:
    """Paths of a run, and the small files in it.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Set the paths, without creating anything."""
        self.path = path
        self.weights = path / "weights.safetensors"
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"
        self.report = path / "report"
        self.metrics = path / "metrics.jsonl"

    def create(self) -> None:
        """Create the folder; raise TrainingError if it holds a run."""
        if self.last.exists() or self.weights.exists():
            raise TrainingError(
                f"{shortened(self.path)} already holds a run: give --resume to continue it, or another --run"
            )
        self.last.parent.mkdir(parents=True, exist_ok=True)
        self.metrics.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all.

        Args:
            name: Of the file in the folder.
            text: What it shall hold.
        """
        atomic_write(self.path / name, text)

    def write_record(self, record: EncoderRecord) -> None:
        """Write ``spec.json``."""
        text = json.dumps(plain(record), indent=2, sort_keys=True, allow_nan=False)
        self.write_text("spec.json", text + "\n")

    def read_record(self) -> EncoderRecord:
        """Read ``spec.json``."""
        try:
            body = json.loads((self.path / "spec.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{shortened(self.path)} is not a finished run: {error}") from error
        return build(EncoderRecord, body, "spec.json")

    def read_config(self) -> Config:
        """Read ``config.toml``."""
        return load_config(self.path / "config.toml")

    def read_subjects(self) -> dict[str, list[str]]:
        """Read the subjects of each split from ``subjects.json``."""
        try:
            return dict(json.loads((self.path / "subjects.json").read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{shortened(self.path)} is not a run: {error}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines of ``metrics.jsonl``, without a last line that was cut short."""
        if not self.metrics.exists():
            return []
        *whole, _cut_short = self.metrics.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole]


class Metrics:
    """Metrics as JSON lines, and to TensorBoard if it is installed."""

    def __init__(self, run: RunFolder, *, steps: int, tensorboard: bool) -> None:
        """Begin, or continue after ``steps`` steps: later lines, of a run that was killed, are dropped."""
        kept = [line for line in run.read_metrics() if line.get("step", 0) <= steps]
        run.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        self._file = run.metrics.open("a", encoding="utf-8")
        self._board = _tensorboard(run.path / "tensorboard") if tensorboard else None

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one line."""
        clean = {key: _finite(value) for key, value in values.items()}
        self._file.write(json.dumps({"event": event, "step": step, **clean}) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in clean.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{event}/{key}", value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def encoder_record(
    config: Config, data: Prepared, epoch: int, validation: float | None
) -> EncoderRecord:
    """What a run knows about its result."""
    return EncoderRecord(
        name=config.name,
        modality=config.modality,
        licence=config.licence,
        training_data=config.training_data,
        embedding_size=config.encoder.embedding_size,
        encoder=config.encoder.name,
        options=config.encoder.options,
        input=input_of(config),
        crop=data.crop,
        detector_model=config.crop.detector if config.crop.kind == "five_point" else None,
        trained_images=len(data.train),
        trained_subjects=len(data.subjects),
        epoch=epoch,
        metric=config.validation.metric,
        validation=validation,
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensorboard(folder: Path) -> Any:
    # Its C++ parts print a page of notices on import otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
