"""The documents: examples are run, and reference pages agree with the code."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import verifykit.errors
from demo.signature_files import write_signatures
from tests.helpers.run_document import BLOCK, NUMBER, Run, run_document, shown_commands
from verifykit.modalities.face import CoveredCheck, FaceModality
from verifykit.modalities.face.quality import QualityLimits, face_reasons
from verifykit.modalities.signature.ink import Ink, find_ink
from verifykit.modalities.signature.quality import (
    SignatureLimits,
    measure_signature,
    signature_reasons,
)
from verifykit.spec import SignatureCrop

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
TUTORIAL = DOCS / "tutorial" / "train-your-own.md"
LINK = re.compile(r"\]\(([^)#:]+)\)")

needs_torch = pytest.mark.skipif(
    not find_spec("lightning_fabric"), reason="needs the extras train and export"
)


@pytest.mark.parametrize(
    "name", ["enroll-and-verify", "multiple-faces-and-quality", "offline-installation"]
)
@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_a_how_to_page_runs(name: str, in_process: Run) -> None:
    ran = run_document(DOCS / "how-to" / f"{name}.md", run=in_process)
    assert ran["python"] > 0
    assert ran["console"] > 0


@pytest.mark.usefixtures("portrait_folder")
def test_the_page_on_signatures_runs(in_process: Run) -> None:
    write_signatures(Path())
    ran = run_document(DOCS / "how-to" / "signatures.md", run=in_process)
    assert ran == {"python": 4, "console": 3}


@needs_torch
@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_the_page_on_importing_runs(in_process: Run) -> None:
    document = DOCS / "how-to" / "import-an-encoder.md"
    ran = run_document(document, ("verifykit", "verifykit-export"), in_process)
    assert ran == {"python": 1, "console": 3}


@needs_torch
def test_the_tutorial_runs_on_drawn_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _draw_people(tmp_path / "data" / "faces" / "orl")
    monkeypatch.setenv("VERIFYKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    text = TUTORIAL.read_text(encoding="utf-8")
    config = re.search(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert config
    # As documented, but with fewer epochs.
    short = config[1].replace("epochs = 60", "epochs = 2").replace("epochs = 10 ", "epochs = 1 ")
    assert short.count("epochs = 2") == short.count("epochs = 1 ") == 1
    Path("my.toml").write_text(short, encoding="utf-8")
    ran = []
    for block in BLOCK.finditer(text):
        if block[1] == "python":
            exec(compile(block[2], str(TUTORIAL), "exec"), {"__name__": "__main__"})
            assert "of 450 wrong people match" in capfd.readouterr().out
            continue
        for command, shown in shown_commands(block[2]):
            if command.startswith("pip "):
                continue
            ran.append(command.split()[0])
            assert _call(monkeypatch, command, tmp_path / "data") in (0, 1), command
            captured = capfd.readouterr()
            if ran[-1] == "verifykit":  # match or no match: that is for the numbers
                assert "FMR" in captured.out
                continue
            _require_same_lines(shown, captured.out + captured.err)
    assert ran == [*["verifykit-train"] * 5, "verifykit-export", "verifykit"]


ORL = Path(os.environ.get("VERIFYKIT_DATA", "/nowhere"), "faces", "orl")


@needs_torch
@pytest.mark.slow
@pytest.mark.skipif(not ORL.is_dir(), reason="needs faces/orl below VERIFYKIT_DATA")
def test_the_tutorials_figures_are_those_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    text = TUTORIAL.read_text(encoding="utf-8")
    config = re.search(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert config
    Path("my.toml").write_text(config[1], encoding="utf-8")
    compared = 0
    for block in BLOCK.finditer(text):
        if block[1] == "python":
            exec(compile(block[2], str(TUTORIAL), "exec"), {"__name__": "__main__"})
            shown = text[block.end() :].split("```text\n")[1].split("```")[0].splitlines()
            compared += _require_same_figures(shown, capfd.readouterr().out)
            continue
        for command, shown in shown_commands(block[2]):
            if not command.startswith("pip "):
                assert _call(monkeypatch, command, ORL.parents[1]) == 0, command
                captured = capfd.readouterr()
                compared += _require_same_figures(shown, captured.out + captured.err)
    assert compared >= 14


def _require_same_figures(shown: list[str], printed: str) -> int:
    """Compare rates within three points, and counts of matches within eight; return how many figures.

    What follows from a few values may differ by ten points: an FNMR at FMR 0.001 from the four highest of
    4500 scores, the shares of a classification from 25 images.
    """
    figure = re.compile(r"(\d+(?:\.\d+)?)%|(\d+) (?:of \d+ right|of \d+ wrong)")
    by_words: dict[str, list[str]] = {}
    for line in printed.splitlines():
        by_words.setdefault(_plain(line), []).append(line)
    compared = 0
    for line in shown:
        if not figure.search(line) or "━" in line:
            continue
        assert by_words.get(_plain(line)), f"{line!r} is shown, printed was:\n{printed}"
        pairs = zip(
            figure.findall(line), figure.findall(by_words[_plain(line)].pop(0)), strict=True
        )
        for (rate, count), (rate_now, count_now) in pairs:
            few = any(name in line for name in ("FMR 0.001", "linear", "neighbours"))
            most = 10.0 if few else 3.0
            near = (float(rate or count), most if rate else 8.0)
            assert abs(float(rate_now or count_now) - near[0]) <= near[1], line
            compared += 1
    return compared


@needs_torch
@pytest.mark.parametrize(
    ("page", "name"), [("cli_page", "command-line.md"), ("config_page", "training-config.md")]
)
def test_a_generated_page_is_in_step(page: str, name: str) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert getattr(_generator(), page)() == written, "run: python docs/reference/generate.py"


@needs_torch
def test_every_loss_is_documented_with_its_options() -> None:
    from verifykit_training import losses

    text = (DOCS / "reference" / "losses.md").read_text(encoding="utf-8")
    for name in losses.LOSSES:
        (row,) = re.findall(rf"^\| `{name}` \| .*? \| (.*) \|$", text, re.MULTILINE)[:1]
        function: Callable[..., object] = losses.MarginSoftmax
        if name == "decision":
            function = losses.DecisionLoss
        elif name not in ("cosface", "arcface"):
            function = losses.build_loss(name).compute  # type: ignore[assignment]
        options = {
            key: str(parameter.default)
            for key, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and key not in ("forgeries", "kind")
        }
        assert dict(re.findall(r"`(\w+)` ([\w.]+)", row)) == options, name


@needs_torch
def test_every_encoder_is_documented_with_its_options() -> None:
    from verifykit_training import encoders

    text = (DOCS / "reference" / "encoders.md").read_text(encoding="utf-8")
    for name in encoders.ENCODERS:
        (row,) = re.findall(rf"^\| `{name}` \|.*\| (.*) \|$", text, re.MULTILINE)
        assert sorted(re.findall(r"`(\w+)`", row)) == sorted(encoders.encoder_options(name)), name


@needs_torch
def test_a_configuration_names_the_weights_that_torchvision_fetches() -> None:
    import torchvision

    text = (CHECKOUT / "configs" / "face_resnet152.toml").read_text(encoding="utf-8")
    url = torchvision.models.get_model_weights("resnet152")["IMAGENET1K_V1"].url
    assert set(re.findall(r"resnet152-\w+\.pth", text)) == {url.rsplit("/", 1)[-1]}


def test_every_error_and_reason_is_documented() -> None:
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    errors = {
        name
        for name, value in vars(verifykit.errors).items()
        if isinstance(value, type) and not name.startswith("_")
    }
    assert errors > {"VerifyKitError"}
    for name in errors - {"VerifyKitError"}:
        assert f"\n| `{name}` |" in text, name
    worst = dict.fromkeys(["eye_distance_px", "visible_share", "brightness", "sharpness"], 0.0)
    worst |= {"yaw_deg": 90.0, "pitch_deg": 90.0, "roll_deg": 0.0, "bright_share": 1.0}
    worst["profile"] = 1.0
    reasons = face_reasons(worst, QualityLimits())
    assert len(reasons) >= 6
    listed = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    # These images have every reason; a reason of two modalities is listed for each.
    unlikely = {"ink_share": 1.0, "side_px": 1.0, "cut_share": 1.0}
    marks = {**dict.fromkeys(measure_signature(_no_ink()), 0.0), **unlikely}
    of_signatures = signature_reasons(marks, SignatureLimits())
    assert len(of_signatures) == 4
    warnings = ["smaller_faces", "not_detected", "more_faces"]
    of_faces = ["no_face", "several_faces", "turned", *reasons, "covered", *warnings]
    assert sorted(of_faces) == sorted([*FaceModality.reasons, *reasons, *CoveredCheck.reasons])
    assert listed == [*of_faces, "blank", *of_signatures]


def _no_ink() -> Ink:
    return find_ink(np.full((40, 90, 3), 255, np.uint8), SignatureCrop(96, 288))


def test_links_between_documents_lead_somewhere() -> None:
    documents = [CHECKOUT / "README.md", *DOCS.rglob("*.md")]
    broken = [
        f"{document.relative_to(CHECKOUT)}: {target}"
        for document in documents
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not broken


def _draw_people(folder: Path) -> None:
    from tests.unit.training.drawing import drawn

    for person in range(1, 31):
        (folder / f"s{person:02}").mkdir(parents=True)
        for number in range(1, 11):
            path = folder / f"s{person:02}" / f"{number}.pgm"
            assert cv2.imwrite(str(path), cv2.cvtColor(drawn(person, number), cv2.COLOR_RGB2GRAY))


def _call(monkeypatch: pytest.MonkeyPatch, command: str, data: Path) -> int:
    """Run in this process: torch is imported once."""
    import verifykit.cli
    import verifykit_export.cli
    import verifykit_training.cli

    mains = {
        "verifykit": verifykit.cli.main,
        "verifykit-train": verifykit_training.cli.main,
        "verifykit-export": verifykit_export.cli.main,
    }
    words = shlex.split(command.replace("$VERIFYKIT_DATA", str(data)))
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        mains[words[0]]()
    return int(stop.value.code or 0)


def _require_same_lines(shown: list[str], printed: str) -> None:
    """Compare words, not numbers or the progress bar."""
    lines = {_plain(line) for line in printed.splitlines()}
    wanted = [line for line in shown if line.strip() and "━" not in line]
    assert wanted
    for line in wanted:
        assert _plain(line) in lines, f"{line!r} is shown, printed was:\n{printed}"


def _plain(line: str) -> str:
    """Without numbers, and without the table's lines, whose length follows the numbers'."""
    return " ".join(NUMBER.sub("#", re.sub(r"[│┌┐└┘─┬┴]", " ", line)).split())


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "reference" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    if not find_spec("lightning_fabric"):
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
