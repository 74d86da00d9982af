"""``verifykit-train`` as a person calls it."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extra train", allow_module_level=True)

from tests.unit.training.drawing import draw_folder, small_config
from verifykit.evaluation.folds import fold_accuracy
from verifykit_training.cli import main
from verifykit_training.dataset import Record
from verifykit_training.evaluation import embed_records, load_encoder
from verifykit_training.run_folder import RunFolder

Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["verifykit-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(small_config(data={"test_share": 0.25}).to_toml(), encoding="utf-8")
    return path


def test_train_evaluate_and_resume(command: Command, config: Path, tmp_path: Path) -> None:
    data, cache = draw_folder(tmp_path / "data", 12, 6), tmp_path / "cache"
    status, out, err = command(
        config, "--data", data, "--cache", cache, "--set", "loss.margin=0.3", "--stop-after", 1
    )
    assert (status, out) == (0, "")
    assert "36 images of 6 subjects, validated on 3 others" in err
    run = Path("runs") / "drawn-0"
    assert RunFolder(run).read_config().loss.options == {"margin": 0.3}

    given = ["--data", data, "--cache", cache]
    status, out, _ = command(run / "config.toml", *given, "--resume", "--quiet")
    assert status == 0
    assert out.startswith(f"{run}: weights of epoch ")
    assert (run / "report" / "det.png").is_file()

    options = [*given, "--classify", "--subjects", 3, "--report", "pictures"]
    status, out, _ = command("evaluate", run, *options, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["verification"]["subjects"] == 3
    assert found["verification"]["mated"] == 3 * 15
    assert found["verification"]["non_mated"] == 3 * 36
    assert [row[0] for row in found["verification"]["fnmr"]] == [0.1]
    assert found["classification"]["test_images"] == 9
    assert Path("pictures/scores.png").is_file()
    status, out, _ = command("evaluate", run, *given, "--untrained", "--part", "all")
    assert status == 0
    assert "eer" in out


def test_accuracy_on_given_pairs(command: Command, config: Path, tmp_path: Path) -> None:
    data, cache = draw_folder(tmp_path / "data", 12, 6), tmp_path / "cache"
    command(config, "--data", data, "--cache", cache, "--quiet", "--set", "run.epochs=1")
    lines = ["probe,reference,mated"]
    for person in range(12):
        other = (person + 1) % 12
        lines.append(f"data/s{person:02}/0.png,data/s{person:02}/1.png,1")
        lines.append(f"data/s{person:02}/0.png,data/s{other:02}/1.png,0")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(lines))
    options = ["evaluate", "runs/drawn-0", "--pairs", pairs, "--cache", cache, "--json"]
    status, out, _ = command(*options)
    found = json.loads(out)["pairs"]
    assert status == 0
    assert (found["pairs"], found["refused"]) == (24, 0)
    assert 0.3 <= found["accuracy"] <= 1.0
    # The sample deviation over ten folds by the root of ten, not the population's deviation.
    encoder, parsed = load_encoder(RunFolder(Path("runs/drawn-0")))
    images = [tmp_path / name for line in lines[1:] for name in line.split(",")[:2]]
    rows, _, _ = embed_records(encoder, parsed, [Record(path, "") for path in images], cache)
    scores = np.array([rows[2 * n] @ rows[2 * n + 1] for n in range(24)], np.float64)
    folds = np.arange(24) // 2 % 10
    expected = fold_accuracy(scores, [n % 2 == 0 for n in range(24)], folds.tolist())
    rates = expected.accuracies
    assert found["accuracy"] == pytest.approx(np.mean(rates))
    assert found["standard_error"] == pytest.approx(np.std(rates, ddof=1) / np.sqrt(10))
    assert "deviation" not in found
    (tmp_path / "data" / "s00" / "1.png").write_bytes(b"not an image")
    refused = json.loads(command(*options[:-2], tmp_path / "empty", "--json")[1])["pairs"]
    assert (refused["pairs"], refused["refused"]) == (24, 2)
    pairs.write_text("\n".join([*lines[:-1], lines[-1][:-1] + "2"]))
    status, _, err = command(*options)
    assert status == 2
    assert "line 25: mated is '2', and not one of 1, true, yes, 0, false, no" in " ".join(
        err.split()
    )


def _lfw_lines(folds: int, missing: str = "") -> list[str]:
    """Two mated and two non-mated pairs in each fold; image 1 of person ``missing`` is named 1234."""
    lines = [f"{folds}\t2" if folds > 1 else "40"]
    count = 2 if folds > 1 else 40
    for fold in range(folds):
        people = [(fold + n) % 12 for n in range(count)]
        lines += [f"s{p:02}\t{1234 if f's{p:02}' == missing else 1}\t2" for p in people]
        lines += [f"s{p:02}\t3\ts{(p + 5) % 12:02}\t4" for p in people]
    return lines


def test_lfw_lists_with_missing_images(command: Command, config: Path, tmp_path: Path) -> None:
    data, cache = draw_folder(tmp_path / "data", 12, 6), tmp_path / "cache"
    command(config, "--data", data, "--cache", cache, "--quiet", "--set", "run.epochs=1")
    for person in data.iterdir():
        for image in person.iterdir():
            image.rename(person / f"{person.name}_{int(image.stem) + 1:04}.png")
    pairs = tmp_path / "pairs.txt"
    options = ["evaluate", "runs/drawn-0", "--pairs", pairs, "--images", data, "--cache", cache]

    pairs.write_text("\n".join(_lfw_lines(10, missing="s03")))
    status, out, err = command(*options, "--json")
    found = json.loads(out)["pairs"]
    assert status == 0
    # Person 3 is in a mated pair of folds 3 and 4.
    assert (found["pairs"], found["refused"], found["missing_images"]) == (40, 2, 1)
    assert found["unusable"] == ["s03/s03_1234.jpg: the file is missing"]
    assert len(found["accuracies"]) == 10
    assert found["accuracy"] == pytest.approx(np.mean(found["accuracies"]))
    low, high = found["eer_interval"]
    assert low <= found["eer"] <= high
    assert [row[0] for row in found["fnmr"]] == []  # 20 non-mated pairs are fewer than 3 / 0.1
    seen = found["trained_images"]
    assert seen > 0
    assert (
        f"{seen} of {found['images']} images were in the run's training or validation data" in err
    )

    # The form of pairsDevTest.txt: one fold, so ten are made.
    pairs.write_text("\n".join(_lfw_lines(1)))
    found = json.loads(command(*options, "--json")[1])["pairs"]
    assert (found["pairs"], found["refused"], len(found["accuracies"])) == (80, 0, 10)
    ((fmr, fnmr, threshold, low, high),) = found["fnmr"]
    assert fmr == 0.1
    assert 0.0 <= low <= fnmr <= high <= 1.0
    assert -1.0 <= threshold <= 1.0
    table = command(*options)[1]
    assert f"{found['accuracy']:.2%}" in table
    assert "fnmr at FMR 0.1" in table

    status, _, err = command(*options[:3], pairs, "--images", tmp_path / "empty")
    assert (status, "is not a folder" in " ".join(err.split())) == (2, True)


def test_a_verification_file_of_insightface(
    command: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    data, cache = draw_folder(tmp_path / "data", 12, 6), tmp_path / "cache"
    command(config, "--data", data, "--cache", cache, "--quiet", "--set", "run.epochs=1")
    lines = ["probe,reference,mated,fold"]
    images, same = [], []
    for n in range(40):
        one, other = n // 2 % 12, (n // 2 + n % 2 * 5) % 12
        ends = [f"data/s{one:02}/{n % 3}.png", f"data/s{other:02}/{3 + n % 3}.png"]
        lines.append(f"{ends[0]},{ends[1]},{int(one == other)},{n // 4 + 1}")
        images += [(tmp_path / end).read_bytes() for end in ends]
        same.append(one == other)
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, same)))
    found = [
        json.loads(
            command("evaluate", "runs/drawn-0", "--pairs", file, "--cache", cache, "--json")[1]
        )["pairs"]
        for file in ("pairs.csv", "lfw.bin")
    ]
    for each in found:  # subjects have other names, so that others are drawn
        del each["eer_interval"], each["fnmr"]
    assert found[0] == found[1]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, [print])))
    status, _, err = command("evaluate", "runs/drawn-0", "--pairs", "lfw.bin")
    assert status == 2
    assert "holds the name 'builtins.print', which is not loaded" in " ".join(err.split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_seeds_have_folders_and_a_summary(command: Command, config: Path, tmp_path: Path) -> None:
    data, cache = draw_folder(tmp_path / "data", 12, 4), tmp_path / "cache"
    shared = [config, "--data", data, "--cache", cache, "--quiet", "--run", "runs/swept"]
    shared += ["--set", "run.epochs=1", "--set", "run.steps_per_epoch=1"]
    status, out, _ = command(*shared, "--seeds", "3,4")
    assert status == 0
    summary = json.loads(Path("runs/swept-seeds.json").read_text())
    values = [RunFolder(Path(f"runs/swept-{seed}")).read_record().validation for seed in (3, 4)]
    assert [RunFolder(Path(f"runs/swept-{seed}")).read_config().seed for seed in (3, 4)] == [3, 4]
    assert summary["values"] == {"3": values[0], "4": values[1]}
    assert summary["mean"] == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    assert summary["deviation"] == pytest.approx(np.std(values, ddof=1))  # type: ignore[arg-type]
    assert f"eer over 2 seeds: {summary['mean']:.2%}" in out
    status, _, err = command(*shared, "--seeds", "3,4")
    assert (status, "already holds a run" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize(
    ("seeds", "problem"),
    [
        ("1,x", "takes whole numbers such as 0,1,2, got '1,x'"),
        ("", "takes whole numbers such as 0,1,2, got ''"),
        ("1,1", "names a seed twice: '1,1'"),
        ("1,2147483648", "a seed is at most 2147483647"),
    ],
)
def test_seeds_that_are_none_are_said_before_a_run(
    command: Command, config: Path, seeds: str, problem: str
) -> None:
    status, _, err = command(config, "--data", "data", "--seeds", seeds)
    assert (status, problem in " ".join(err.split())) == (2, True)
    assert not Path("runs").exists()


def test_check_says_what_is_wrong(command: Command, config: Path, tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", 6, 2)
    status, out, _ = command("check", data, "--config", config, "--set", "sampler.p=2")
    assert status == 0
    assert "nothing prevents training" in out
    (data / "s00" / "0.png").write_bytes((data / "s01" / "0.png").read_bytes())
    status, out, _ = command("check", data)
    assert status == 1
    assert "1 group(s) of equal images carry different subjects" in out
    status, out, _ = command("check", data, "--json")
    assert json.loads(out)["images"] == 12
    assert json.loads(out)["left_out"] == []
    (data / "notes.txt").touch()
    (data / ".git").mkdir()
    assert json.loads(command("check", data, "--json")[1])["left_out"] == [
        ["hidden", 1],
        ["not_an_image", 1],
    ]
    assert "not_an_image  1" in command("check", data)[1]


def test_notes_are_printed_whole(command: Command, config: Path, tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", 9, 2)
    for number in range(2, 60):
        shutil.copy(data / "s00" / "0.png", data / "s00" / f"{number}.png")
    options = ["--config", config, "--set", "sampler.p=8", "--set", "data.validation_share=0"]
    out = command("check", data, *options, "--set", "data.test_share=0")[1]
    assert re.search(
        r"An epoch of 1 batch\(es\) shows at most 24 of 76 images, .*sampler\.even = true", out
    )


def test_lone_images_are_noted_without_a_configuration(command: Command, tmp_path: Path) -> None:
    status, out, _ = command("check", draw_folder(tmp_path / "data", 6, 1))
    assert status == 0
    assert "Each of the 6 subjects has one image: only the losses of a margin softmax" in out
    assert "has one image" not in command("check", draw_folder(tmp_path / "more", 6, 2))[1]


def test_more_neighbours_than_images_is_one_message(
    command: Command, config: Path, tmp_path: Path
) -> None:
    data, cache = draw_folder(tmp_path / "data", 12, 6), tmp_path / "cache"
    given = ["--data", data, "--cache", cache]
    command(config, *given, "--quiet", "--set", "run.epochs=1", "--set", "run.steps_per_epoch=1")
    options = ["--part", "all", "--classify", "--neighbours", 999]
    status, _, err = command("evaluate", "runs/drawn-0", *given, *options)
    assert (status, "999 neighbours were requested" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small.toml"], "no data: give --data"),
        (["small.toml", "--data", "none"], "no folder or file 'none'"),
        (["other.toml", "--data", "."], "cannot read configuration 'other.toml'"),
        (["small.toml", "--data", ".", "--set", "los.margin=1"], "did you mean 'loss'"),
        (["evaluate", "nothing", "--data", "."], "cannot read configuration"),
    ],
)
@pytest.mark.usefixtures("config")
def test_an_error_is_one_message_and_status_2(
    command: Command, arguments: list[str], message: str
) -> None:
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.usefixtures("config")
def test_an_unknown_loss_option_is_found_before_training(command: Command, tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", 8, 4)
    status, _, err = command("small.toml", "--data", data, "--set", "loss.margn=1", "--quiet")
    assert status == 2
    assert "did you mean 'margin'" in " ".join(err.split())
    assert not Path("runs").exists()
