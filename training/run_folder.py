"""What a run leaves behind.

``config.toml``, ``weights.safetensors``, ``spec.json``, ``metrics.jsonl`` and ``report/``; beside them
``subjects.json`` (who was trained on, for an honest evaluation) and ``checkpoints/``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoint import write_whole
from training.config import Config
from training.config_file import load_config
from training.errors import TrainingError
from training.learner import input_of
from training.preparation import Prepared
from verifykit.spec import CropSpec, InputSpec
from verifykit.spec.strict_json import build, plain

__all__ = ["EncoderRecord", "Metrics", "RunFolder", "encoder_record"]


@dataclass(frozen=True)
class EncoderRecord:
    """What of a trained encoder becomes the specification of a model file.

    Attributes:
        name: Of the model.
        modality: What it compares.
        licence: SPDX identifier.
        training_data: The sets it was trained on, and their terms.
        embedding_size: D.
        encoder: The encoder's name, for ``build_encoder``.
        options: The encoder's options.
        input: Values that the network is fed.
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
        """Name a run; nothing is made yet.

        Args:
            path: The folder.
        """
        self.path = path
        self.weights = path / "weights.safetensors"
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"
        self.report = path / "report"
        self.metrics = path / "metrics.jsonl"

    def create(self) -> None:
        """Make the folder.

        Raises:
            TrainingError: A run lies there already.
        """
        if self.last.exists() or self.weights.exists():
            raise TrainingError(
                f"{self.path} holds a run already: give --resume to go on with it, or another --run"
            )
        self.last.parent.mkdir(parents=True, exist_ok=True)
        self.metrics.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all.

        Args:
            name: Of the file in the folder.
            text: What it shall hold.
        """
        write_whole(self.path / name, lambda part: _write(part, text))

    def write_record(self, record: EncoderRecord) -> None:
        """Write ``spec.json``."""
        text = json.dumps(plain(record), indent=2, sort_keys=True, allow_nan=False)
        self.write_text("spec.json", text + "\n")

    def read_record(self) -> EncoderRecord:
        """Read ``spec.json``.

        Raises:
            TrainingError: It is not there.
            ModelContractError: It holds something else.
        """
        try:
            body = json.loads((self.path / "spec.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self.path} is no finished run: {error}") from error
        return build(EncoderRecord, body, "spec.json")

    def read_config(self) -> Config:
        """Read ``config.toml``.

        Raises:
            ConfigError: It is not there, or was changed to something that is not allowed.
        """
        return load_config(self.path / "config.toml")

    def read_subjects(self) -> dict[str, list[str]]:
        """The subjects of each split, from ``subjects.json``.

        Raises:
            TrainingError: It is not there.
        """
        try:
            return dict(json.loads((self.path / "subjects.json").read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self.path} is no run: {error}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line that was cut short is left out."""
        if not self.metrics.exists():
            return []
        *whole, _cut_short = self.metrics.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole]


class Metrics:
    """Metrics as JSON lines, and to TensorBoard if it is installed."""

    def __init__(self, run: RunFolder, *, steps: int, tensorboard: bool) -> None:
        """Begin, or go on after a stop.

        Args:
            run: The run's folder.
            steps: Steps that the checkpoint knows; later lines of a run that was killed are dropped.
            tensorboard: Whether to write for TensorBoard too, if it is installed.
        """
        kept = [line for line in run.read_metrics() if line.get("step", 0) <= steps]
        run.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        self._file = run.metrics.open("a", encoding="utf-8")
        self._board = _tensorboard(run.path / "tensorboard") if tensorboard else None

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one line.

        Args:
            event: What kind of line.
            step: Optimiser steps done.
            values: JSON-ready; NaN and infinity become null.
        """
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
    """What a run knows about its result.

    Args:
        config: The run's configuration.
        data: What it was trained on.
        epoch: The epoch of the weights.
        validation: Their validation metric.
    """
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


def _write(part: str, text: str) -> None:
    Path(part).write_text(text, encoding="utf-8")


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
