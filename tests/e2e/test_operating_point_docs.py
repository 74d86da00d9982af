"""The pages on thresholds: every command and block is run, on portraits instead of the images shown."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from tests.helpers.documents import DOCS
from tests.helpers.run_document import BLOCK, NAMES, NUMBER, same_output, shown_commands
from verifykit.calibration import Calibration
from verifykit.evaluation import results
from verifykit.spec import BandRate, Cohort, Evidence, OperatingPoint, Population

HOW_TO = DOCS / "how-to" / "choose-an-operating-point.md"
EXPLANATION = DOCS / "explanation" / "what-a-threshold-means.md"
REFERENCE = DOCS / "reference" / "evaluation-data.md"
SIDE_PX = 260
VIEWS = 11
# The folders that the page names, and the portraits in them.
STAFF = {
    "0022": ["person_b_1", "person_b_2"],
    "0041": ["person_a_1", "person_a_2"],
    "0243": ["obama", "obama2"],
    "0398": ["biden", "biden"],
    "0924": ["impostor_2", "impostor_2"],
}
RUN_TOGETHER = re.compile(r"\d{1,3}(?:,\d{3})+|\b[0-9a-f]{12}\b|\b[0-9a-f]{64}\b")
OUTPUT = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_the_page_on_choosing_a_point_runs(portraits: Mapping[str, Path]) -> None:
    _staff(Path("staff"), portraits)
    namespace: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    text = HOW_TO.read_text(encoding="utf-8")
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, str(HOW_TO), "exec"), namespace)
            continue
        for command, shown in shown_commands(code):
            if not command.startswith("pip "):
                ran += 1
                _run(command, [line for line in shown if line.strip() not in ("", "...")])
    assert ran > 20


@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_the_page_on_thresholds_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    for name, portrait in NAMES.items():
        Path(name).write_bytes(Path(portrait).read_bytes())
    namespace: dict[str, object] = {"__name__": "__main__"}
    text = EXPLANATION.read_text(encoding="utf-8")
    blocks = OUTPUT.findall(text)
    assert len(blocks) == text.count("```python") >= 5
    for code, shown in blocks:
        exec(compile(code, str(EXPLANATION), "exec"), namespace)
        printed = capsys.readouterr().out
        assert len(printed.splitlines()) == len(shown.splitlines()), printed
        for line, expected in zip(printed.splitlines(), shown.splitlines(), strict=True):
            assert same_output(line, expected), f"{expected!r} is shown, printed was {line!r}"


@pytest.mark.parametrize(
    "record",
    [
        *(
            value
            for value in vars(results).values()
            if dataclasses.is_dataclass(value) and value.__module__ == results.__name__
        ),
        *(Calibration, OperatingPoint, Evidence, Cohort, Population, BandRate),
    ],
)
def test_every_key_of_a_report_and_of_a_calibration_is_documented(record: type) -> None:
    documented = set(re.findall(r"`(\w+)`", REFERENCE.read_text(encoding="utf-8")))
    assert {field.name for field in dataclasses.fields(record)} <= documented


def _run(command: str, shown: list[str]) -> None:
    """Compare words, not numbers; an error where the page shows one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    run = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, check=False
    )
    said = run.stdout + run.stderr
    wanted = 2 if any(line.startswith("verifykit: ") for line in shown) else 0
    assert run.returncode == wanted, f"$ {command}\n{said}"
    printed = {_plain(line) for line in said.splitlines()}
    for line in shown:
        assert _plain(line) in printed, f"{line!r} is shown, $ {command}\n{said}"


def _plain(line: str) -> str:
    return " ".join(NUMBER.sub("#", RUN_TOGETHER.sub("#", line)).split())


def _staff(folder: Path, portraits: Mapping[str, Path]) -> None:
    """Write people with many views of few portraits, and an image for each reason shown."""

    def portrait(name: str) -> Image.Image:
        image = Image.open(portraits[name]).convert("RGB")
        image.thumbnail((SIDE_PX, SIDE_PX))
        return image

    for subject, names in STAFF.items():
        (folder / subject).mkdir(parents=True)
        views = [view for name in names for view in _views(portrait(name))]
        for number, view in enumerate(views, start=1):
            view.save(folder / subject / f"{number}.jpg")
    both = Image.new("RGB", (2 * SIDE_PX, SIDE_PX))
    both.paste(portrait("person_a_1"), (0, 0))
    both.paste(portrait("person_b_1"), (SIDE_PX, 0))
    (folder / "0005").mkdir()
    whole = portrait("impostor_1")
    whole.crop((0, whole.height // 3, whole.width, whole.height)).save(folder / "0005" / "1.jpg")
    # What the page moves to other folders is not of this person alone.
    for name in ("0005/2", "0005/3", "0243/1", "0398/1"):
        both.save(folder / f"{name}.jpg")


def _views(image: Image.Image) -> Iterator[Image.Image]:
    """The same portrait, turned a little, darker or lighter, and compressed."""
    for number in range(VIEWS):
        turned = image.rotate(3 * (number - VIEWS // 2), Image.Resampling.BICUBIC)
        lit = ImageEnhance.Brightness(turned).enhance(0.7 + 0.06 * number)
        coded = io.BytesIO()
        lit.save(coded, "JPEG", quality=60 + 3 * number)
        yield Image.open(io.BytesIO(coded.getvalue()))
