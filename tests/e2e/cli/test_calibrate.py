"""``verifykit calibrate`` on drawn signatures, and the verbs that decide by what it wrote."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image as Picture

import verifykit as vk
from tests.helpers.command_results import Invoke, body
from tests.helpers.drawn_signatures import FORGED, GENUINE, WRITERS, as_csv, genuine
from verifykit import modelfile
from verifykit.evaluation.embedding import ModelEmbedder
from verifykit.models import load

COMMAND = ("calibrate", "people", "-o", "mine.json", "-m", "signature")


def test_a_folder_gives_thresholds_to_decide_by(sign: Invoke) -> None:
    said = sign(*COMMAND, "--references", "1,3", "--name", "the staff", status=0).stdout
    found = vk.Calibration.read("mine.json")
    lines = said.splitlines()
    assert lines[0] == found.origin()
    assert lines[0].startswith("the staff: 24 images of 6 subjects, 0 more gave no template; ")
    pairs = WRITERS * (WRITERS - 1) // 2 * GENUINE**2
    assert lines[2] == f"random_forgery, 1 reference: {pairs} non-mated comparisons"
    singles = [point for point in found.operating_points if point.reference_count == 1]
    assert [point.fmr for point in singles] == [0.1, 0.05, 0.02]
    for point, line in zip(singles, lines[4:7], strict=True):
        cells = line.split()
        shown = [f"{point.fmr:g}", f"{point.threshold:.4f}", f"{point.false_match_count}"]
        assert cells[:3] == shown
    assert "and for 3 references" in lines
    # A signature model's default is about forgeries, of which there were none.
    assert lines[-2:] == [
        "default  none: every call needs --fmr or --threshold",
        "written  mine.json",
    ]
    told = body(
        sign(
            *(
                "compare",
                genuine(0),
                genuine(0, 1),
                "-m",
                "signature",
                "--calibration",
                "mine.json",
            ),
            *("--attack", "random_forgery", "--fmr", "0.05", "--json"),
            status=0,
        )
    )
    assert (told["threshold"], told["fmr"]) == (singles[1].threshold, 0.05)
    assert told["score_fmr"] == 0.02
    assert told["llr"] > 0.0


def test_json_says_what_the_file_says_and_a_model_carries_it(sign: Invoke) -> None:
    rows = [(genuine(w, n), f"w{w}", "") for w in range(WRITERS) for n in range(GENUINE)]
    rows += [
        (f"forged/w{w}_{n}.png", f"w{w}", "skilled_forgery")
        for w in range(WRITERS)
        for n in range(FORGED)
    ]
    rows += [("people/w0/gone.png", "w0", "")]
    Path("lists").mkdir()
    as_csv(Path("lists/all.csv"), "path,subject,label", rows)
    command = ["calibrate", "lists/all.csv", "--images", ".", "-o", "mine.json"]
    command += ["-m", "signature", "--references", "1", "--model-out", "mine.onnx", "--json"]
    told = body(sign(*command, status=3))
    written = json.loads(Path("mine.json").read_text())
    assert told == {
        "out": "mine.json",
        "failures": {"missing": 1},
        **{
            name: written[name]
            for name in (
                "model",
                "data_digest",
                "default_fmr",
                "default_attack",
                "operating_points",
            )
        },
        "populations": [],
        "left_out": {},
        "left_out_names": {},
    }
    assert (told["default_fmr"], told["default_attack"]) == (0.05, "skilled_forgery")
    assert [p["non_mated_count"] for p in told["operating_points"]] == [240] * 3 + [72] * 2
    assert written["failures"] == [["missing", 1]]
    # The written model is the same network, with these points inside.
    found, file, own = vk.Calibration.read("mine.json"), load("mine.onnx"), load("signature")
    assert file.spec == found.apply(own.spec)
    assert (file.spec.digest, file.detector) == (own.spec.digest, own.detector)
    assert modelfile.read("mine.onnx").data == file.data
    pair = [genuine(0), genuine(0, 1), "--json"]
    by_model = body(sign("compare", *pair, "-m", "mine.onnx", status=0))
    calibrated = ["-m", "signature", "--calibration", "mine.json"]
    assert by_model == body(sign("compare", *pair, *calibrated, status=0))
    assert (by_model["fmr"], by_model["attack"]) == (0.05, "skilled_forgery")
    said = sign(*command[:-1], status=3).stdout
    assert said.endswith("written  mine.json\nwritten  mine.onnx\n")
    assert "skilled_forgery, 1 reference: 72 non-mated comparisons" in said
    assert "default  FMR 0.05 (skilled_forgery)" in said
    assert ", 1 more gave no template; " in said


def test_listed_pairs(sign: Invoke) -> None:
    rows = [
        (genuine(w, n), genuine(v, m), int(w == v))
        for (w, n), (v, m) in combinations([(w, n) for w in range(4) for n in range(3)], 2)
    ]
    as_csv(Path("pairs.csv"), "probe,reference,mated", rows)
    told = body(sign("calibrate", "pairs.csv", *COMMAND[2:], "--json", status=0))
    assert [(p["fmr"], p["reference_count"], p["non_mated_count"]) for p in told["operating_points"]] == [
        (0.1, 1, 54)
    ]  # fmt: skip


def test_where_embeddings_are_kept(
    sign: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    shutil.copytree("people/w0", "few/w0")
    shutil.copytree("people/w1", "few/w1")
    Path("few/w1/w1_0004.png").unlink()
    shutil.copytree("people/w2", "few/w2")
    command = ["calibrate", "few", *COMMAND[2:], "--references", "1"]
    sign(*command, "--no-cache", status=0)
    assert not (tmp_path / "home" / "embeddings.sqlite").exists()
    sign(*command, "--cache", "kept.sqlite", status=0)
    assert not (tmp_path / "home" / "embeddings.sqlite").exists()
    assert Path("kept.sqlite").stat().st_mode & 0o777 == 0o600
    first = vk.Calibration.read("mine.json")
    # What is kept is taken: nothing is computed a second time.
    monkeypatch.setattr(ModelEmbedder, "embed", None)
    sign(*command, "--cache", "kept.sqlite", status=0)
    assert vk.Calibration.read("mine.json").operating_points == first.operating_points
    assert "TypeError" in sign(*command, "--no-cache", status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "name", "told"),
    [
        (["nobody"], "InputError", "there is no folder or file 'nobody'"),
        (["people/w0"], "InputError", "nothing says whose it is"),
        (["one"], "InputError", "at least two subjects are needed"),
        (["few"], "CalibrationError", "12 non-mated comparisons are too few: FMR 0.1 takes 30"),
        (["unknown.csv"], "InputError", "has the columns file, person; accepted are path,subject"),
        (["people", "--images", "."], "InputError", "with its images in it"),
        (["people", "--references", "0"], "InputError", "from 1 on, as in 1,3,5, got '0'"),
        (["people", "--references", "1,x"], "InputError", "got '1,x'"),
        (["people", "--references", ""], "InputError", "got ''"),
        (["people", "--cohort", "1"], "InputError", "a cohort of 1 of 6 usable subjects"),
        (["people", "-o", "no/mine.json"], "InputError", "no folder 'no' to write to"),
        (["people", "--model-out", "no/mine.onnx"], "InputError", "no folder 'no' to write to"),
        (["people", "-o", "one"], "InputError", "'one' is a folder: give the name of a file"),
        (["people", "--model-out", "one"], "InputError", "'one' is a folder"),
        (["people", "-m", "signatur"], "ModelNotFoundError", "did you mean 'signature'"),
        (["people", "--cache", "unknown.csv"], "InputError", "unknown.csv"),
    ],
)
def test_errors_are_one_message_and_nothing_is_written(
    sign: Invoke, arguments: list[str], name: str, told: str
) -> None:
    shutil.copytree("people/w0", "one/w0")
    for writer in (0, 1, 2):
        for number in (1, 2):
            target = Path(f"few/w{writer}/{number}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(genuine(writer, number), target)
    as_csv(Path("unknown.csv"), "file,person", [("a.png", "a")])
    before = sorted(Path().iterdir())
    command = ["calibrate", *arguments]
    command += [] if "-o" in arguments else ["-o", "mine.json"]
    command += [] if "-m" in arguments else ["-m", "signature"]
    result = sign(*command, status=2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"verifykit: {name}: ")
    assert told in result.stderr
    assert body(sign(*command, "--json", status=2))["error"]["name"] == name
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("verb", ["calibrate", "evaluate"])
def test_further_frames_are_part_of_the_status(sign: Invoke, verb: str) -> None:
    shutil.copytree("people", "pages")
    path = next(Path("pages").rglob("*.png"))
    with Picture.open(path) as first:
        first.save(path, "PNG", save_all=True, append_images=[Picture.new(first.mode, first.size)])
    said = sign(verb, "pages", "-o", "pages.out", "-m", "signature", "--json", status=3)
    assert body(said)["left_out"] == {"further_frames": 1}
    assert "not looked at: 1" in said.stderr


def _sites() -> None:
    rows = [
        (genuine(w, n), f"w{w}", "" if n == 0 and w == 0 else "ab"[w % 2])
        for w in range(WRITERS)
        for n in range(GENUINE)
    ]
    as_csv(Path("sites.csv"), "path,subject,site", rows)


def test_bands_give_thresholds_for_everyone_and_say_what_each_band_got(sign: Invoke) -> None:
    _sites()
    command = ["calibrate", "sites.csv", "-o", "mine.json", "-m", "signature", "--references", "1"]
    command += ["--band", "site", "--least-people", "3", "--name", "the staff"]
    said = sign(*command, status=0).stdout.splitlines()
    (every,) = vk.Calibration.read("mine.json").populations
    start = said.index("population any, 1 reference: every band keeps the rate")
    for point, line in zip(every.operating_points, said[start + 2 :], strict=False):
        assert line.split()[:3] == [
            f"{point.fmr:g}",
            f"{point.threshold:.4f}",
            f"{point.non_mated_count}",
        ]
    rows = [line for line in said if line.startswith(("site a ", "site b "))]
    assert len(rows) == len(every.bands) == 2
    assert rows[0].split()[:4] == ["site", "a", "3", "0.1"]
    assert "1 without a value of site are in no band" in said
    assert any("takes" in line and line.endswith("not stated") for line in said)
    told = body(sign(*command, "--worst-band", "--json", status=0))
    assert [p["threshold"] for p in told["operating_points"]] == [
        point.threshold for point in every.operating_points
    ]
    assert told["populations"][0]["bands"][0]["band"] == "site a"
    pair = [genuine(0), genuine(0, 1), "-m", "signature", "--attack", "random_forgery"]
    pair += ["--fmr", "0.1", "--calibration", "mine.json", "--json"]
    sign(*command, status=0)
    usual = body(sign("compare", *pair, status=0))
    found = body(sign("compare", *pair, "--population", "any", status=0))
    assert found["threshold"] == every.operating_points[0].threshold >= usual["threshold"]
    assert found["population"] == every.description
    assert usual["population"] is None


def test_bands_that_cannot_be_measured_are_errors(sign: Invoke) -> None:
    _sites()
    command = ["calibrate", "sites.csv", "-o", "mine.json", "-m", "signature", "--references", "1"]
    for more, named in (
        (["--band", "age=0,18"], "no column 'age' to make bands of; they have: 'site'"),
        (["--band", "site=1"], "is cut at numbers, and 'a' is not one"),
        (["--band", "site="], "ascending edges, such as age=0,7,13,18, got 'site='"),
        (["--worst-band"], "--worst-band takes bands: give --band, such as --band age=0,7,13,18"),
    ):
        assert named in sign(*command, *more, status=2).stderr
    assert not Path("mine.json").exists()
    pair = ["compare", genuine(0), genuine(0, 1), "-m", "signature", "--population", "any"]
    assert "has no thresholds for population 'any'; it has: none" in sign(*pair, status=2).stderr
