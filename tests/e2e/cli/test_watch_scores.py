"""``verifykit watch-scores`` and ``verifykit gallery look-alikes`` on real portraits and on scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as Picture

from tests.helpers.command_results import Invoke, body
from tests.helpers.drift_scores import fill_file
from verifykit.drift import ScoreWatch
from verifykit.models import load


def _write_scores(path: Path, level: int, lines: int = 300) -> None:
    """Write probes of two scores: one reaches the threshold of a level, the other none."""
    spec = load("face").spec
    limits = ScoreWatch(spec).levels.thresholds(spec, 1)
    row = {"scores": [limits[level], limits[0] - 0.1]}
    path.write_text("".join(f"{json.dumps(row)}\n" for _ in range(lines)))


def test_scores_of_an_application(invoke: Invoke) -> None:
    _write_scores(Path("high.jsonl"), 1)
    _write_scores(Path("usual.jsonl"), 0)
    told = body(invoke("watch-scores", "usual.jsonl", "--json", status=0))
    assert (told["probes"], told["scores"], told["has_drift"]) == (300, 600, False)
    assert [each["count"] for each in told["levels"][:2]] == [300, 0]
    said = invoke("watch-scores", "usual.jsonl", status=0).stdout.splitlines()
    assert said[0] == "the stated rate holds: 300 probes, 600 scores against others"
    assert said[1] == "stated     FMR 0.0001"
    assert said[3].endswith("; 365,000 is an alarm")

    # Without --state nothing is stored.
    assert not list(Path().glob("*.json"))
    found = invoke("watch-scores", "high.jsonl", "--state", "one.json", status=1).stdout
    assert found.startswith("the stated rate does not hold: 300 probes, 600 scores against others")
    assert "\nalarm      20" in found
    shown = body(invoke("watch-scores", "--state", "one.json", "--json", status=1))
    assert (shown["probes"], shown["has_drift"]) == (300, True)
    invoke("watch-scores", "usual.jsonl", "--state", "two.json", status=0)
    both = body(
        invoke("watch-scores", "--state", "one.json", "--state", "two.json", "--json", status=1)
    )
    assert both["probes"] == 600
    again = invoke("watch-scores", "usual.jsonl", "--state", "one.json", "--reset", status=0)
    assert again.stdout.startswith("the stated rate holds: 300 probes")
    gone = body(invoke("watch-scores", "--state", "one.json", "--reset", "--json", status=0))
    assert gone == {"forgotten": ["one.json"]}
    assert not Path("one.json").exists()


def test_images_are_compared_with_a_gallery(invoke: Invoke, face_model: Path) -> None:
    fill_file(Path("g.db"), load("face").spec, 60)
    invoke("enroll", "ada", "person_a_1.jpg", "-g", "g.db", status=0)
    Picture.new("RGB", (300, 300), "grey").save("empty.png")
    names = ["person_a_2.jpg", "person_b_1.jpg", "person_b_2.jpg", "empty.png", "nothing.jpg"]
    Path("list.txt").write_text("\n".join(names))
    told = body(
        invoke("watch-scores", "list.txt", "-g", "g.db", "--state", "s.json", "--json", status=3)
    )
    assert told["errors"] == {"no_face": 1, "unreadable": 1}
    # The second image of a person does not count.
    assert (told["probes"], told["scores"]) == (2, 60 + 61)
    text = invoke("watch-scores", "list.txt", "-g", "g.db", status=3).stdout
    assert "not usable, no_face: empty.png" in text
    invoke("watch-scores", "--gallery", "g.db", status=2)
    Path("s.json").rename("g.db.scores.json")
    assert body(invoke("watch-scores", "-g", "g.db", "--json", status=0))["probes"] == 2


def test_enrolled_subjects_against_each_other(invoke: Invoke, face_model: Path) -> None:
    fill_file(Path("apart.db"), load("face").spec, 300)
    fill_file(Path("alike.db"), load("face").spec, 300, near=0.25)
    apart = body(invoke("watch-scores", "--enrolled", "-g", "apart.db", "--json", status=0))
    assert apart["probes"] > 280
    assert apart["scores"] >= 127 * apart["probes"]
    alike = body(invoke("watch-scores", "--enrolled", "-g", "alike.db", "--json", status=1))
    assert alike["fmr_now"] > 1e-3


def test_look_alikes_are_listed_by_number(invoke: Invoke, gallery: str) -> None:
    said = invoke("gallery", "look-alikes", gallery, status=0).stdout.splitlines()
    assert said[0] == "0 subjects of 2 with look-alikes, 0 pairs"
    report = invoke("enroll", "zoë", "person_a_2.jpg", "-g", gallery, status=0).stdout
    assert "note     1 enrolled looks much alike: see `verifykit gallery look-alikes`" in report
    off = invoke("enroll", "eve", "person_b_2.jpg", "-g", gallery, "--no-look-alikes", status=0)
    assert "much alike" not in off.stdout
    told = body(invoke("gallery", "look-alikes", gallery, "--json", status=0))
    counts = {each["subject_id"]: (each["count"], each["nearest_id"]) for each in told["subjects"]}
    assert counts == {
        "Ada 🙂/1": (1, "zoë"),
        "zoë": (1, "Ada 🙂/1"),
        "bea": (1, "eve"),
        "eve": (1, "bea"),
    }
    spec = load("face").spec
    assert told["threshold"] == spec.operating_point(1e-4).threshold
    assert told["near_threshold"] == spec.operating_point(1e-3).threshold
    assert told["near_threshold"] < told["threshold"]
    lines = invoke("gallery", "look-alikes", gallery, "--fmr", "1e-5", status=0).stdout
    assert f"near       {spec.operating_point(1e-4).threshold:.4f}" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --gallery"),
        (("--gallery", "postgresql://host/db"), "give --state"),
        (("--state", "none.json"), "nothing was counted yet"),
        (("--state", "bad.jsonl"), "not a file of counted scores"),
        (("bad.jsonl",), "line 2: a line is an object with the scores of a probe"),
        (("none.jsonl",), "cannot be read"),
        (("list.txt",), "give --gallery"),
        (("--enrolled",), "give --gallery"),
        (("bad.jsonl", "--enrolled"), "give one SOURCE or --enrolled"),
        (("bad.jsonl", "--state", "a", "--state", "b"), "one --state"),
        (("references.jsonl",), "references must be a positive integer, got 0"),
    ],
)
def test_what_cannot_be_done_is_said(
    invoke: Invoke, arguments: tuple[str, ...], message: str
) -> None:
    Path("bad.jsonl").write_text('{"scores": [0.1]}\n{"score": 0.1}\n')
    Path("references.jsonl").write_text('{"scores": [0.1], "references": 0}\n')
    assert message in invoke("watch-scores", *arguments, status=2).stderr


def test_what_was_not_counted_or_stored_is_no_success(invoke: Invoke, face_model: Path) -> None:
    invoke("enroll", "ada", "person_a_1.jpg", "-g", "few.db", status=0)
    few = invoke("watch-scores", "--enrolled", "-g", "few.db", status=3)
    assert few.stdout.startswith("the stated rate is not judged: 0 probes")
    assert "nothing was counted" in few.stderr
    Path("one.jsonl").write_text('{"scores": [0.1]}\n')
    told = body(invoke("watch-scores", "one.jsonl", "--state", "no/s.json", "--json", status=2))
    assert told["error"]["name"] == "FileNotFoundError"


def test_a_reset_removes_counts_alone(invoke: Invoke, face_model: Path) -> None:
    invoke("enroll", "ada", "person_a_1.jpg", "-g", "g.db", status=0)
    before = Path("g.db").read_bytes()
    for more in ((), ("--enrolled", "-g", "g.db")):
        refused = invoke("watch-scores", "--state", "g.db", "--reset", *more, status=2)
        assert "check the path" in refused.stderr
    assert Path("g.db").read_bytes() == before
    Path("big.jsonl").write_text('{"scores": [1' + "0" * 400 + "]}")
    assert "line 1" in invoke("watch-scores", "big.jsonl", status=2).stderr


@pytest.mark.parametrize(
    "line",
    [
        '{"scores": "12"}',
        '{"scores": {"0.1": 1}}',
        '{"scores": [0.1, true]}',
        '{"scores": [0.1, "0.2"]}',
        '{"scores": []}',
        '{"scores": [NaN]}',
        '{"scores": [1' + "0" * 400 + "]}",
        "[" * 100_000,
    ],
)
def test_a_line_that_is_not_a_list_of_numbers_is_refused_before_anything_is_counted(
    invoke: Invoke, line: str
) -> None:
    Path("bad.jsonl").write_text('{"scores": [0.1]}\n' * 200 + line + "\n")
    found = invoke("watch-scores", "bad.jsonl", "--state", "counts.json", status=2)
    assert "line 201: a line is an object with the scores of a probe" in found.stderr
    assert not Path("counts.json").exists()


def test_the_thresholds_may_be_those_of_a_population(invoke: Invoke) -> None:
    usual, every = load("face").spec, load("face").spec.of_population("any")
    score = (usual.operating_point(1e-2).threshold + every.operating_point(1e-2).threshold) / 2
    Path("one.jsonl").write_text(json.dumps({"scores": [score]}))
    for population, count in (((), 1), (("--population", "any"), 0)):
        found = body(invoke("watch-scores", "one.jsonl", "--json", *population, status=0))
        assert [each["count"] for each in found["levels"] if each["fmr"] == 0.01] == [count]
    unknown = invoke("watch-scores", "one.jsonl", "--population", "kids", status=2)
    assert "no thresholds for population 'kids'" in unknown.stderr
    invoke("enroll", "ada", "person_a_1.jpg", "-g", "g.db", status=0)
    command = ("gallery", "look-alikes", "g.db", "--json")
    found = body(invoke(*command, "--population", "any", status=0))
    assert found["threshold"] == every.operating_point().threshold
    assert found["threshold"] > body(invoke(*command, status=0))["threshold"]
