"""A student learns from a run, from a model file and from a module; resumed, exported, described."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch

import verifykit_training
from tests.unit.export.commands import command
from tests.unit.training.drawing import draw_folder, small_config
from verifykit import models
from verifykit_training.cli import main as train_command
from verifykit_training.errors import TrainingError
from verifykit_training.evaluation import embed_records, load_encoder, records_of
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob
from verifykit_training.teachers import embed_targets, open_teacher

pytestmark = pytest.mark.usefixtures("one_thread")

TEACHER = {
    "name": "large",
    "seed": 3,
    "encoder": {"embedding_size": 24},
    "data": {"validation_share": 0.25},
    "sampler": {"p": 8, "k": 3},
    "loss": {"name": "supervised_contrastive"},
    "run": {"epochs": 4, "steps_per_epoch": 20},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``people/`` drawn, ``teacher/`` trained on other people."""
    workspace = tmp_path_factory.mktemp("distillation")
    torch.set_num_threads(1)
    draw_folder(workspace / "people", subjects=16, images=6)
    train(
        TrainingJob(
            small_config(**TEACHER),
            workspace / "people",
            workspace / "teacher",
            workspace / "crops",
            quiet=True,
        )
    )
    return workspace


def _job(workspace: Path, folder: Path, teacher: object = None, **sections: Any) -> TrainingJob:
    body: dict[str, Any] = {
        "distillation": {"teacher": str(workspace / "teacher"), "metric_weight": 0.0},
        "sampler": {"p": 6, "k": 3},
        "run": {"epochs": 5, "steps_per_epoch": 20, "ema_decay": 0.9},
    }
    body |= sections
    return TrainingJob(
        small_config(**body),
        workspace / "people",
        folder,
        workspace / "crops",
        quiet=True,
        teacher=teacher,  # type: ignore[arg-type]
    )


def _disagreement(workspace: Path, run: Path, job: TrainingJob, *, untrained: bool) -> float:
    """Root mean square difference of the scores of student and teacher on people who were held out."""
    encoder, config = load_encoder(RunFolder(run), untrained=untrained)
    records = records_of(RunFolder(run), workspace / "people", "validation", workspace / "crops")
    rows, kept, _ = embed_records(encoder, config, records, workspace / "crops")
    teacher = open_teacher(job.config, job.teacher)
    targets = embed_targets(teacher, kept, workspace / "crops").rows
    apart = (rows @ rows.T - targets @ targets.T)[np.triu_indices(len(rows), 1)]
    return float(np.sqrt(np.square(apart).mean()))


@pytest.mark.parametrize(
    ("name", "left"), [("relational", 0.75), ("projected", 0.85), ("cosine", 0.8)]
)
def test_a_student_approaches_the_scores_of_its_teacher(
    workspace: Path, tmp_path: Path, name: str, left: float
) -> None:
    section = {"teacher": str(workspace / "teacher"), "name": name, "metric_weight": 0.0}
    size = 24 if name == "cosine" else 16
    job = _job(workspace, tmp_path / "run", distillation=section, encoder={"embedding_size": size})
    train(job)
    lines = [line for line in RunFolder(job.run).read_metrics() if line["event"] == "step"]
    assert lines[-1]["distillation"] < 0.6 * lines[0]["distillation"]
    before = _disagreement(workspace, job.run, job, untrained=True)
    after = _disagreement(workspace, job.run, job, untrained=False)
    assert after < left * before
    record = RunFolder(job.run).read_record()
    assert record.teacher is not None
    assert record.teacher.name == "training run large"
    assert record.teacher.training_data == "drawn for tests"


class Colours(torch.nn.Module):
    """Four colours of an image, through a weight that could learn."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(12))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        return rows * self.factor


def test_a_module_from_python_teaches_and_gets_no_gradient(workspace: Path, tmp_path: Path) -> None:
    module = Colours()
    section = {"teacher": "colours", "weight": 2.0}
    job = _job(workspace, tmp_path / "run", module, distillation=section)
    train(job)
    assert module.factor.grad is None
    assert torch.equal(module.factor, torch.ones(12))
    record = RunFolder(job.run).read_record()
    assert record.teacher is not None
    assert (record.teacher.name, record.teacher.embedding_size) == ("colours", 12)
    lines = [line for line in RunFolder(job.run).read_metrics() if line["event"] == "step"]
    # The rest is the loss between the subjects.
    rest = [line["loss"] - 2.0 * line["distillation"] for line in lines]
    assert rest[0] > 0.01
    assert min(rest) > -1e-6


def test_the_python_entry_takes_a_module(workspace: Path, tmp_path: Path) -> None:
    config = _job(
        workspace,
        tmp_path,
        distillation={"teacher": "colours"},
        run={"epochs": 1, "steps_per_epoch": 2},
    ).config
    done = verifykit_training.train(
        workspace / "people",
        config,
        run=tmp_path / "run",
        cache=workspace / "crops",
        quiet=True,
        teacher=Colours(),
    )
    record = RunFolder(done.folder).read_record()
    assert record.teacher is not None
    assert record.teacher.name == "colours"


def test_a_resumed_student_ends_at_the_same_weights(workspace: Path, tmp_path: Path) -> None:
    sections = {
        "augmentation": {"preset": "face"},
        "distillation": {"teacher": str(workspace / "teacher"), "name": "projected"},
        "run": {"epochs": 2, "steps_per_epoch": 4, "ema_decay": 0.9},
    }
    whole = _job(workspace, tmp_path / "whole", **sections)
    train(whole)
    parts = _job(workspace, tmp_path / "parts", **sections)
    assert train(replace(parts, stop_after=1)).epoch == 1
    train(replace(parts, resume=True))
    states = [
        torch.load(RunFolder(job.run).last, weights_only=True)["learner"] for job in (whole, parts)
    ]
    leaves = [torch.utils._pytree.tree_leaves(state) for state in states]
    assert len(leaves[0]) == len(leaves[1]) > 40
    for one, two in zip(*leaves, strict=True):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    assert "distillation" in states[0]["modules"]


def test_another_teacher_does_not_continue_a_run(workspace: Path, tmp_path: Path) -> None:
    section = {"distillation": {"teacher": "colours"}, "run": {"epochs": 2, "steps_per_epoch": 2}}
    job = _job(workspace, tmp_path / "run", Colours(), **section)
    train(replace(job, stop_after=1))
    other = Colours()
    torch.nn.init.constant_(other.factor, -1.0)
    with pytest.raises(TrainingError, match="is not the one that the run began with"):
        train(replace(job, resume=True, teacher=other))
    assert train(replace(job, resume=True, teacher=Colours())).ended


def test_a_teacher_that_saw_the_validation_people_is_said(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = {"run": {"epochs": 1, "steps_per_epoch": 2}}
    same = _job(workspace, tmp_path / "same", seed=3, **section)
    train(replace(same, quiet=False))
    assert "the teacher was trained on" not in capsys.readouterr().err
    other = _job(workspace, tmp_path / "other", seed=4, **section)
    train(replace(other, quiet=False))
    assert "whose error rates on them are too good" in " ".join(capsys.readouterr().err.split())


def test_an_exported_teacher_teaches_a_student_whose_card_names_it(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    teacher, student = tmp_path / "teacher.onnx", tmp_path / "student.onnx"
    options = ("--data", workspace / "people", "--cache", workspace / "crops")
    assert command(monkeypatch, workspace / "teacher", teacher, *options) == 0
    job = _job(
        workspace,
        tmp_path / "run",
        distillation={"teacher": str(teacher), "name": "relational"},
        run={"epochs": 1, "steps_per_epoch": 10},
    )
    train(job)
    assert command(monkeypatch, job.run, student, *options, "--json") == 0
    capsys.readouterr()
    taught_by, spec = models.load(teacher).spec, models.load(student).spec
    expected = (
        f"distilled from large (digest {taught_by.digest[:12]}, 24 values, licence Apache-2.0)"
    )
    assert expected in spec.provenance.training_data
    card = student.with_suffix(".md").read_text(encoding="utf-8")
    assert f"- {expected}, trained on: drawn for tests; 72 images of 12 subjects" in card
    assert "distilled" not in teacher.with_suffix(".md").read_text(encoding="utf-8")


def test_runs_of_earlier_versions_have_no_teacher(workspace: Path) -> None:
    run = RunFolder(workspace / "teacher")
    body = json.loads((run.path / "spec.json").read_text())
    assert body.pop("teacher") is None
    (run.path / "spec.json").write_text(json.dumps(body))
    assert run.read_record().teacher is None


def test_check_says_what_cannot_be_distilled(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = tmp_path / "student.toml"
    path.write_text(
        _job(
            workspace, tmp_path / "run", distillation={"teacher": str(workspace / "teacher")}
        ).config.to_toml()
    )

    def check(*more: str) -> tuple[int, str]:
        arguments = ["check", str(workspace / "people"), "--config", str(path), *more]
        monkeypatch.setattr(sys, "argv", ["verifykit-train", *arguments])
        with pytest.raises(SystemExit) as exit_:
            train_command()
        return int(exit_.value.code or 0), capsys.readouterr().out

    assert check()[0] == 0
    status, out = check("--set", "distillation.name=cosine")
    assert status == 1
    assert "the student has 16, the teacher 24" in " ".join(out.split())
    status, out = check("--set", "distillation.teacher=nowhere.onnx")
    assert status == 1
    assert "nowhere.onnx" in out
