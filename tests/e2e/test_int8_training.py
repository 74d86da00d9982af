"""A finished run is fine-tuned with the rounding of int8, resumed, and exported."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch
from safetensors.torch import load_file

from tests.unit.export.commands import command
from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST: dict[str, Any] = {
    "data": {"validation_share": 0.5},
    "sampler": {"p": 8, "k": 3},
    "loss": {"name": "supervised_contrastive"},
    "run": {"epochs": 2, "steps_per_epoch": 20},
}


def test_a_run_is_fine_tuned_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, cache = draw_folder(tmp_path / "people", 16, 6), tmp_path / "crops"
    first = TrainingJob(small_config(**FIRST), data, tmp_path / "first", cache, quiet=True)
    train(first)
    sections = FIRST | {
        "encoder": {"weights": str(first.run)},
        "quantisation": {},
        "optimiser": {"rate": 3e-4},
        "run": {"epochs": 2, "steps_per_epoch": 5, "ema_decay": 0.9},
    }
    whole = replace(first, config=small_config(**sections), run=tmp_path / "whole")
    parts = replace(whole, run=tmp_path / "parts")
    assert train(whole).best is not None
    train(replace(parts, stop_after=1))
    train(replace(parts, resume=True))

    before, after = (load_file(RunFolder(job.run).weights) for job in (first, whole))
    for key, value in after.items():
        stands_still = "running" in key or key.endswith("num_batches_tracked")
        assert torch.equal(value, before[key]) is stands_still, key
    states = [torch.load(RunFolder(job.run).last, weights_only=True) for job in (whole, parts)]
    modules = [state["learner"]["modules"] for state in states]
    assert modules[0]["quantisation"]["ranges"].isfinite().all()
    for one, two in zip(*map(torch.utils._pytree.tree_leaves, modules), strict=True):
        assert torch.equal(one, two)

    options = ("--data", data, "--cache", cache, "--precision", "int8", "--json")
    assert command(monkeypatch, whole.run, tmp_path / "int8.onnx", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["precision"] == "int8"
    assert report["rates"]["eer"] - report["float32_eer"] <= 0.005
    assert report["costs"][1]["network_bytes"] < 0.35 * report["costs"][0]["network_bytes"]
