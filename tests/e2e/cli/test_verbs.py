"""Commands on real portraits, in this process; see test_process.py for real processes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

import verifykit as vk
from tests.helpers.command_results import Invoke, body
from verifykit.cli.app import app
from verifykit.verifier import Verifier


def test_compare_prints_score_threshold_rate_and_decision(invoke: Invoke) -> None:
    output = invoke("compare", "person_a_1.jpg", "person_a_2.jpg", status=0).stdout.splitlines()
    decision = Verifier("face").compare("person_a_1.jpg", "person_a_2.jpg")
    assert output == [
        "match: person_a_1.jpg and person_a_2.jpg",
        f"score      {decision.score:.4f}",
        f"threshold  {decision.threshold:.4f}",
        "FMR        0.0001 (1 in 10,000 pairs of different subjects would match)",
        f"at score   FMR {decision.score_fmr:.2g}, log-likelihood ratio {decision.llr:+.1f}",
    ]
    other = invoke("compare", "person_a_1.jpg", "impostor_1.jpg", "--fmr", "1e-3", status=1)
    assert other.stdout.startswith("no match: person_a_1.jpg and impostor_1.jpg\n")
    assert "FMR        0.001 (1 in 1,000 " in other.stdout


def test_compare_as_json_is_the_decision(invoke: Invoke) -> None:
    answer = body(invoke("compare", "person_a_1.jpg", "impostor_2.jpg", "--json", status=1))
    decision = Verifier("face").compare("person_a_1.jpg", "impostor_2.jpg")
    expected = {"probe": "person_a_1.jpg", "reference": "impostor_2.jpg", **decision.to_dict()}
    assert answer == json.loads(json.dumps(expected | {"model": Verifier("face").spec.digest}))


def test_a_bare_threshold_of_zero_is_applied(invoke: Invoke) -> None:
    result = invoke("compare", "person_a_1.jpg", "person_a_2.jpg", "--threshold", "0.0", status=0)
    assert "threshold  0.0000\nFMR        unknown" in result.stdout
    invoke("compare", "person_a_1.jpg", "person_a_2.jpg", "--threshold", "0.99", status=1)


@pytest.mark.parametrize(
    ("arguments", "name", "answer"),
    [
        (["missing.jpg", "biden.jpg"], "ImageError", "missing.jpg"),
        (["wall.jpg", "biden.jpg"], "AcquisitionError (no_face)", "face"),
        (["two.jpg", "biden.jpg"], "AcquisitionError (several_faces)", "2"),
        (
            ["biden.jpg", "biden.jpg", "--model", "fase"],
            "ModelNotFoundError",
            "did you mean 'face'",
        ),
        (["biden.jpg", "biden.jpg", "--model", "biden.jpg"], "ModelIntegrityError", "biden.jpg"),
        (["biden.jpg", "biden.jpg", "--fmr", "1e-9"], "CalibrationError", "1e-09"),
        (["biden.jpg", "biden.jpg", "--fmr", "2"], "InputError", "2"),
        (["biden.jpg", "biden.jpg", "--fmr", ".1", "--threshold", ".4"], "InputError", "one of"),
        (
            ["biden.jpg", "biden.jpg", "--attack", "skilled_forgery"],
            "CalibrationError",
            "not calibrated for attack 'skilled_forgery'",
        ),
        (
            ["biden.jpg", "biden.jpg", "--attack", "random_forgery", "--threshold", ".4"],
            "InputError",
            "--attack random_forgery and --threshold 0.4: give one of them",
        ),
        (["biden.jpg", "biden.jpg", "--providers", "cuda"], "ProviderError", "verifykit-sdk[gpu]"),
        (["biden.jpg", "biden.jpg", "--save", "x.pdf"], "InputError", "x.pdf"),
        (["biden.jpg", "biden.jpg", "--save", "no/x.png"], "InputError", "does not exist"),
    ],
)
def test_errors_are_one_message_on_standard_error(
    invoke: Invoke, arguments: list[str], name: str, answer: str
) -> None:
    with Picture.open("person_b_1.jpg") as portrait:
        portrait.crop((0, 0, 120, 120)).save("wall.jpg")
        pair = Picture.new("RGB", (2 * portrait.width, portrait.height))
        for left in (0, portrait.width):
            pair.paste(portrait, (left, 0))
        pair.save("two.jpg")
    result = invoke("compare", *arguments, status=2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"verifykit: {name}: ")
    assert answer in result.stderr
    told_json = body(invoke("compare", *arguments, "--json", status=2))["error"]
    reason = name.partition("(")[2].rstrip(")") or None
    assert (told_json["name"], told_json["reason"]) == (name.partition(" ")[0], reason)


def test_debug_shows_the_traceback(invoke: Invoke) -> None:
    result = CliRunner().invoke(app, ["compare", "no.jpg", "no.jpg", "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "verifykit: ImageError" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "biden.jpg"],
        ["compare", "biden.jpg", "biden.jpg", "--multi-face", "some"],
        ["compare", "biden.jpg", "biden.jpg", "--threads", "0"],
        ["compare", "biden.jpg", "biden.jpg", "--fmr", "low"],
        ["compare", "biden.jpg", "biden.jpg", "--attack", "mimicry"],
        ["frobnicate"],
        ["identify", "biden.jpg"],
    ],
)
def test_wrong_usage_is_status_two(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke(*arguments, status=2).stderr


def test_an_unexpected_error_has_no_traceback(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(Verifier, "compare", fail)
    result = invoke("compare", "a.jpg", "b.jpg", status=2)
    assert result.stderr.startswith("verifykit: ZeroDivisionError: odd; this was not expected")


def test_enroll_reports_image_by_image(invoke: Invoke) -> None:
    Path("text.jpg").write_text("not an image")
    result = invoke("enroll", "ada", "person_a_1.jpg", "text.jpg", "-g", "g.db", status=0)
    assert result.stdout.startswith("enrolled ada: 1 of 2 images accepted, 1 template now\n")
    assert "refused  text.jpg (unreadable): " in result.stdout
    answer = body(invoke("enroll", "ada", "impostor_1.jpg", "-g", "g.db", "--json", status=0))
    assert (answer["accepted"], answer["template_count"]) == (["impostor_1.jpg"], 2)
    assert "does not look like" in answer["warnings"][0]
    assert (
        "unreadable" in invoke("enroll", "bob", "text.jpg", "no.jpg", "-g", "g.db", status=2).stderr
    )
    assert invoke("gallery", "list", "g.db", status=0).stdout == "ada\n"
    wrong = invoke("enroll", "x", "biden.jpg", "-g", "g.db", "--metadata", "team", status=2)
    assert "KEY=VALUE" in wrong.stderr


def test_verify_and_identify(invoke: Invoke, gallery: str) -> None:
    result = invoke("verify", "Ada 🙂/1", "person_a_2.jpg", "-g", gallery, status=0)
    assert result.stdout.startswith("match: person_a_2.jpg and Ada 🙂/1\n")
    assert not body(invoke("verify", "bea", "person_a_2.jpg", "-g", gallery, "--json", status=1))[
        "match"
    ]
    assert "zoe" in invoke("verify", "zoe", "biden.jpg", "-g", gallery, status=2).stderr
    found = invoke("identify", "person_b_2.jpg", "-g", gallery, status=0).stdout
    assert found.startswith("1. bea  score 0.")
    unknown = invoke("identify", "biden.jpg", "-g", gallery, status=1).stdout
    assert unknown.startswith("no match: no subject in the gallery reaches the threshold\n")
    all_subjects = ["--threshold", "-1", "--limit", "1", "--json"]
    answer = body(invoke("identify", "person_b_2.jpg", "-g", gallery, *all_subjects, status=0))
    assert [c["subject_id"] for c in answer["faces"][0]["candidates"]] == ["bea"]


@pytest.mark.parametrize("verb", ["verify", "identify", "identify-batch"])
def test_a_mistyped_gallery_is_not_created(invoke: Invoke, verb: str) -> None:
    arguments = {"verify": ["ada", "biden.jpg"], "identify-batch": [".", "--out", "o"]}
    result = invoke(verb, *arguments.get(verb, ["biden.jpg"]), "-g", "no.db", status=2)
    assert "GalleryError" in result.stderr
    assert not Path("no.db").exists()
    assert not Path("o").exists()


def test_identify_batch_prints_a_summary(invoke: Invoke, gallery: str) -> None:
    Path("in").mkdir()
    for name in ("person_a_2", "biden"):
        Path("in", f"{name}.jpg").symlink_to(Path(f"{name}.jpg").resolve())
    command = ["identify-batch", "in", "-g", gallery, "-o", "out.jsonl"]
    output = [line.split() for line in invoke(*command, status=0).stdout.splitlines()]
    assert [line for line in output if line[0] in ("images", "faces", "with")] == [
        ["images", "2"],
        ["faces", "2"],
        ["with", "a", "match", "1"],
        output[-2],
    ]
    assert output[-2][:3] == ["images", "a", "second"]
    assert output[-1] == ["written", "to", "out.jsonl"]
    answer = body(invoke(*command, "--json", status=0))
    assert set(answer.pop("seconds")) == {"total"}
    assert answer == {
        "out": "out.jsonl",
        "images": 2,
        "resumed": 2,
        "faces": 2,
        "matched_faces": 1,
        "errors": {},
        "left_out": {},
        "left_out_names": {},
        "error_names": {},
        "gallery": {**answer["gallery"], "revision": 2, "subject_count": 2, "template_count": 2},
        "gallery_since": None,
        "notes": [],
        "overlooked": 0,
    }
    Path("in", ".thumbnail.jpg").touch()
    again = invoke(*command, status=0).stdout.splitlines()
    assert again[0] == "gallery at the start: revision 2, 2 subjects"
    assert again[-2] == "1 hidden or system file(s) or folder(s) left out: .thumbnail.jpg"
    for options in (["--engine", "dask"], ["--scheduler", "tcp://127.0.0.1:9"]):
        assert "go together" in invoke(*command, *options, status=2).stderr
    assert "limit was 5, is 3" in invoke(*command, "--limit", "3", status=2).stderr


def test_models_verbs(invoke: Invoke, face_model: Path) -> None:
    (listed,) = (
        m
        for m in body(invoke("models", "list", "--json", status=0))["models"]
        if m["name"] == "face"
    )
    assert (listed["present"], listed["path"]) == (True, str(face_model))
    listing = invoke("models", "list", status=0).stdout
    assert re.search(rf"ready +{re.escape(str(face_model))}", listing)
    assert invoke("models", "path", "face", status=0).stdout == f"{face_model}\n"
    assert body(invoke("models", "pull", "face", "--json", status=0))["path"] == str(face_model)
    answer = body(invoke("models", "verify", face_model, "--json", status=0))
    assert answer["spec_digest"] == Verifier("face").spec.digest
    assert invoke("models", "card", "face", status=0).stdout.startswith("# face\n")


def test_a_model_file_with_one_flipped_byte(invoke: Invoke, face_model: Path) -> None:
    data = bytearray(face_model.read_bytes())
    data[len(data) // 2] ^= 1
    Path("bad.onnx").write_bytes(data)
    result = invoke("compare", "biden.jpg", "biden.jpg", "--model", "bad.onnx", status=2)
    assert result.stderr.startswith("verifykit: ModelIntegrityError: ")
    invoke("models", "verify", "bad.onnx", status=2)


def test_the_attack_is_reported_and_can_be_requested(invoke: Invoke, gallery: str) -> None:
    rate_options = ["--attack", "random_forgery", "--fmr", "1e-3", "-g", gallery, "--json"]
    answer = body(invoke("verify", "bea", "person_b_2.jpg", *rate_options, status=0))
    assert (answer["attack"], answer["fmr"], answer["reference_count"]) == (
        "random_forgery",
        1e-3,
        1,
    )
    answer = body(invoke("identify", "person_b_2.jpg", *rate_options, status=0))
    faces = answer["faces"]
    for part in (answer, faces[0], faces[0]["candidates"][0]):
        assert (part["attack"], part["fmr"]) == ("random_forgery", 1e-3)
    Path("in").mkdir()
    Path("in", "b.jpg").symlink_to(Path("person_b_2.jpg").resolve())
    invoke("identify-batch", "in", "-o", "out.jsonl", *rate_options, status=0)
    for line in Path("out.jsonl").read_text().splitlines():
        assert json.loads(line)["attack"] == "random_forgery"
    skilled = ["--attack", "skilled_forgery", "-g", gallery]
    for command in (
        ["verify", "bea", "person_b_2.jpg"],
        ["identify", "person_b_2.jpg"],
        ["identify-batch", "in", "-o", "other.jsonl"],
        ["enroll", "carl", "biden.jpg"],
    ):
        output = invoke(*command, *skilled, status=2).stderr
        assert "not calibrated for attack 'skilled_forgery'" in output
    assert not Path("other.jsonl").exists()


def test_every_command_has_json_and_debug(invoke: Invoke) -> None:
    groups = {"gallery": ["info", "list", "show", "remove", "export", "import", "check"]}
    groups["models"] = ["list", "pull", "path", "verify", "card"]
    verbs = [[group, verb] for group, names in groups.items() for verb in names]
    verbs += [[v] for v in ("compare", "enroll", "verify", "identify", "identify-batch", "doctor")]
    verbs += [["evaluate"], ["calibrate"]]
    for verb in verbs:
        output = invoke(*verb, "--help", status=0).stdout
        assert "--json" in output, verb
        assert "--debug" in output, verb


def test_the_version(invoke: Invoke) -> None:
    assert invoke("--version", status=0).stdout == f"verifykit {vk.__version__}\n"


def test_a_face_may_be_given_by_its_box_or_landmarks(invoke: Invoke) -> None:
    pair = ("person_a_1.jpg", "person_a_2.jpg")
    found = body(invoke("compare", *pair, "--json", status=0))["detections"]
    box = ",".join(map(str, found[1]["box_px"]))
    points = ",".join(str(value) for point in found[1]["landmarks_px"] for value in point)
    given = body(invoke("compare", *pair, "--face", "-", "--face", points, "--json", status=0))
    assert given["warnings"] == ["not_detected"]
    assert [each["score"] is None for each in given["detections"]] == [False, True]
    gallery = ("--gallery", "given.db")
    invoke("enroll", "alice", *pair, "--face", "-", "--face", box, *gallery, status=0)
    text = invoke("verify", "alice", pair[1], "--face", points, *gallery, status=0).stdout
    assert "warnings   not_detected" in text
    names = body(invoke("identify", pair[1], "--face", box, "--json", *gallery, status=0))
    assert [face["candidates"][0]["subject_id"] for face in names["faces"]] == ["alice"]


@pytest.mark.parametrize(
    ("face", "answer"),
    [
        ("1,2,3", "4 or 10 numbers"),
        ("0,0,0,0", "less than a pixel"),
        ("90000,0,9,9", "outside the image"),
    ],
)
def test_a_wrong_face_is_an_error_in_one_line(invoke: Invoke, face: str, answer: str) -> None:
    invoke("enroll", "alice", "person_a_1.jpg", "--gallery", "wrong.db", status=0)
    arguments = ("verify", "alice", "person_a_2.jpg", "--gallery", "wrong.db", "--face", face)
    result = invoke(*arguments, status=2)
    assert answer in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_box_without_a_face_is_no_face(invoke: Invoke) -> None:
    Picture.new("RGB", (300, 200), (90, 120, 150)).save("wall.png")
    result = invoke(
        "compare", "wall.png", "biden.jpg", "--face", "5,5,40,40", "--face", "-", status=2
    )
    assert "AcquisitionError (no_face)" in result.stderr
    assert "given box (5, 5, 40, 40)" in result.stderr
