"""Send the metrics of a run to other programs: TensorBoard, MLflow, Weights & Biases.

``metrics.jsonl`` is always written; loggers get the same lines. Each writes into a folder of its own below
the run's, and none sends anything over a network unless its own environment variable says so.

To add one, write a class with the methods of `MetricsLogger` and give it a line in ``LOGGERS``.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from verifykit._files import atomic_write
from verifykit.errors import InputError, shown
from verifykit_training.errors import TrainingError, first_line
from verifykit_training.options import hint


class MetricsLogger(Protocol):
    """What gets the metrics of a run."""

    def write(self, event: str, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of an event (``step``, ``validation``, ...) after `step` steps."""

    def close(self) -> None:
        """Write what is held back."""


class TensorBoardLogger:
    """Event files in ``RUN/tensorboard``."""

    def __init__(self, run: Path, _: Mapping[str, Any]) -> None:
        """Open the folder; the configuration is in the run's folder already."""
        # Its C++ parts print a page of notices on import otherwise.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        module = _library("tensorboard", "torch.utils.tensorboard")
        self._writer = module.SummaryWriter(str(run / "tensorboard"))

    def write(self, event: str, step: int, values: Mapping[str, float]) -> None:
        """Add scalars named ``event/name``."""
        for name, value in values.items():
            self._writer.add_scalar(f"{event}/{name}", value, step)

    def close(self) -> None:
        """Flush the files."""
        self._writer.close()


class MlflowLogger:
    """A run of MLflow in files below ``RUN/mlflow``, or where ``MLFLOW_TRACKING_URI`` says."""

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        """Begin a run, or continue that of the folder."""
        # MLflow 3 refuses its file store without the first; the second ends its telemetry.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        client = _library("mlflow", "mlflow.tracking").MlflowClient
        store = run / "mlflow"
        store.mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI", store.absolute().as_uri())
        self._client = client(address)
        stated = store / "run_id"
        if stated.is_file():
            self._run = stated.read_text(encoding="utf-8")
            return
        name = str(config.get("name", run.name))
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._run = self._client.create_run(place, run_name=run.name).info.run_id
        for key, value in _flat(config).items():
            self._client.log_param(self._run, key, value)
        atomic_write(stated, self._run)

    def write(self, event: str, step: int, values: Mapping[str, float]) -> None:
        """Log metrics named ``event/name``."""
        for name, value in values.items():
            self._client.log_metric(self._run, f"{event}/{name}", value, step=step)

    def close(self) -> None:
        """State that the run is over."""
        self._client.set_terminated(self._run)


class WandbLogger:
    """A run of Weights & Biases in ``RUN/wandb``, offline unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        """Begin a run; the same folder gives the same id, so that a resumed run joins it."""
        library = _library("wandb", "wandb")
        run.mkdir(parents=True, exist_ok=True)
        self._run = library.init(
            project=str(config.get("name", run.name)),
            name=run.name,
            id=hashlib.sha256(str(run.absolute()).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(run),
            config=dict(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=library.Settings(silent=True, console="off"),
        )

    def write(self, event: str, step: int, values: Mapping[str, float]) -> None:
        """Log values named ``event/name``; several events of one step join."""
        self._run.log({f"{event}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], MetricsLogger]] = {
    "tensorboard": TensorBoardLogger,
    "mlflow": MlflowLogger,
    "wandb": WandbLogger,
}


def require_loggers(names: list[str]) -> None:
    """Raise InputError for a logger that does not exist."""
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"there is no logger {shown(name)}; {hint(name, LOGGERS)}")


def open_loggers(names: list[str], run: Path, config: Mapping[str, Any]) -> list[MetricsLogger]:
    """Open loggers by name; raise TrainingError for one that is not installed or does not begin."""
    return [_opened(name, run, config) for name in names]


def _opened(name: str, run: Path, config: Mapping[str, Any]) -> MetricsLogger:
    try:
        return LOGGERS[name](run, config)
    except TrainingError:
        raise
    except Exception as error:  # each program raises its own
        raise TrainingError(
            f"run.loggers: {name} could not begin ({first_line(error)}): remove it, or correct its "
            "settings"
        ) from error


def _library(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TrainingError(
            f"run.loggers names {name}, which is not installed ({first_line(error)}): pip install {name}, or "
            "remove it from run.loggers"
        ) from error


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the keys of nested sections with dots between them."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
