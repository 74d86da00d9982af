"""`run.precision = "auto"`: measured once, recorded, kept when a run is continued."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extra train", allow_module_level=True)

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.dp import DataParallelStrategy
from safetensors.torch import load_file

from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training import loop
from verifykit_training.errors import TrainingError
from verifykit_training.loop import train
from verifykit_training.precision import PrecisionTimes, set_precision, time_precisions
from verifykit_training.run_folder import RunFolder, TrainingJob

pytestmark = pytest.mark.usefixtures("one_thread")

CHECKOUT = Path(__file__).parents[2]
FAST_BF16, FAST_FLOAT32 = PrecisionTimes(9.0, 4.0), PrecisionTimes(4.0, 9.0)


@pytest.fixture(scope="module")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("people") / "data", 12, 6)


def _job(data: Path, folder: Path, precision: str) -> TrainingJob:
    config = small_config(run={"epochs": 2, "steps_per_epoch": 2, "precision": precision})
    return TrainingJob(config, data, folder, data.parent / "cache", quiet=True)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(folder).weights)


def _same(one: Path, two: Path) -> bool:
    first, second = _weights(one), _weights(two)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def _measured(folder: Path) -> list[dict[str, Any]]:
    return [line for line in RunFolder(folder).read_metrics() if line["event"] == "precision"]


@pytest.mark.parametrize(
    ("times", "chosen"), [(FAST_BF16, "bf16-mixed"), (FAST_FLOAT32, "32-true")]
)
def test_the_faster_precision_trains_as_if_it_had_been_named(
    drawn_people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: PrecisionTimes,
    chosen: str,
) -> None:
    monkeypatch.setattr(loop, "time_precisions", lambda *_: times)
    train(_job(drawn_people, tmp_path / "auto", "auto"))
    train(_job(drawn_people, tmp_path / "named", chosen))
    other = "32-true" if chosen == "bf16-mixed" else "bf16-mixed"
    train(_job(drawn_people, tmp_path / "other", other))
    assert RunFolder(tmp_path / "auto").read_config().run.precision == chosen
    assert _same(tmp_path / "auto", tmp_path / "named")
    assert not _same(tmp_path / "auto", tmp_path / "other")
    (line,) = _measured(tmp_path / "auto")
    assert (line["float32_ms"], line["bf16_ms"]) == (times.float32_ms, times.bf16_ms)
    assert not _measured(tmp_path / "named")


def test_a_resumed_run_keeps_what_was_chosen(
    drawn_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "time_precisions", lambda *_: FAST_BF16)
    whole, parts = (_job(drawn_people, tmp_path / name, "auto") for name in ("whole", "parts"))
    train(whole)
    train(replace(parts, stop_after=1))
    monkeypatch.setattr(loop, "time_precisions", lambda *_: FAST_FLOAT32)
    train(replace(parts, resume=True))
    assert RunFolder(parts.run).read_config().run.precision == "bf16-mixed"
    assert _same(whole.run, parts.run)
    assert len(_measured(parts.run)) == 1


def test_steps_are_really_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    times = time_precisions(config, torch.device("cpu"))
    assert 0.0 < times.float32_ms < 60_000.0
    assert 0.0 < times.bf16_ms < 60_000.0
    assert times.faster == ("bf16-mixed" if times.bf16_ms < times.float32_ms else "32-true")
    assert f"{times.bf16_ms:.0f} ms in bf16-mixed" in times.sentence
    assert torch.equal(torch.random.get_rng_state(), before)
    used: list[tuple[Any, ...]] = []
    autocast = torch.autocast

    def noted(*given: Any) -> torch.autocast:
        used.append(given)
        return autocast(*given)

    monkeypatch.setattr(torch, "autocast", noted)
    time_precisions(config, torch.device("cpu"))
    assert used == [("cpu", torch.bfloat16)] * 4  # one to warm up, three that count


def test_a_strategy_with_precisions_of_its_own_is_refused() -> None:
    strategy = DataParallelStrategy(parallel_devices=[torch.device("cpu")])
    fabric = Fabric(accelerator="cpu", strategy=strategy)
    with pytest.raises(TrainingError, match="name a precision"):
        set_precision(fabric, "bf16-mixed")


@pytest.mark.slow
def test_every_process_takes_what_the_first_one_measured(
    drawn_people: Path, tmp_path: Path
) -> None:
    run = {"epochs": 1, "steps_per_epoch": 2, "precision": "auto", "devices": 2}
    config = small_config(sampler={"p": 4, "k": 3}, run=run)
    job = replace(_job(drawn_people, tmp_path / "two", "auto"), config=config)
    file = tmp_path / "two.toml"
    file.write_text(job.config.to_toml(), encoding="utf-8")
    places = ["--data", job.data, "--run", job.run, "--cache", job.cache]
    command = [sys.executable, "-m", "verifykit_training", "train", file, *places, "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*map(str, command)], env=environment, check=True, timeout=250)
    (line,) = _measured(job.run)
    expected = PrecisionTimes(line["float32_ms"], line["bf16_ms"]).faster
    assert RunFolder(job.run).read_config().run.precision == expected
