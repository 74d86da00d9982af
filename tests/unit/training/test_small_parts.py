"""Schedule, average, checkpoints, monitor, scores, classifiers, metrics file."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from verifykit.evaluation.tiles import ScoreBins
from verifykit.metrics import equal_error_rate
from verifykit_training.collapse import CollapseMonitor, require_finite
from verifykit_training.config import ScheduleConfig
from verifykit_training.dataset import Record
from verifykit_training.errors import DataError, TrainingError
from verifykit_training.evaluation import classify, evaluate_verification
from verifykit_training.learner import build_average
from verifykit_training.loop import stop_signals
from verifykit_training.reporting import draw_det, draw_scores
from verifykit_training.run_folder import (
    Metrics,
    RunFolder,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from verifykit_training.schedule import rate_factor


def test_the_cosine_is_torchs() -> None:
    schedule = ScheduleConfig(name="cosine", floor=0.1)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=50, eta_min=0.1)
    for step in range(51):
        assert rate_factor(schedule, step, 50, 10) == pytest.approx(peer.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        peer.step()


def test_steps_and_warm_up() -> None:
    schedule = ScheduleConfig(name="step", step_epochs=[2, 4], step_factor=0.5, warm_up_steps=3)
    factors = [rate_factor(schedule, step, 60, 10) for step in (0, 1, 2, 3, 19, 20, 39, 40, 59)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert rate_factor(ScheduleConfig(name="constant"), 59, 60, 10) == 1.0


def test_the_average_takes_in_weights_and_buffers() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = build_average(module, 0.9)
    expected: dict[str, torch.Tensor] = {}
    for update in range(30):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += torch.randn_like(parameter)
        module(torch.randn(8, 3))
        average.update_parameters(module)
        # The first update copies, then the decay rises to its limit.
        decay = min(0.9, (1 + update) / (10 + update)) if update else 0.0
        for name, value in module.state_dict().items():
            old = expected.get(name, value)
            mixed = decay * old + (1 - decay) * value if value.is_floating_point() else value
            expected[name] = mixed.clone()
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert not average.module.training


def _state(step: int) -> dict[str, object]:
    return {"outcome": {"step": step}, "data": "", "learner": {"weights": torch.ones(3)}}


def test_a_checkpoint_is_whole_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, _state(1))

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(TrainingError, match=r"cannot be written .no space left.*are kept"):
        save_checkpoint(path, _state(2))
    assert load_checkpoint(path)["outcome"] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(TrainingError, match="nothing to resume"):
        load_checkpoint(tmp_path / "other.pt")


def test_weights_return_as_they_were_and_fit_one_network_only(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    module, other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_weights(path, module)
    load_weights(path, other)
    assert torch.equal(module.weight, other.weight)
    with pytest.raises(TrainingError, match="does not fit"):
        load_weights(path, nn.Linear(3, 4))


def test_collapse_is_said_once_when_it_lasts() -> None:
    monitor = CollapseMonitor(least_spread=0.01, steps=3)
    apart = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
    point = apart[:1].expand(20, 8)
    assert monitor.update(apart)[0] == pytest.approx(
        0.5 * float(torch.cdist(apart, apart).square().mean()), abs=1e-5
    )
    said = [monitor.update(batch)[1] for batch in (point, point, apart, point, point, point, point)]
    assert said == [False] * 5 + [True, False]
    assert monitor.collapsed
    monitor.update(apart)
    assert not monitor.collapsed


def test_nan_names_the_batch() -> None:
    records = [Record(Path(f"{i}.png"), "s") for i in range(60)]
    rows = torch.arange(5, 50)
    options = {"epoch": 2, "step": 7, "records": records, "rows": rows}
    require_finite(torch.tensor(1.0), "loss", **options)  # type: ignore[arg-type]
    with pytest.raises(
        TrainingError, match=r"the loss is nan in epoch 2 after 7 steps.*: 5\.png.* and 5 more"
    ):
        require_finite(torch.tensor(math.nan), "loss", **options)  # type: ignore[arg-type]


def test_a_signal_sets_the_event_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_pairs_are_sorted_by_kind() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = rng.integers(0, 5, 30).astype(str).tolist()
    forged = (rng.random(30) < 0.3).tolist()
    expected: dict[str, list[float]] = {"mated": [], "random": [], "skilled": []}
    for i in range(30):
        for j in range(i + 1, 30):
            same = labels[i] == labels[j]
            if not forged[i] and not forged[j]:
                expected["mated" if same else "random"].append(float(rows[i] @ rows[j]))
            elif same and forged[i] != forged[j]:
                expected["skilled"].append(float(rows[i] @ rows[j]))
    records = [Record(Path(name), name, fake) for name, fake in zip(labels, forged, strict=True)]
    rates, scores = evaluate_verification(rows, records)
    edges = np.linspace(-1.0, 1.0, 9)
    for kind, values in expected.items():
        assert scores.size(kind) == len(values)
        assert scores.histogram(kind, edges).tolist() == np.histogram(values, edges)[0].tolist()
    for kind, eer in (("random", rates.eer), ("skilled", rates.skilled_eer)):
        assert eer == equal_error_rate(expected["mated"], expected[kind]).eer
        curve = scores.det_curve(kind)
        mated, others = (np.array(expected[each]) for each in ("mated", kind))
        for at in range(0, len(curve.thresholds), 7):
            assert curve.fmr[at] == (others >= curve.thresholds[at]).mean()
            assert curve.fnmr[at] == (mated < curve.thresholds[at]).mean()


def test_classifiers_tell_apart_what_is_apart() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6, 8)
    names = [f"s{i}" for i in range(6) for _ in range(10)]
    records = [Record(Path(f"{i}"), name) for i, name in enumerate(names)]
    rows = (centres.repeat(10, 0) + rng.normal(0, 0.05, (60, 8))).astype(np.float32)
    found = classify(rows, records, subjects=5)
    assert (found.classes, found.train_images, found.test_images) == (5, 25, 25)
    assert (found.linear, found.neighbours) == (1.0, 1.0)
    shuffled = rng.permutation(rows)
    assert classify(shuffled, records).linear < 0.5
    few = [*records[:11]]
    assert classify(rows[:20], records[:20], test_share=0.01).test_images == 2
    with pytest.raises(DataError, match=r"1 subject\(s\) have two images"):
        classify(rows[:11], few)


def test_metrics_after_the_checkpoint_are_dropped_and_nan_is_null(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    metrics = Metrics(run, steps=0)
    for step in range(1, 6):
        metrics.write("step", step, {"loss": math.nan if step == 2 else 0.5})
    metrics.close()
    with run.metrics.open("a") as file:
        file.write('{"event": "st')
    Metrics(run, steps=3).close()
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    assert run.read_metrics()[1]["loss"] is None
    assert all(json.loads(line) for line in run.metrics.read_text().splitlines())


@pytest.mark.parametrize("score", [1.0000001, 1.0, -1.0])
def test_the_scores_of_a_collapsed_network_are_drawn(tmp_path: Path, score: float) -> None:
    ones = np.full(50, score, np.float32)
    scores = ScoreBins.of({"mated": ones, "random": ones})
    draw_scores(tmp_path / "scores.png", scores, "people")
    draw_det(tmp_path / "det.png", [("collapsed", scores)], "people")
    assert (tmp_path / "scores.png").stat().st_size > 1000
    assert (tmp_path / "det.png").stat().st_size > 1000
