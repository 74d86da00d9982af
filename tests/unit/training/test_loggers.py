"""Loggers: one protocol, into folders of the run, nothing over a network by itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.drawing import small_config
from verifykit_training import loggers
from verifykit_training.errors import ConfigError, TrainingError
from verifykit_training.loggers import open_loggers
from verifykit_training.run_folder import Metrics, RunFolder

CONFIG = small_config().model_dump(exclude_none=True)


class Recording:
    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        self.run, self.config, self.lines, self.is_closed = run, config, [], False  # type: ignore[var-annotated]

    def write(self, event: str, step: int, values: Mapping[str, float]) -> None:
        self.lines.append((event, step, dict(values)))

    def close(self) -> None:
        self.is_closed = True


def test_a_logger_gets_the_numbers_of_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loggers.LOGGERS, "recording", Recording)
    (found,) = open_loggers(["recording"], tmp_path, CONFIG)
    assert isinstance(found, Recording)
    assert (found.run, found.config["loss"]["name"]) == (tmp_path, "batch_all")
    metrics = Metrics(RunFolder(tmp_path), steps=0, loggers=[found])
    metrics.write("begun", 0, {"images": 36, "refused": {"a.png": "no face"}})
    metrics.write("step", 1, {"loss": 0.5, "spread": float("nan")})
    metrics.close()
    assert found.lines == [("begun", 0, {"images": 36}), ("step", 1, {"loss": 0.5})]
    assert found.is_closed


def test_an_unknown_logger_is_found_before_the_run() -> None:
    with pytest.raises(ConfigError, match="there is no logger 'wandbb'; did you mean 'wandb'"):
        small_config(run={"loggers": ["wandbb"]})


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_a_missing_library_is_said_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    for module in (name, "torch.utils.tensorboard", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        TrainingError, match=f"run.loggers names {name}, .*pip install {name}"
    ) as caught:
        open_loggers([name], tmp_path, CONFIG)
    assert "\n" not in str(caught.value)


def test_tensorboard_writes_below_the_run(tmp_path: Path) -> None:
    if not find_spec("tensorboard"):
        pytest.skip("needs tensorboard")
    metrics = Metrics(
        RunFolder(tmp_path), steps=0, loggers=open_loggers(["tensorboard"], tmp_path, CONFIG)
    )
    metrics.write("step", 1, {"loss": 0.5})
    metrics.close()
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.filterwarnings("ignore")
def test_mlflow_writes_files_below_the_run_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not find_spec("mlflow"):
        pytest.skip("needs mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (1, 2):
        (found,) = open_loggers(["mlflow"], tmp_path, CONFIG)
        found.write("step", step, {"loss": 1 / step})
        found.close()
    MlflowClient = pytest.importorskip("mlflow.tracking").MlflowClient  # noqa: N806

    client = MlflowClient((tmp_path / "mlflow").as_uri())
    run = (tmp_path / "mlflow" / "run_id").read_text()
    history = client.get_metric_history(run, "step/loss")
    assert [(each.step, each.value) for each in history] == [(1, 1.0), (2, 0.5)]
    assert client.get_run(run).data.params["loss.name"] == "batch_all"


@pytest.mark.filterwarnings("ignore")
def test_wandb_is_offline_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not find_spec("wandb"):
        pytest.skip("needs wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (found,) = open_loggers(["wandb"], tmp_path / "run", CONFIG)
    assert found._run.settings._offline  # type: ignore[attr-defined]
    found.write("step", 1, {"loss": 0.5})
    found.close()
    assert [path.name for path in (tmp_path / "run" / "wandb").glob("offline-run-*")]
    assert "WANDB_MODE" not in os.environ
