"""Decision options of the commands: a calibration, a policy, an FPIR."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.command_results import Invoke, body
from tests.helpers.drawn_signatures import genuine
from verifykit.models import load
from verifykit.spec import OperatingPoint

MINE = ("-m", "signature", "--calibration", "mine.json")
# Two signatures of a drawn writer score 0.95 here, and those of two writers less than 0.5.
THRESHOLDS = {0.1: 0.7, 0.02: 0.8, 0.001: 0.99}


@pytest.fixture(scope="module")
def calibrated_folder(
    signature_opened_once: None, signers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder: two writers in ``g.db``, thresholds for 1 and 2 references in ``mine.json``."""
    spec = load("signature").spec
    points = [
        OperatingPoint(fmr, threshold, 10**5, round(fmr * 10**5), "random_forgery", count)
        for count in (1, 2)
        for fmr, threshold in THRESHOLDS.items()
    ]
    mine = vk.Calibration(
        *(
            "signature",
            spec.digest,
            spec.fusion,
            tuple(points),
            (),
            0.02,
            "random_forgery",
            "staff",
        ),
        *("0" * 64, 6, 24, (), "error", "strict", "2026-11-25T20:00:00+00:00", vk.__version__),
    )
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "mine.json").write_text(mine.to_json(), encoding="utf-8")
    verifier = vk.Verifier("signature", gallery=folder / "g.db")
    for writer in (0, 1):
        verifier.enroll(f"w{writer}", signers / genuine(writer))
    return folder


@pytest.fixture
def calibrated(sign: Invoke, calibrated_folder: Path) -> Invoke:
    for name in ("g.db", "mine.json"):
        shutil.copy(calibrated_folder / name, name)
    return sign


def test_every_command_uses_the_calibration(calibrated: Invoke) -> None:
    pair = [genuine(0), genuine(0, 1)]
    answer = body(calibrated("compare", *pair, *MINE, "--json", status=0))
    assert (answer["threshold"], answer["fmr"], answer["attack"]) == (0.8, 0.02, "random_forgery")
    assert answer["model"] == load("signature").spec.digest
    verify = ["verify", "w0", genuine(0, 1), "-g", "g.db", *MINE]
    assert body(calibrated(*verify, "--json", status=0))["threshold"] == 0.8
    assert body(calibrated(*verify, "--json", "--fmr", "0.001", status=1))["threshold"] == 0.99
    found = body(calibrated("identify", genuine(1, 1), "-g", "g.db", *MINE, "--json", status=0))
    assert (found["threshold"], found["fmr"], found["fpir"]) == (0.8, 0.02, None)
    batch = ["identify-batch", "people/w1", "-g", "g.db", "-o", "out.jsonl", *MINE]
    assert re.search(r"^images +4$", calibrated(*batch, status=0).stdout, re.MULTILINE)
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert {line["threshold"] for line in lines[1:]} == {0.8}
    # The warning of an enrollment about likeness: these two differ at any threshold.
    output = calibrated("enroll", "w0", genuine(2), "-g", "g.db", *MINE, status=0).stdout
    assert "does not look like" in output
    # The gallery is the same for the model's own thresholds.
    own = ["verify", "w1", genuine(1, 1), "-g", "g.db", "-m", "signature", "--json"]
    assert body(calibrated(*own, status=0))["attack"] == "skilled_forgery"


@pytest.mark.parametrize(
    ("rates", "outcome", "threshold"),
    [
        ((0.1, 0.1), "accept", 0.7),
        ((0.02, 0.1), "accept", 0.8),
        ((0.001, 0.02), "review", 0.99),
    ],
)
def test_a_policy_and_its_review_zone(
    calibrated: Invoke, rates: tuple[float, float], outcome: str, threshold: float
) -> None:
    options = [*MINE, "--accept-fmr", str(rates[0]), "--review-fmr", str(rates[1])]
    status = int(outcome != "accept")
    for command in (
        ["compare", genuine(0), genuine(0, 1)],
        ["verify", "w0", genuine(0, 1), "-g", "g.db"],
    ):
        answer = body(calibrated(*command, *options, "--json", status=status))
        assert (answer["outcome"], answer["match"]) == (outcome, outcome == "accept")
        assert (answer["threshold"], answer["fmr"]) == (threshold, rates[0])
        assert (answer["review_threshold"], answer["review_fmr"]) == (
            THRESHOLDS[rates[1]],
            rates[1],
        )
    output = calibrated(*command, *options, status=status).stdout
    assert output.startswith({"accept": "match: ", "review": "review: "}[outcome])
    assert f"review     from {THRESHOLDS[rates[1]]:.4f}, FMR {rates[1]:g} (1 in " in output
    refused = body(calibrated("compare", genuine(0), genuine(1), *options, "--json", status=1))
    assert (refused["outcome"], refused["match"]) == ("refuse", False)


def test_fpir_of_the_gallery(calibrated: Invoke) -> None:
    search = ["identify", genuine(0, 1), "-g", "g.db", *MINE]
    answer = body(calibrated(*search, "--fpir", "0.05", "--json", status=0))
    # 1 - sqrt(1 - 0.05) is 0.0253: the point of 0.02 is the next below.
    assert (answer["threshold"], answer["fmr"], answer["gallery_size"]) == (0.8, 0.02, 2)
    assert answer["fpir"] == pytest.approx(1 - 0.98**2)
    assert answer["faces"][0]["candidates"][0]["fpir"] == answer["fpir"]
    assert body(calibrated(*search, "--fpir", "0.03", "--json", status=1))["threshold"] == 0.99
    output = calibrated(*search, "--fpir", "0.05", status=0).stdout
    assert output.startswith("1. w0  score ")
    assert (
        "FPIR       0.0396 (1 in 25 searches for an unknown person would find a subject among 2"
        in output
    )
    batch = ["identify-batch", "people/w0", "-g", "g.db", "-o", "out.jsonl", *MINE]
    calibrated(*batch, "--fpir", "0.05", status=0)
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert {line["fpir"] for line in lines} == {answer["fpir"]}
    again = calibrated(*batch, "--fpir", "0.03", status=2).stderr
    assert "verifykit: InputError: " in again


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda text: text[:-9], "is not JSON"),
        (lambda text: "{}", "is not a calibration"),
        (lambda text: text.replace('"spread"', '"max"'), "for fusion 'max'"),
    ],
)
def test_a_calibration_that_cannot_be_used(
    calibrated: Invoke, change: Callable[[str], str], answer: str
) -> None:
    path = Path("mine.json")
    path.write_text(change(path.read_text()))
    output = calibrated("compare", genuine(0), genuine(0, 1), *MINE, status=2).stderr
    assert output.startswith("verifykit: CalibrationError: ")
    assert answer in output


def test_every_command_refuses_the_calibration_of_another_model(calibrated: Invoke) -> None:
    path = Path("mine.json")
    path.write_text(path.read_text().replace(load("signature").spec.digest, "0" * 64))
    for command in (
        ["compare", genuine(0), genuine(0, 1)],
        ["verify", "w0", genuine(0, 1), "-g", "g.db"],
        ["identify", genuine(0, 1), "-g", "g.db"],
        ["identify-batch", "people/w0", "-g", "g.db", "-o", "out.jsonl"],
        ["enroll", "w2", genuine(2), "-g", "g.db"],
    ):
        output = calibrated(*command, *MINE, status=2).stderr
        assert output.startswith("verifykit: CalibrationError: ")
        assert "not of 'signature'" in output
    assert not Path("out.jsonl").exists()
    assert calibrated("gallery", "list", "g.db", status=0).stdout == "w0\nw1\n"


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--accept-fmr", "0.02"], "--accept-fmr and --review-fmr go together"),
        (["--review-fmr", "0.02"], "--accept-fmr and --review-fmr go together"),
        (
            ["--accept-fmr", "0.1", "--review-fmr", "0.02"],
            "--review-fmr 0.02 is below --accept-fmr",
        ),
        (
            ["--accept-fmr", "0", "--review-fmr", "0.1"],
            "accept_fmr must be a rate in (0, 1), got 0",
        ),
        (["--accept-fmr", ".02", "--review-fmr", ".1", "--fmr", ".1"], "give one of them"),
        (["--accept-fmr", ".02", "--review-fmr", ".1", "--threshold", ".1"], "give one of them"),
        (["--accept-fmr", "1e-6", "--review-fmr", ".1"], "requires at least 3000000 of them"),
    ],
)
@pytest.mark.parametrize("verb", ["compare", "verify"])
def test_invalid_policies_are_refused(
    calibrated: Invoke, verb: str, options: Sequence[str], answer: str
) -> None:
    who = {"compare": [genuine(0)], "verify": ["w0", "-g", "g.db"]}[verb]
    assert answer in calibrated(verb, *who, genuine(0, 1), *MINE, *options, status=2).stderr


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--fpir", "0.05", "--fmr", "0.02"], "give one of them"),
        (["--fpir", "0.05", "--threshold", "0.5"], "give one of them"),
        (["--fpir", "1"], "fpir must be a rate in (0, 1)"),
        (["--fpir", "1e-6"], "in a gallery of 2 subjects requires FMR 5e-07"),
    ],
)
def test_an_invalid_fpir_is_refused(
    calibrated: Invoke, options: Sequence[str], answer: str
) -> None:
    for command in (
        ["identify", genuine(0, 1)],
        ["identify-batch", "people/w0", "-o", "out.jsonl"],
    ):
        assert answer in calibrated(*command, "-g", "g.db", *MINE, *options, status=2).stderr
    assert not Path("out.jsonl").exists()
