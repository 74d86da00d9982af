"""What goes wrong around a run: other runs, full disks, replaced images, damaged files, signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extra train", allow_module_level=True)

import torch

from tests.helpers.programs import started, wait_until
from tests.helpers.small_disk import mounted
from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.cli import main
from verifykit_training.errors import DataError, TrainingError
from verifykit_training.evaluation import records_of
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob, before, load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    data = draw_folder(tmp_path / "data", 8, 6)
    config = small_config(data={"test_share": 0.25}, run={"steps_per_epoch": 2})
    return TrainingJob(config, data, tmp_path / "run", tmp_path / "cache", quiet=True)


def _command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: Any
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["verifykit-train", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0), " ".join(capsys.readouterr().err.split())


def test_a_second_run_does_not_write_to_a_folder_that_is_in_use(job: TrainingJob) -> None:
    with RunFolder(job.run).held(resume=False):
        with pytest.raises(TrainingError, match="another run is writing to"):
            train(job)
        assert not RunFolder(job.run).subjects.exists()
    assert train(job).ended


def test_what_a_killed_run_left_is_swept(job: TrainingJob) -> None:
    train(replace(job, stop_after=1))
    run = RunFolder(job.run)
    for left in (".last.pt-abc123", ".last.pt.x1"):
        (run.last.parent / left).touch()
    (run.path / ".weights.safetensors-q").touch()
    train(replace(job, resume=True))
    assert {path.name for path in run.path.rglob(".*")} == {".lock"}


def test_copies_in_two_splits_are_refused(job: TrainingJob) -> None:
    train(replace(job, run=job.run.with_name("first"), stop_after=1))
    subjects = RunFolder(job.run.with_name("first")).read_subjects()
    for other in ("validation", "test"):
        own, copy = (job.data / subjects[part][0] for part in ("train", other))
        shutil.copy(own / "0.png", copy / "copy.png")
        with pytest.raises(DataError, match=r"1 image\(s\) are in more than one of training"):
            train(job)
        assert not RunFolder(job.run).weights.exists()
        (copy / "copy.png").unlink()
    assert train(replace(job, stop_after=1)).epoch == 1


def test_copies_within_a_subject_are_noted(
    job: TrainingJob, capsys: pytest.CaptureFixture[str]
) -> None:
    for person in job.data.iterdir():
        for number in range(1, 6):
            shutil.copy(person / "0.png", person / f"{number}.png")
    config = small_config(data={"within_subjects": True, "validation_share": 0.5})
    train(replace(job, config=config, stop_after=1, quiet=False))
    assert "8 of 8 validation images are copies" in " ".join(capsys.readouterr().err.split())


def test_an_image_that_was_replaced_is_not_resumed_with(job: TrainingJob) -> None:
    train(replace(job, stop_after=1))
    run = RunFolder(job.run)
    trained, tested = (job.data / run.read_subjects()[part][0] for part in ("train", "test"))
    for folder, message in ((tested, "images of the test subjects"), (trained, "or replaced")):
        shutil.copy(folder / "1.png", folder / "0.png")
        with pytest.raises(TrainingError, match=message):
            train(replace(job, resume=True))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(job: TrainingJob) -> None:
    train(replace(job, config=small_config(run={"steps_per_epoch": 2, "epochs": 3})))
    run = RunFolder(job.run)
    last = load_checkpoint(run.last)
    assert load_checkpoint(before(run.last))["outcome"]["epoch"] == 2
    run.last.write_bytes(run.last.read_bytes()[:3000])
    again = replace(job, config=run.read_config(), resume=True)
    assert train(again).epoch == 3
    found = load_checkpoint(run.last)
    for key, value in last["learner"]["modules"]["encoder"].items():
        assert torch.equal(value, found["learner"]["modules"]["encoder"][key])
    run.last.unlink()
    assert train(again).epoch == 3
    for path in (run.last, before(run.last)):
        path.write_bytes(b"torn")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        train(again)


def test_a_checkpoint_of_another_version_is_one_sentence(job: TrainingJob) -> None:
    train(replace(job, stop_after=1))
    last = RunFolder(job.run).last
    state = torch.load(last, weights_only=True)
    other = {**state["outcome"], "older_key": 1}
    for changed, message in (
        ({**state, "schema": 99}, "schema 99, written by a later version"),
        ({**state, "outcome": other}, "of another version of verifykit"),
        ({"state_dict": {}}, "is not a checkpoint of verifykit-train"),
        ({**state, "learner": {"modules": {}}}, "does not fit the run's configuration"),
    ):
        torch.save(changed, last)
        with pytest.raises(TrainingError, match=message):
            train(replace(job, resume=True))


def test_a_run_of_an_earlier_version_is_continued_and_measured(
    job: TrainingJob, tmp_path: Path
) -> None:
    from verifykit_training.learner import input_of
    from verifykit_training.preparation import prepare

    train(replace(job, stop_after=1))
    run = RunFolder(job.run)
    data = prepare(job.config, job.data, input_of(job.config), job.cache)
    state = torch.load(run.last, weights_only=True)
    del state["schema"]
    torch.save({**state, "data": data.names_digest}, run.last)
    run.subjects.write_text(json.dumps(data.splits))
    record = json.loads((run.path / "spec.json").read_text())
    del record["subjects_sha256"]
    (run.path / "spec.json").write_text(json.dumps(record))
    from safetensors.torch import load_file, save_file

    save_file(load_file(run.weights), run.weights)
    said: list[str] = []
    found = records_of(run, job.data, "held_out", job.cache, say=said.append)
    assert {r.subject for r in found} == set(data.splits["test"])
    assert "earlier version" in said[0]
    assert train(replace(job, resume=True)).ended


def test_held_out_people_are_found_by_content(job: TrainingJob) -> None:
    train(job)
    run = RunFolder(job.run)
    tested = set(run.read_subjects()["test"])
    draw_folder(job.data / "more", 11, 2)
    for person in sorted((job.data / "more").iterdir())[8:]:
        person.rename(job.data / person.name)
    shutil.rmtree(job.data / "more")
    # The folder grew: the test part stays what it was, the new people were not trained on.
    assert {r.subject for r in records_of(run, job.data, "test", job.cache)} == tested
    new = {"s08", "s09", "s10"}
    assert {r.subject for r in records_of(run, job.data, "held_out", job.cache)} == tested | new
    for person in list(job.data.iterdir()):
        person.rename(person.with_name(f"person_{person.name}"))
    said: list[str] = []
    found = records_of(run, job.data, "held_out", job.cache, say=said.append)
    assert {r.subject for r in found} == {f"person_{name}" for name in tested | new}
    assert "6 subject(s) are left out" in said[0]
    for name in tested | new:
        shutil.rmtree(job.data / f"person_{name}")
    with pytest.raises(DataError, match="no subject in part 'held_out'"):
        records_of(run, job.data, "held_out", job.cache)


def test_the_list_of_another_run_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    train(job)
    other = replace(job, config=job.config.model_copy(update={"seed": 1}), run=tmp_path / "other")
    train(other)
    run = RunFolder(job.run)
    shutil.copy(RunFolder(other.run).subjects, run.subjects)
    with pytest.raises(TrainingError, match=r"subjects\.json is not the one that spec\.json"):
        records_of(run, job.data, "held_out", job.cache)
    shutil.copy(other.run / "spec.json", run.path / "spec.json")
    with pytest.raises(TrainingError, match=r"not the one that weights\.safetensors"):
        records_of(run, job.data, "held_out", job.cache)


@pytest.mark.parametrize("full", ["run", "cache"])
def test_a_full_disk_is_one_line(
    job: TrainingJob,
    tmp_path: Path,
    full: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "small.toml"
    config.write_text(job.config.to_toml())
    with mounted(tmp_path / "disk", 200_000 if full == "run" else 60_000) as disk:
        places = {"--run": job.run, "--cache": job.cache, f"--{full}": disk / "here"}
        words = [word for pair in places.items() for word in pair]
        status, err = _command(monkeypatch, capsys, config, "--data", job.data, *words)
        assert status == 2
        assert "cannot be written (" in err
        assert "give another --cache" in err if full == "cache" else "continue with --resume" in err
        assert ".cc" not in err
        assert "Traceback" not in err
        assert not [path for path in disk.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "{config}"], "is a file: give a folder with --run"),
        (["--run", "{config}/below"], "cannot be made (Not a directory)"),
        (["--set", "run.accelerator=gpuu"], "cannot be had here"),
        (["--set", "sampler.p=7"], "sampler.p = 7 subjects make a batch, and 4 are left"),
        (["--set", "encoder.weights=nowhere.pth"], "no weights file nowhere.pth"),
        (["--set", "validation.metric=skilled_eer"], "hold no skilled forgery"),
    ],
)
def test_a_fault_is_one_line_before_the_first_step(
    job: TrainingJob,
    tmp_path: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "small.toml"
    config.write_text(job.config.to_toml())
    given = [word.format(config=config) for word in words]
    # Options may come before the file, and the file may have another ending.
    shutil.copy(config, tmp_path / "small.cfg")
    for order in (
        [config, "--data", job.data, "--cache", job.cache, *given],
        ["--data", job.data, "--cache", job.cache, *given, "small.cfg"],
    ):
        status, err = _command(monkeypatch, capsys, *order)
        assert status == 2
        assert message in err
        assert "Traceback" not in err
        assert not Path("runs").exists()


@pytest.mark.timeout(600)  # of a busy machine
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_leaves_a_checkpoint_and_its_status(job: TrainingJob, tmp_path: Path) -> None:
    # For SIGTERM see test_training_processes.
    config = tmp_path / "small.toml"
    config.write_text(job.config.to_toml())
    words = ["--data", job.data, "--run", job.run, "--cache", job.cache]
    words += ["--set", "run.epochs=5000", "--quiet"]
    run = RunFolder(job.run)
    command = [sys.executable, "-m", "verifykit_training", "train", config, *words]
    with started(command, os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        wait_until(run.last.exists, process, 300)
        process.send_signal(signal.SIGINT)
        assert process.wait(200) == 130
    assert load_checkpoint(run.last)["outcome"]["ended"] is False


def test_an_export_measures_on_people_who_are_new_by_content(job: TrainingJob) -> None:
    pytest.importorskip("onnx")
    from verifykit_export.samples import read_samples

    train(job)
    run = RunFolder(job.run)
    trained = set(run.read_subjects()["train"])
    for person in list(job.data.iterdir()):
        person.rename(person.with_name(f"person_{person.name}"))
    samples = read_samples(run, job.config, run.read_record(), job.data, limit=500, cache=job.cache)
    assert not {f"person_{name}" for name in trained} & set(samples.subjects)
    assert len(samples.trained) == 6 * len(trained)
    assert f"{len(trained)} subject(s) are left out" in samples.notes[0]
