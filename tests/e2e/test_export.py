"""From a training run, and from somebody else's file, to a model that the Verifier decides with."""

from __future__ import annotations

import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

import verifykit as vk
from tests.helpers.spoilt_model import spoilt_model
from verifykit import models
from verifykit.encoder import Encoder

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch

import verifykit_export.export_run
from tests.unit.export.commands import command, refused
from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.loop import train
from verifykit_training.run_folder import TrainingJob

SIZE_PX = 32


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``people/`` drawn, ``run/`` trained on them."""
    workspace = tmp_path_factory.mktemp("export")
    draw_folder(workspace / "people", subjects=16, images=6)
    config = small_config(
        data={"validation_share": 0.5},
        sampler={"p": 8, "k": 3},
        loss={"name": "supervised_contrastive"},
        run={"epochs": 4, "steps_per_epoch": 20},
    )
    outcome = train(
        TrainingJob(
            config, workspace / "people", workspace / "run", workspace / "crops", quiet=True
        )
    )
    assert outcome.best is not None
    assert outcome.best < 0.3
    return workspace


def export_run(
    monkeypatch: pytest.MonkeyPatch, workspace: Path, target: Path, *more: object, run: str = "run"
) -> int:
    options = ("--data", workspace / "people", "--cache", workspace / "crops")
    return command(monkeypatch, workspace / run, target, *options, *more)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "mine.onnx"


def held_out(workspace: Path) -> list[list[Path]]:
    subjects = json.loads((workspace / "run" / "subjects.json").read_text())["validation"]
    return [sorted((workspace / "people" / name).iterdir()) for name in subjects]


def test_a_run_becomes_a_model_that_decides_as_its_network(
    monkeypatch: pytest.MonkeyPatch,
    workspace: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export_run(monkeypatch, workspace, target, "--name", "drawn-people", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in target.parent.iterdir()) == ["mine.md", "mine.onnx"]
    assert report["parity"]["gap"] <= 1e-9
    low, high = report["parity"]["fnmr_interval"]
    assert low <= report["parity"]["fnmr"] <= high
    assert report["parity"]["images"] == 16 * 6
    assert report["rates"]["subjects"] == 8
    spec = models.load(target).spec
    assert spec.name == "drawn-people"
    # 48 images, each against the 42 of other subjects: enough for 5e-3, not for 2e-3. With two to five
    # references, each against 7 subjects: just enough for 1e-2. Nobody has more than six images.
    points = spec.operating_points
    rates = (1e-1, 5e-2, 2e-2, 1e-2)
    assert [(p.reference_count, p.fmr) for p in points] == [
        *((1, fmr) for fmr in (*rates, 5e-3)),
        *((count, fmr) for count in range(2, 6) for fmr in rates),
    ]
    counts = {(p.reference_count, p.non_mated_count) for p in points}
    assert counts == {(1, 48 * 42 // 2), *((count, 48 * 7) for count in range(2, 6))}
    assert {p.attack for p in points} == {"random_forgery"}
    assert spec.default_fmr == 5e-3
    assert [(e.reference_count, e.mated_count, e.non_mated_count) for e in spec.evidence] == [
        (1, 8 * 15, 48 * 42 // 2),
        *((count, 8 * (6 - count), 48 * 7) for count in range(2, 6)),
    ]
    for point in points:
        assert point.fmr_interval is not None
        assert point.fnmr_interval is not None
        assert point.fnmr_interval[0] <= point.fnmr <= point.fnmr_interval[1]  # type: ignore[operator]
    assert "several references drawn 20 times" in spec.provenance.calibration_data
    assert str(workspace) not in target.read_bytes().decode(errors="ignore")

    one, two = held_out(workspace)[:2]
    verifier = vk.Verifier(target, gallery=target.parent / "people.db")
    verifier.enroll("one", one[0])
    verifier.enroll("two", two[0])
    decision = verifier.verify("one", one[1])
    other = verifier.verify("one", two[1])
    assert decision.score > other.score
    # The same score by the network itself, through training's own crops.
    from verifykit_training.dataset import Record
    from verifykit_training.evaluation import embed_records, load_encoder
    from verifykit_training.run_folder import RunFolder

    encoder, config = load_encoder(RunFolder(workspace / "run"))
    records = [Record(path, "one") for path in (one[0], one[1], two[1])]
    rows, _, _ = embed_records(encoder, config, records, workspace / "crops")
    assert decision.score == pytest.approx(float(rows[0] @ rows[1]), abs=1e-5)
    assert other.score == pytest.approx(float(rows[0] @ rows[2]), abs=1e-5)

    single = verifier.verify("one", one[1], fmr=0.1)
    verifier.enroll("one", one[2:4])
    several = verifier.verify("one", one[1], fmr=0.1)
    assert (single.reference_count, several.reference_count) == (1, 3)
    assert [single.threshold, several.threshold] == [
        p.threshold for p in points if p.fmr == 0.1 and p.reference_count in (1, 3)
    ]

    card = (target.parent / "mine.md").read_text()
    assert card.startswith("# drawn-people\n")
    for fact in (
        "drawn for tests",
        "48 images of 8 subjects",
        f"{target.stat().st_size} bytes",
        "| random_forgery | 1 | 0.005 (default) |",
    ):
        assert fact in card
    costs = [line for line in card.splitlines() if line.startswith("| random_forgery | 0.1 |")]
    assert [line.split(" | ")[2] for line in costs] == ["1", "2", "3", "4", "5"]


def test_an_export_says_how_far_it_is(workspace: Path, target: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    request = verifykit_export.export_run.ExportRequest(
        workspace / "run", target, workspace / "people", cache=tmp_path / "crops"
    )
    verifykit_export.export_run.export_run(request, stages=lambda *now: seen.append(now))
    assert list(dict.fromkeys(name for name, *_ in seen)) == [
        "reading images",
        "cropping",
        "embedding by the file",
        "embedding by the network",
    ]
    ends = {name: (done, total) for name, done, total in seen}
    assert set(ends.values()) == {(96, 96)}


@pytest.mark.parametrize("words", [("-h",), ("run", "-h"), ("import", "-h"), ("classifier", "-h")])
def test_help_has_a_short_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert command(monkeypatch, *words) == 0
    assert "Usage: verifykit-export" in capsys.readouterr().out


def test_the_counts_of_an_operating_point_are_those_of_the_file(
    monkeypatch: pytest.MonkeyPatch, workspace: Path, target: Path
) -> None:
    assert export_run(monkeypatch, workspace, target) == 0
    encoder = Encoder.open(target)
    rows = [
        [encoder.templates(path)[0].embedding for path in paths] for paths in held_out(workspace)
    ]
    scores = [
        float(np.float64(a) @ np.float64(b))
        for i, one in enumerate(rows)
        for other in rows[i + 1 :]
        for a in one
        for b in other
    ]
    singles = [p for p in encoder.spec.operating_points if p.reference_count == 1]
    assert singles
    for point in singles:
        matches = sum(score >= point.threshold for score in scores)
        assert abs(matches - point.false_match_count) <= 1  # a score may round onto the threshold
        assert point.false_match_count <= point.fmr * point.non_mated_count


@pytest.mark.parametrize(
    ("precision", "tolerance", "share", "gap"),
    # fp16 keeps on every image what the file promises of its golden one: rounding depends on the processor.
    [("fp16", 0.999, 0.6, 1 - 0.999), ("int8", 0.99, 0.4, 0.05)],
)
def test_smaller_precisions_are_written_with_what_they_cost(
    monkeypatch: pytest.MonkeyPatch,
    workspace: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    tolerance: float,
    share: float,
    gap: float,
) -> None:
    options = ("--precision", precision, "--max-eer-rise", "0.1", "--json")
    assert export_run(monkeypatch, workspace, target, *options) == 0
    report = json.loads(capsys.readouterr().out)
    float32, reduced = report["costs"]
    assert reduced["precision"] == precision
    assert reduced["network_bytes"] < share * float32["network_bytes"]
    assert reduced["times_float32"] > 0.0
    assert report["rates"]["eer"] - report["float32_eer"] <= 0.1
    assert 0.0 < report["parity"]["reduced_gap"] < gap
    assert models.load(target).spec.golden_tolerance == tolerance
    people = held_out(workspace)
    verifier = vk.Verifier(target)
    mated = [verifier.compare(one[0], one[1]).score for one in people]
    non_mated = [verifier.compare(people[i - 1][0], people[i][0]).score for i in range(8)]
    assert np.mean(mated) > np.mean(non_mated) + 0.2


def test_a_model_whose_eer_rose_too_much_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
    workspace: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def spoilt(model: onnx.ModelProto, *_: object) -> onnx.ModelProto:
        return spoilt_model(model, dimensions=4)

    monkeypatch.setattr(verifykit_export.export_run, "to_int8", spoilt)
    options = ("--precision", "int8", "--max-eer-rise", "0.001")
    status = export_run(monkeypatch, workspace, target, *options)
    refused(capsys, status, target, because="raises the EER from")


def test_an_opset_that_the_exporter_does_not_write_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    workspace: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = export_run(monkeypatch, workspace, target, "--opset", "17")
    refused(capsys, status, target, because="opset 17 was requested, torch's exporter wrote 18")
    assert logging.getLogger("torch.onnx").level != logging.CRITICAL


@pytest.mark.parametrize(
    ("name", "change", "because"),
    [
        (
            "weights.safetensors",
            lambda data: data[:-100],
            "does not fit the encoder, or is damaged",
        ),
        ("spec.json", lambda data: data[:-20], "is not a finished run"),
        (
            "spec.json",
            lambda data: data.replace(b'"scale": 0.0039', b'"scale": 0.0038'),
            "not of one run",
        ),
        ("subjects.json", lambda data: b"", "is not a run"),
    ],
)
def test_a_damaged_run_is_an_error_of_one_line(  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
    workspace: Path,
    target: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change,
    because: str,
) -> None:
    shutil.copytree(workspace / "run", tmp_path / "run")
    path = tmp_path / "run" / name
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    options = ("--data", workspace / "people", "--cache", workspace / "crops")
    status = command(monkeypatch, tmp_path / "run", target, *options)
    refused(capsys, status, target, because=because)


def test_too_few_pictures_of_other_people_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    workspace: Path,
    target: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = draw_folder(tmp_path / "few", subjects=3, images=4)
    for folder in few.iterdir():
        folder.rename(few / f"new_{folder.name}")
    status = command(
        monkeypatch, workspace / "run", target, "--data", few, "--cache", workspace / "crops"
    )
    refused(capsys, status, target, because="gives 12 crops, at least 24")
