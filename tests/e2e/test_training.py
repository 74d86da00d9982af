"""Whole runs on drawn people: what is left behind, resuming, stopping, several processes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extra train", allow_module_level=True)

import torch
from safetensors.torch import load_file

from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training import learner
from verifykit_training.encoders import EmbeddingNetwork, build_encoder, parameter_groups
from verifykit_training.errors import ConfigError, TrainingError
from verifykit_training.evaluation import (
    embed_records,
    evaluate_verification,
    load_encoder,
    records_of,
)
from verifykit_training.loop import train
from verifykit_training.reporting import summarise
from verifykit_training.run_folder import RunFolder, TrainingJob

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("people") / "data", 12, 6)


@pytest.fixture
def job(drawn_people: Path, tmp_path: Path) -> TrainingJob:
    cache = drawn_people.parent / "cache"
    return TrainingJob(small_config(), drawn_people, tmp_path / "run", cache, quiet=True)


def _with(job: TrainingJob, **sections: Any) -> TrainingJob:
    return replace(job, config=small_config(**sections))


def _metrics(job: TrainingJob, event: str) -> list[dict[str, Any]]:
    return [line for line in RunFolder(job.run).read_metrics() if line["event"] == event]


def _weights(job: TrainingJob) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(job.run).weights)


def _assert_same(first: TrainingJob, second: TrainingJob) -> None:
    """Every weight, buffer, moment and counter of two runs, to the bit."""
    one, two = (torch.load(RunFolder(job.run).last, weights_only=True) for job in (first, second))
    assert one["outcome"] == two["outcome"]
    leaves = [torch.utils._pytree.tree_leaves(state["learner"]) for state in (one, two)]
    assert len(leaves[0]) == len(leaves[1]) > 40
    for a, b in zip(*leaves, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


EVERYTHING: dict[str, Any] = {
    "augmentation": {"preset": "face"},
    "softmax_stage": {"epochs": 1},
    "optimiser": {"rate": 3e-3, "frozen_epochs": 1, "backbone_rate": 1e-3, "clip_norm": 1.0},
    "schedule": {"warm_up_steps": 3},
    "run": {"epochs": 4, "ema_decay": 0.9, "accumulate": 2, "steps_per_epoch": 3},
}


def test_a_run_learns_and_leaves_everything_behind(job: TrainingJob, tmp_path: Path) -> None:
    sections = {
        "seed": 1,
        "data": {"test_share": 0.25},
        "sampler": {"p": 8, "k": 3},
        "softmax_stage": {"epochs": 6, "scale": 16.0},
        "run": {"epochs": 12},
    }
    job = replace(_with(job, **sections), data=draw_folder(tmp_path / "data", 32, 6))
    outcome = train(job)
    run = RunFolder(job.run)
    assert outcome.ended
    assert outcome.best is not None
    assert not outcome.collapsed
    assert run.read_config() == job.config
    record = run.read_record()
    assert (record.encoder, record.embedding_size, record.epoch) == ("cnn5", 16, outcome.best_epoch)
    assert record.validation == outcome.best == min(v["eer"] for v in _metrics(job, "validation"))
    assert (record.trained_subjects, record.trained_images) == (16, 96)
    assert run.last.is_file()
    assert {path.name for path in run.last.parent.iterdir()} == {"last.pt", "last.before.pt"}

    test = records_of(run, job.data, "held_out")
    splits = run.read_subjects()
    assert {r.subject for r in test} == set(splits["test"])
    assert sorted(name for names in splits.values() for name in names) == [
        f"s{i:02}" for i in range(32)
    ]
    rates = {}
    for untrained in (True, False):
        encoder, config = load_encoder(run, untrained=untrained)
        rows, records, refused = embed_records(encoder, config, test, job.cache)
        assert not refused
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
        rates[untrained] = evaluate_verification(rows, records)[0].eer
    assert rates[False] < 0.75 * rates[True]

    summarise(run, job.data, job.cache)
    pictures = {path.name for path in run.report.glob("*.png")}
    assert pictures == {"training.png", "scores.png", "det.png", "embeddings.png"}
    report = json.loads((run.report / "report.json").read_text())
    assert report["part"] == "validation"
    assert report["after_training"]["eer"] == pytest.approx(outcome.best)


def test_four_epochs_are_two_and_two(job: TrainingJob, tmp_path: Path) -> None:
    whole = _with(job, **EVERYTHING)
    train(whole)
    halves = replace(whole, run=tmp_path / "halves")
    first = train(replace(halves, stop_after=2))
    assert (first.epoch, first.ended) == (2, False)
    second = train(replace(halves, resume=True))
    assert (second.epoch, second.ended) == (4, True)
    _assert_same(whole, halves)
    for key, value in _weights(whole).items():
        assert torch.equal(value, _weights(halves)[key])
    steps = [line["step"] for line in _metrics(halves, "step")]
    assert steps == list(range(1, 13))


LARGE: dict[str, Any] = {
    **EVERYTHING,
    "memory": {"size": 20, "start_step": 4},
    "run": {**EVERYTHING["run"], "micro_batch": 4, "recompute_activations": True},
}


def test_large_batches_resume_and_average_too(job: TrainingJob, tmp_path: Path) -> None:
    whole = _with(job, **LARGE)
    train(whole)
    halves = replace(whole, run=tmp_path / "halves")
    train(replace(halves, stop_after=2))
    train(replace(halves, resume=True))
    _assert_same(whole, halves)
    for key, value in _weights(whole).items():
        assert torch.equal(value, _weights(halves)[key])
    steps = _metrics(whole, "step")
    # After step 4, and the softmax stage is the first three.
    assert [step["step"] for step in steps if "memory_loss" in step] == list(range(5, 13))
    state = torch.load(RunFolder(halves.run).last, weights_only=True)["learner"]["modules"]
    assert int(state["memory"]["seen"]) == 8 * 2 * 9
    norms = [value for key, value in state["encoder"].items() if "num_batches" in key]
    assert norms
    # The backbone was frozen for the first epoch of 3 steps; 3 micro-batches of each of 2 batches.
    assert {int(value) for value in norms} == {9 * 2 * 3}


def test_a_run_killed_in_an_epoch_goes_on_from_its_last_checkpoint(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = EVERYTHING | {"run": {**EVERYTHING["run"], "save_every_steps": 2}}
    whole = _with(job, **sections)
    train(whole)
    killed = replace(whole, run=tmp_path / "killed")
    take_step = learner.Learner.take_step
    steps = iter(range(100))

    def dies(self: learner.Learner, factor: float) -> torch.Tensor:
        if next(steps) == 5:
            raise KeyboardInterrupt
        return take_step(self, factor)

    monkeypatch.setattr(learner.Learner, "take_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(killed)
    monkeypatch.setattr(learner.Learner, "take_step", take_step)
    outcome = train(replace(killed, resume=True))
    assert outcome.step == 12
    _assert_same(whole, killed)


def test_a_run_is_neither_overwritten_nor_continued_as_another(
    job: TrainingJob, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        train(replace(job, resume=True))
    train(replace(job, stop_after=1))
    with pytest.raises(TrainingError, match="already holds a run: give --resume"):
        train(job)
    with pytest.raises(ConfigError, match=r"differs .* in optimiser"):
        train(replace(_with(job, optimiser={"rate": 1e-4}), resume=True))
    other = draw_folder(tmp_path / "other", 11, 6)
    with pytest.raises(TrainingError, match="are not those of the run"):
        train(replace(job, data=other, resume=True))


def test_nan_stops_the_run_and_names_the_batch(job: TrainingJob) -> None:
    job = _with(job, optimiser={"rate": 1e30, "name": "sgd"}, run={"epochs": 6})
    with pytest.raises(
        TrainingError, match=r"is (nan|inf) in epoch .*The batch was: .*s\d\d/\d\.png"
    ):
        train(job)


def test_collapse_is_said_and_written_down(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collapsed(name: str, **options: Any) -> EmbeddingNetwork:
        encoder = build_encoder(name, **options)
        torch.nn.init.zeros_(encoder.head.weight)
        torch.nn.init.ones_(encoder.head.bias)
        return encoder

    monkeypatch.setattr(learner, "build_encoder", collapsed)
    sections = {
        "loss": {"name": "batch_hard", "margin": 0.5, "metric": "squared_l2"},
        "optimiser": {"rate": 1e-12},
        "run": {"epochs": 1, "steps_per_epoch": 35},
    }
    job = _with(job, **sections)
    assert train(job).collapsed
    (line,) = _metrics(job, "collapse")
    assert line["step"] == 29  # steps done before the thirtieth
    assert line["spread"] == pytest.approx(0.0, abs=1e-5)
    assert _metrics(job, "step")[-1]["loss"] == pytest.approx(0.5, abs=1e-4)


def test_without_gain_it_stops_early_and_keeps_the_best(job: TrainingJob) -> None:
    job = _with(job, optimiser={"rate": 1e-12}, validation={"patience": 2}, run={"epochs": 30})
    outcome = train(job)
    rates = [line["eer"] for line in _metrics(job, "validation")]
    # Only the batch norms' statistics move.
    assert outcome.best_epoch == int(np.argmin(rates)) + 1
    assert (outcome.epoch, outcome.ended) == (outcome.best_epoch + 2, True)
    assert train(replace(job, resume=True)).epoch == outcome.epoch


def test_a_frozen_backbone_stays_as_it_was_and_the_head_learns(job: TrainingJob) -> None:
    job = _with(job, optimiser={"frozen_epochs": 1}, run={"epochs": 1})
    train(job)
    torch.manual_seed(job.config.seed)
    start = build_encoder("cnn5", embedding_size=16, weights="none").state_dict()
    for key, value in _weights(job).items():
        assert torch.equal(value, start[key]) is key.startswith("backbone")
    job = replace(_with(job, run={"epochs": 1}), run=job.run.parent / "released")
    train(job)
    moved = [not torch.equal(value, start[key]) for key, value in _weights(job).items()]
    assert np.mean(moved) > 0.9


def test_the_softmax_stage_comes_first(job: TrainingJob) -> None:
    train(_with(job, softmax_stage={"epochs": 1}))
    kinds = [(line["epoch"], "accuracy" in line) for line in _metrics(job, "step")]
    assert set(kinds) == {(1, True), (2, False)}


def test_accumulated_batches_make_the_gradient_of_their_mean(job: TrainingJob) -> None:
    job = _with(
        job,
        optimiser={"name": "sgd", "rate": 0.1, "momentum": 0.0, "weight_decay": 0.0},
        schedule={"name": "constant"},
        run={"epochs": 1, "steps_per_epoch": 1, "accumulate": 3},
    )
    train(job)
    from verifykit_training.batches import BatchPlan, build_loader
    from verifykit_training.learner import input_of
    from verifykit_training.losses import build_loss
    from verifykit_training.preparation import build_sampler, prepare

    data = prepare(job.config, job.data, input_of(job.config), job.cache)
    plan = BatchPlan(
        build_sampler(job.config, data.train.records, data.train.labels, None), batches=3, seed=0
    )
    torch.manual_seed(0)
    encoder = build_encoder("cnn5", embedding_size=16, weights="none").train()
    encoder.to(memory_format=torch.channels_last)  # as the loop has it
    loss = build_loss("batch_all")
    batches = list(build_loader(data.train, plan, 0))
    total = sum(loss(encoder(batch.images), batch.labels).loss for batch in batches) / 3
    total.backward()
    with torch.no_grad():
        for part in parameter_groups(encoder).values():
            for parameter in part:
                parameter -= 0.1 * parameter.grad
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(_weights(job)[key], value, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["balanced_triplets", "triplet_file"])
def test_explicit_triplets(job: TrainingJob, name: str, tmp_path: Path) -> None:
    people = sorted(path for path in job.data.iterdir())
    lines = [
        f"{people[i] / '0.png'},{people[i] / '1.png'},{people[(i + 1) % 12] / '2.png'}"
        for i in range(12)
    ]
    triplets = tmp_path / "triplets.csv"
    triplets.write_text("\n".join(["anchor,positive,negative", *lines]))
    config = {"loss": {"name": "triplet"}, "sampler": {"name": name, "triplets": 3}}
    outcome = train(replace(_with(job, **config), triplets=triplets))
    assert outcome.ended
    assert all(line["valid_terms"] in (1, 2, 3) for line in _metrics(job, "step"))


def test_mixed_precision_trains(job: TrainingJob) -> None:
    outcome = train(_with(job, run={"precision": "bf16-mixed"}))
    assert outcome.best is not None
    assert all(value.dtype != torch.bfloat16 for value in _weights(job).values())
