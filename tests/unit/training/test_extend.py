"""A finished run is given more epochs, and is then the run that had them from the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.errors import ConfigError, TrainingError
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("people"), subjects=8, images=4)


def job(people: Path, run: Path, epochs: int, **sections: dict[str, object]) -> TrainingJob:
    body = {"schedule": {"name": "constant"}, "data": {"validation_share": 0.0}, **sections}
    config = small_config(**body, run={"epochs": epochs, "steps_per_epoch": 3})
    return TrainingJob(config, people, run, people.parent / "crops", quiet=True)


def test_two_epochs_and_two_more_are_four(people: Path, tmp_path: Path) -> None:
    train(job(people, tmp_path / "four", 4))
    two = job(people, tmp_path / "two", 2)
    assert train(two).epoch == 2
    outcome = train(replace(two, extend=2))
    assert (outcome.epoch, outcome.ended) == (4, True)
    four, extended = (RunFolder(tmp_path / name) for name in ("four", "two"))
    left, right = load_file(four.weights), load_file(extended.weights)
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert extended.read_config().run.epochs == 4
    assert extended.read_record().epoch == 4
    lines = extended.read_metrics()
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(1, 13))
    assert [line["step"] for line in lines if line["event"] == "extended"] == [6]


def test_an_extension_that_was_stopped_is_resumed(people: Path, tmp_path: Path) -> None:
    first = job(people, tmp_path / "run", 1)
    train(first)
    stopped = train(replace(first, extend=2, stop_after=2))
    assert (stopped.epoch, stopped.ended) == (2, False)
    config = RunFolder(first.run).read_config()
    assert train(replace(first, config=config, resume=True)).epoch == 3


def test_what_is_not_finished_is_not_extended(people: Path, tmp_path: Path) -> None:
    begun = job(people, tmp_path / "run", 3)
    train(replace(begun, stop_after=1))
    with pytest.raises(TrainingError, match=r"epoch 1 of 3 is done\): continue it with --resume"):
        train(replace(begun, extend=1))
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        train(replace(begun, run=tmp_path / "none", extend=1))


def test_a_run_with_other_epochs_says_how_to_extend(people: Path, tmp_path: Path) -> None:
    done = job(people, tmp_path / "run", 1)
    train(done)
    with pytest.raises(ConfigError, match=r"in run\.epochs; .*; --extend gives"):
        train(replace(job(people, done.run, 3), resume=True))
    with pytest.raises(ConfigError, match=r"differs .* in optimiser\.rate, run\.epochs;"):
        train(replace(job(people, done.run, 3, optimiser={"rate": 1e-4}), resume=True))
    with pytest.raises(ConfigError, match=r"differs .* in optimiser\.rate;"):
        train(replace(job(people, done.run, 1, optimiser={"rate": 1e-4}), extend=1))
