"""Training as programs: two processes are one, and a program that is told to stop does so in good order."""

from __future__ import annotations

import os
import signal
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
from safetensors.torch import load_file

from tests.e2e import norm_free_training
from tests.helpers.programs import started, wait_until
from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.loop import train
from verifykit_training.run_folder import Outcome, RunFolder, TrainingJob

CHECKOUT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    data = draw_folder(tmp_path / "data", 12, 6)
    return TrainingJob(small_config(), data, tmp_path / "run", tmp_path / "cache", quiet=True)


def _steps(job: TrainingJob) -> list[dict[str, Any]]:
    return [line for line in RunFolder(job.run).read_metrics() if line["event"] == "step"]


def _program(job: TrainingJob, *arguments: str, script: str = "-m verifykit_training") -> list[str]:
    job.run.parent.mkdir(exist_ok=True)
    file = job.run.parent / f"{job.run.name}.toml"
    file.write_text(job.config.to_toml(), encoding="utf-8")
    places = ["--data", job.data, "--run", job.run, "--cache", job.cache]
    return [sys.executable, *script.split(), "train", *map(str, [file, *places, *arguments])]


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, {"micro_batch": 2}])
def test_two_processes_are_one_with_the_same_batch(
    job: TrainingJob, tmp_path: Path, sections: dict[str, Any]
) -> None:
    # Losses, gradients and weights; by SGD, so that a wrong factor shows.
    config = small_config(
        encoder={"name": "norm_free"},
        sampler={"p": 4, "k": 3},
        loss={"name": "batch_hard"},
        softmax_stage={"epochs": 1},
        optimiser={"name": "sgd", "rate": 0.5, "momentum": 0.5},
        memory={"size": 20, "start_step": 2} if sections else {},
        run={"epochs": 2, "accumulate": 2, "steps_per_epoch": 3, **sections},
    )
    jobs = [replace(job, config=config, run=tmp_path / name) for name in ("one", "two")]
    one, two = jobs
    train(one)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    script = str(Path(norm_free_training.__file__))
    command = _program(two, "--set", "run.devices=2", "--quiet", script=script)
    subprocess.run(command, env=environment, check=True, timeout=250)
    lines = [_steps(job) for job in jobs]
    assert len(lines[0]) == len(lines[1]) == 6
    for alone, together in zip(*lines, strict=True):
        for name in ("loss", "gradient_norm", "active_share", "spread", "valid_terms"):
            assert together[name] == pytest.approx(alone[name], rel=2e-4, abs=1e-6), name
    assert {line["valid_terms"] for line in lines[1]} == {12.0}
    first, second = (load_file(RunFolder(job.run).weights) for job in jobs)
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.timeout(600)  # of a busy machine
def test_a_stopped_program_ends_in_good_order_and_goes_on(job: TrainingJob) -> None:
    job = replace(job, config=small_config(run={"epochs": 4000}))
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    run = RunFolder(job.run)
    with started(_program(job, "--quiet"), environment) as process:
        wait_until(lambda: len(run.read_metrics()) >= 4, process, 300)
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0
    outcome = Outcome(**torch.load(run.last, weights_only=True)["outcome"])
    assert outcome.step > 0
    assert not outcome.ended
    assert _steps(job)[-1]["step"] == outcome.step
    # It may have stopped after an epoch's last step: that epoch and the next.
    further = train(replace(job, resume=True, stop_after=outcome.epoch + 2))
    assert further.step > outcome.step
