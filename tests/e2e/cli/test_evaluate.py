"""``verifykit evaluate`` on drawn signatures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_results import Invoke, body
from tests.helpers.drawn_signatures import FORGED, GENUINE, WRITERS, as_csv, genuine
from verifykit.cli.options import choices
from verifykit.cli.render import interval_text, share_text
from verifykit.models import load

PAIRS = WRITERS * (WRITERS - 1) // 2 * GENUINE**2
MATED = WRITERS * GENUINE * (GENUINE - 1) // 2


def command(data: str, *more: object) -> list[object]:
    return ["evaluate", data, "-o", "report", "-m", "signature", *more]


def attack(told: dict[str, Any], name: str = "random_forgery") -> dict[str, Any]:
    (found,) = (each for each in told["models"][0]["attacks"] if each["attack"] == name)
    assert isinstance(found, dict)
    return found


def test_a_folder_gives_a_report_in_words_and_as_files(sign: Invoke) -> None:
    said = sign(*command("people"), status=0).stdout.splitlines()
    told = json.loads(Path("report/report.json").read_text())
    assert Path("report/report.html").read_text().startswith("<!DOCTYPE html>")
    assert said[0] == "24 images of 6 subjects, several faces: error, quality: strict"
    assert said[2] == f"signature  {load('signature').spec.digest[:12]}"
    found = attack(told)
    eer = found["eer"]
    assert said[3] == (
        f"random_forgery: EER {share_text(eer['value'])} {interval_text(eer['low'], eer['high'])} on "
        f"{MATED} mated and {PAIRS} non-mated comparisons"
    )
    (row,) = found["rates"]
    assert row["asked_fmr"] == 0.1
    cells = said[5].split()
    assert cells[:3] == ["0.1", f"{row['threshold']:.4f}", f"{row['fmr']['errors']}"]
    own = said.index("at the model's own thresholds:")
    assert len(found["own"]) > 2
    for line, each in zip(said[own + 2 :], found["own"], strict=False):
        assert line.split()[:3] == [
            f"{each['asked_fmr']:g}",
            f"{each['threshold']:.4f}",
            f"{each['fmr']['errors']}",
        ]
    assert said[-2:] == ["written  report/report.json", "written  report/report.html"]


def test_json_is_the_report(sign: Invoke) -> None:
    told = body(sign(*command("people", "--worst", "2", "--json"), status=0))
    assert told.pop("written") == ["report/report.json", "report/report.html"]
    written = json.loads(Path("report/report.json").read_text())
    assert told == written
    assert (told["data"], told["kind"]) == ("people", "folder")
    assert len(told["models"][0]["worst"]) == 4


def test_forgeries_groups_failures_and_two_models(sign: Invoke) -> None:
    Path("blank.png").write_bytes(b"no image")
    rows = [
        (genuine(w, n), f"w{w}", "", "ab"[w % 2]) for w in range(WRITERS) for n in range(GENUINE)
    ]
    rows += [
        (f"forged/w{w}_{n}.png", f"w{w}", "skilled_forgery", "")
        for w in range(WRITERS)
        for n in range(FORGED)
    ]
    rows += [("blank.png", "w0", "", "a"), ("gone.png", "w1", "", "b")]
    Path("lists").mkdir()
    as_csv(Path("lists/all.csv"), "path,subject,label,hand", rows)
    calibrate = ["calibrate", "lists/all.csv", "--images", ".", "-m", "signature"]
    calibrate += ["-o", "mine.json", "--references", "1", "--model-out", "mine.onnx"]
    assert "not looked at: 2" in sign(*calibrate, status=3).stderr
    more = ["-m", "mine.onnx", "--images", ".", "--worst", "0"]
    said = sign(*command("lists/all.csv", *more), status=3).stdout
    told = json.loads(Path("report/report.json").read_text())
    assert [model["model"] for model in told["models"]] == ["signature", "mine.onnx"]
    assert "not usable: 1 image, missing (such as gone.png)" in said
    assert "not usable: 1 image, unreadable (such as blank.png)" in said
    one, other = told["models"]
    # The same network: it differs in its own thresholds alone.
    assert one["digest"] == other["digest"]
    for model in (one, other):
        assert [each["attack"] for each in model["attacks"]] == [
            "random_forgery",
            "skilled_forgery",
        ]
        assert model["worst"] == []
        assert [(g["column"], g["value"]) for g in model["subgroups"]] == [
            ("hand", "a"),
            ("hand", "b"),
        ]
    (skilled,) = (each for each in other["attacks"] if each["attack"] == "skilled_forgery")
    assert skilled["non_mated_count"] == WRITERS * GENUINE * FORGED
    # At the thresholds that were calibrated on these very pictures their rates come out.
    for each, rates in zip(other["attacks"], one["attacks"], strict=True):
        assert each["rates"] == rates["rates"]
        # The model's default rate, 5e-2, is shown too.
        assert [row for row in each["own"] if row["asked_fmr"] != 5e-2] == each["rates"]
    # The same with a calibration in place of a model.
    calibrated = ["--calibration", "mine.json", "--images", ".", "--json", "--worst", "0"]
    again = body(sign(*command("lists/all.csv", *calibrated), status=3))["models"][0]
    assert again == {**other, "model": "signature"}


def test_folds_of_lfw(sign: Invoke) -> None:
    lines = ["3\t3"]
    for writer in range(3):
        other = (writer + 1) % 3
        lines += [f"w{writer}\t{n}\t{n + 1}" for n in range(1, 4)]
        lines += [f"w{writer}\t{n}\tw{other}\t{n + 1}" for n in range(1, 4)]
    Path("pairs.txt").write_text("\n".join(lines) + "\n")
    result = sign(*command("pairs.txt", "--images", "people"), status=0)
    told = json.loads(Path("report/report.json").read_text())
    assert (told["multi_face"], told["quality"], told["kind"]) == ("middle", "warn", "lfw_pairs")
    folds = told["models"][0]["folds"]
    assert len(folds["accuracies"]) == 3
    assert folds["mean"] > 0.8
    assert (
        f"accuracy over 3 folds: {folds['mean']:.2%} +- {folds['standard_error']:.2%} (standard error), "
        "0 pairs without a score taken for a non-match"
    ) in result.stdout
    assert choices("lfw_pairs", "largest", "strict") == ("largest", "strict")
    assert choices("pairs", None, None) == ("error", "strict")


def test_what_has_no_number_is_null_in_json(sign: Invoke) -> None:
    """The same files twice: neither kind of scores varies, and their distance is infinite."""
    for writer in range(2):
        for number in range(2):
            target = Path(f"same/w{writer}/{number}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(genuine(writer), target)
    told = body(sign(*command("same", "--json"), status=0))
    assert attack(told)["d_prime"] is None


@pytest.mark.parametrize(
    ("arguments", "name", "told"),
    [
        (["nobody"], "InputError", "there is no folder or file 'nobody'"),
        (["one"], "InputError", "at least two subjects are needed"),
        (["unknown.csv"], "InputError", "has the columns file, person; accepted are path,subject"),
        (
            ["blank"],
            "InputError",
            "no non-mated comparison to measure: 0 of 4 images gave a template",
        ),
        (["people", "--images", "."], "InputError", "with its images in it"),
        (["people", "-m", "signatur"], "ModelNotFoundError", "did you mean 'signature'"),
        (["people", "--calibration", "unknown.csv"], "CalibrationError", "is not JSON"),
        (["people", "-o", "unknown.csv"], "FileExistsError", "unknown.csv"),
        (["people", "-o", "unknown.csv/report"], "NotADirectoryError", "unknown.csv"),
    ],
)
def test_errors_are_one_message(sign: Invoke, arguments: list[str], name: str, told: str) -> None:
    shutil.copytree("people/w0", "one/w0")
    for path in ("a/1", "a/2", "b/1", "b/2"):
        Path("blank", path).parent.mkdir(parents=True, exist_ok=True)
        Path("blank", f"{path}.png").write_text(f"no image {path}")
    as_csv(Path("unknown.csv"), "file,person", [("a.png", "a")])
    full = ["evaluate", *arguments]
    full += [] if "-o" in arguments else ["-o", "report"]
    full += [] if "-m" in arguments else ["-m", "signature"]
    result = sign(*full, status=2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"verifykit: {name}: ")
    assert told in result.stderr
    assert not Path("report/report.json").exists()
    assert body(sign(*full, "--json", status=2))["error"]["name"] == name


@pytest.mark.parametrize(
    "arguments",
    [["people"], ["-o", "report"], ["people", "-o", "report", "--worst", "-1"],
     ["people", "-o", "report", "--multi-face", "all"]],
)  # fmt: skip
def test_wrong_usage_is_status_two(sign: Invoke, arguments: list[str]) -> None:
    assert sign("evaluate", *arguments, "-m", "signature", status=2).stderr


def test_bands_are_in_the_words_the_file_and_the_page(sign: Invoke) -> None:
    rows = [
        (genuine(w, n), f"w{w}", str(20 + w * 10)) for w in range(WRITERS) for n in range(GENUINE)
    ]
    as_csv(Path("ages.csv"), "path,subject,age", rows)
    said = sign(*command("ages.csv", "--band", "age=0,50"), status=0).stdout.splitlines()
    (told,) = json.loads(Path("report/report.json").read_text())["models"]
    names = ["age 0 to <50", "age >=50", "across bands"]
    assert [band["band"] for band in told["bands"]] == names
    assert [band["subject_count"] for band in told["bands"]] == [3, 3, 6]
    assert sum(band["non_mated_count"] for band in told["bands"]) == PAIRS
    start = said.index("by age, both images of a pair in the band:")
    first = told["bands"][0]["rates"][0]
    assert first["requested_fmr"] == 0.1
    assert first["got_over_requested"]["value"] == first["fmr"]["value"] / 0.1
    assert said[start + 2].split()[:7] == [
        *names[0].split(),
        "3",
        "0.1",
        f"{first['got_over_requested']['value']:.2g}",
    ]
    assert any(line.startswith("age >=50: 48 non-mated pairs, too few for FMR") for line in said)
    page = Path("report/report.html").read_text()
    assert '<section id="bands"' in page
    assert '<a href="#bands">' in page
    assert "age &gt;=50" in page or "age >=50" in page
    assert 'class="few"' in page
