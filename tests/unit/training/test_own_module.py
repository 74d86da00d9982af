"""An encoder of the user's own, by import path: checked, trained, recorded and exported."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.drawing import draw_folder, small_config
from verifykit import models
from verifykit.errors import InputError, VerifyKitError
from verifykit_training.encoders import build_encoder, encoder_options, input_statistics
from verifykit_training.errors import ConfigError
from verifykit_training.evaluation import load_encoder
from verifykit_training.loop import train
from verifykit_training.preflight import try_out
from verifykit_training.reporting import summarise
from verifykit_training.run_folder import RunFolder, TrainingJob

SOURCE = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, *, embedding_size: int, input_channels: int = 3, width: int = 8):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(input_channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        )
        self.last = nn.Linear(16 * width, embedding_size)

    def forward(self, images):
        return 7.0 * self.last(self.features(images))


Small.input_statistics = (1 / 255, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25))


def make(*, embedding_size: int):
    return Small(embedding_size=embedding_size)


def without_size(width: int): ...
def not_a_module(*, embedding_size: int): return 3
def long(*, embedding_size: int): raise RuntimeError("x" * 500)
def fails(*, embedding_size: int): raise RuntimeError("no\\nroom")
def wrong_rows(*, embedding_size: int): return Small(embedding_size=embedding_size + 1)
def a_map(*, embedding_size: int): return nn.Conv2d(3, embedding_size, 3)


class Two(Small):
    def forward(self, images):
        return super().forward(images), None


class Odd: ...


def odd_types(*, embedding_size: int, odd: Odd = Odd(), **more): ...
def unknown_types(*, embedding_size: int, odd: "Nowhere" = 3): ...


bad = 3


def bad_statistics(*, embedding_size: int): ...
bad_statistics.input_statistics = (1.0, (0.0,), (1.0,))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_encoder_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_rows_are_brought_to_unit_length_and_options_are_typed(module: str) -> None:
    encoder = build_encoder(f"{module}:Small", weights="none", embedding_size=12, width=4)
    rows = encoder(torch.rand(3, 3, 32, 32))
    assert rows.shape == (3, 12)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert encoder_options(f"{module}:Small") == {"width": int}
    assert input_statistics(f"{module}:Small") == (1 / 255, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    assert input_statistics(f"{module}:make") == (1 / 255, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(InputError, match="option width is 'wide'"):
        build_encoder(f"{module}:Small", weights="none", width="wide")
    with pytest.raises(InputError, match="no option 'depth'"):
        build_encoder(f"{module}:Small", weights="none", depth=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:make", "cannot be imported from .*: No module named"),
        ("{}:absent", "cannot be imported from .*: module .* has no attribute 'absent'"),
        ("{}:bad", "is of type int: name a function or a class"),
        ("{}:", "is no import path"),
        ("{}:without_size", r"must take embedding_size by name.*'\(width: int\)'"),
        ("{}:not_a_module", "returned int: a torch.nn.Module is required"),
        ("{}:fails", "cannot be made: no$"),
        ("{}:long", r"cannot be made: x+\.\.\."),
        ("a" * 500 + ":make", "cannot be imported"),
        ("{}:wrong_rows", r"returned \(4, 17\) for 4 images: \(N, 16\) is required"),
        ("{}:a_map", r"returned \(4, 16, 30, 30\)"),
        ("{}:Two", "returned tuple: one tensor"),
        ("{}:bad_statistics", "three means and three positive deviations"),
    ],
)
def test_what_cannot_be_an_encoder_is_found_before_training(
    name: str, message: str, module: str
) -> None:
    with pytest.raises(VerifyKitError, match=message) as caught:
        try_out(small_config(encoder={"name": name.format(module)}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_annotations_that_cannot_be_checked_are_no_traceback(module: str) -> None:
    assert encoder_options(f"{module}:odd_types") == {"odd": Any}
    with pytest.raises(InputError, match="annotations cannot be read: name 'Nowhere'"):
        encoder_options(f"{module}:unknown_types")


def test_frozen_epochs_need_a_head(module: str) -> None:
    config = small_config(encoder={"name": f"{module}:make"}, optimiser={"frozen_epochs": 1})
    with pytest.raises(ConfigError, match="no head"):
        try_out(config)
    with pytest.raises(InputError, match="does not take input_channels"):
        build_encoder(f"{module}:make", weights="none", input_channels=1)


def test_it_is_trained_recorded_and_exported(module: str, tmp_path: Path) -> None:
    from verifykit_export.export_run import ExportRequest, export_run

    draw_folder(tmp_path / "people", subjects=12, images=4)
    own = build_encoder(f"{module}:Small", weights="none", embedding_size=16).backbone.module
    torch.save({"model": {f"module.{k}": v for k, v in own.state_dict().items()}}, "own.pth")
    encoder: dict[str, Any] = {"name": f"{module}:Small", "weights": "own.pth", "width": 8}
    config = small_config(
        encoder=encoder,
        data={"validation_share": 0.5},
        run={"epochs": 1, "steps_per_epoch": 5},
    )
    job = TrainingJob(config, tmp_path / "people", tmp_path / "run", tmp_path / "crops", quiet=True)
    assert train(job).ended
    folder = RunFolder(tmp_path / "run")
    record = folder.read_record()
    assert (record.encoder, record.options) == (f"{module}:Small", {"width": 8})
    assert record.input.mean == (0.1, 0.2, 0.3)
    done = export_run(
        ExportRequest(
            tmp_path / "run", tmp_path / "own.onnx", tmp_path / "people", cache=tmp_path / "crops"
        )
    )
    assert done.measured.parity.gap <= 1e-9
    assert models.load(done.path).spec.input.mean == (0.1, 0.2, 0.3)
    again = build_encoder(f"{module}:Small", weights=str(done.path), embedding_size=16, width=8)
    trained = load_encoder(folder)[0].state_dict()
    for key, value in again.state_dict().items():
        torch.testing.assert_close(value, trained[key], atol=1e-6, rtol=1e-6)


def test_weights_of_an_own_loop_become_a_run_without_training(module: str, tmp_path: Path) -> None:
    draw_folder(tmp_path / "people", subjects=12, images=4)
    torch.manual_seed(5)
    own = build_encoder(f"{module}:Small", weights="none", embedding_size=16).backbone.module
    torch.save(own.state_dict(), "own.pth")
    sections: dict[str, Any] = {"data": {"validation_share": 0.5}, "run": {"epochs": 0}}
    with pytest.raises(ConfigError, match=r"run\.epochs = 0 records weights"):
        small_config(encoder={"name": f"{module}:Small"}, **sections)
    config = small_config(encoder={"name": f"{module}:Small", "weights": "own.pth"}, **sections)
    job = TrainingJob(config, tmp_path / "people", tmp_path / "run", tmp_path / "crops", quiet=True)
    outcome = train(job)
    assert (outcome.epoch, outcome.step, outcome.ended) == (0, 0, True)
    assert outcome.best is not None
    assert 0.0 <= outcome.best <= 1.0
    kept = load_encoder(RunFolder(tmp_path / "run"))[0].backbone.module.state_dict()
    assert all(torch.equal(kept[key], value) for key, value in own.state_dict().items())
    summarise(RunFolder(tmp_path / "run"), tmp_path / "people", tmp_path / "crops")
    longer = train(replace(job, extend=1))
    assert (longer.epoch, longer.ended) == (1, True)
