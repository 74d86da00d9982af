"""The pages on textbook examples and on Keras: every command is run, on drawn people and on real digits."""

from __future__ import annotations

import csv
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import onnx
import torch

import verifykit as vk
import verifykit_export.cli
import verifykit_training.cli
from benchmarks.import_matrix.networks import keras_like
from tests.helpers.run_document import BLOCK, NUMBER, shown_commands
from tests.unit.training.drawing import draw_folder
from verifykit_training.config import load_config

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "how-to" / "textbook-examples.md"
KERAS = PAGE.with_name("from-keras.md")
MAINS = {
    "verifykit-train": verifykit_training.cli.main,
    "verifykit-export": verifykit_export.cli.main,
}
SHORT = "--set run.epochs=2 --set softmax_stage.epochs=1"

Call = Callable[[str], tuple[int, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "configs").symlink_to(CHECKOUT / "configs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(command: str) -> tuple[int, str]:
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            MAINS[words[0]]()
        captured = capfd.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    yield run
    torch.set_num_threads(threads)


def test_the_page_on_textbook_examples_runs(call: Call) -> None:
    draw_folder(Path("five"), 5, 10)
    draw_folder(Path("people"), 30, 4)
    _write_triplets(Path("triplets.csv"), Path("people"))
    ran, namespace = [], {"__name__": "__main__"}
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if block[1] == "python":
            exec(compile(block[2], str(PAGE), "exec"), namespace)
            continue
        for command, shown in shown_commands(block[2]):
            ran.append(command.split()[0])
            is_run = re.match(r"verifykit-train configs/", command)
            short = SHORT.replace("2", "1") if "resnet152" in command else SHORT
            if "resnet152" in command:  # the configuration as it is, but for size
                short += " --set encoder.name=resnet18 --set encoder.weights=none --set crop.height_px=32"
                short += " --set crop.width_px=32 --set data.validation_share=0.2"
            status, printed = call(f"{command} {short}" if is_run else command)
            assert status == 0, f"{command}\n{printed}"
            lines = {_words(line) for line in printed.splitlines()}
            for line in shown:
                if (
                    line.strip() not in ("", "...")
                    and "━" not in line
                    and not line.startswith("epoch")
                ):
                    assert _words(line) in lines, f"{line!r} is shown, printed was:\n{printed}"
    assert ran.count("verifykit-train") >= 9
    assert ran.count("verifykit-export") == 4

    # The classifier names images that the network has not seen, and refuses another model's templates.
    found = vk.Classifier.load("five.npz")
    assert set(found.classes) == {f"s{number:02}" for number in range(5)}
    model = vk.Verifier("digits.onnx")
    assert (model.spec.input.color, len(model.spec.input.mean)) == ("grey", 1)
    with np.load("digits.npz") as arrays:
        ones = [np.repeat(image, 3, axis=2) for image in arrays["images"][arrays["labels"] == 1]]
    assert model.compare(ones[0], ones[0], threshold=0.99)
    assert not model.compare(ones[0], 255 - ones[1], threshold=0.99)
    with pytest.raises(vk.TemplateMismatchError):
        found.classify(model.extract(np.zeros((28, 28, 3), np.uint8)))


def test_the_page_on_keras_runs(call: Call) -> None:
    onnx.save(keras_like(17, batch=1), "keras.onnx")
    text = KERAS.read_text(encoding="utf-8")
    ((command, shown),) = [
        each for block in BLOCK.finditer(text) for each in shown_commands(block[2])
    ]
    status, printed = call(command)
    assert status == 0, printed
    assert [_words(line) for line in printed.splitlines()] == [
        _words(line) for line in shown if line
    ]
    assert "--layout nhwc" in command

    # Each loss that the page names exists, with these options.
    for name, options in re.findall(r'`loss.name = "(\w+)"`((?:, `\w+ = [^`]+`)*)', text):
        given = [f"loss.{option}" for option in re.findall(r"`([^`]+)`", options)]
        load_config(CHECKOUT / "configs" / "orl_cnn5.toml", [f"loss.name={name}", *given])


def _write_triplets(path: Path, people: Path) -> None:
    subjects = sorted(people.iterdir())
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("anchor", "positive", "negative"))
        for own, other in itertools.pairwise(subjects):
            a, p, *_ = sorted(own.iterdir())
            rows.writerow((a, p, min(other.iterdir())))


def _words(line: str) -> str:
    return " ".join(NUMBER.sub("#", re.sub(r"[│┌┐└┘─┬┴]", " ", line)).split())
