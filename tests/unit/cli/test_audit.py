"""``verifykit audit``: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.audit.logs import DIGEST, lines_of, rehashed, written
from verifykit.audit import AuditLog
from verifykit.cli.app import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: object, status: int) -> Result:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def test_a_sound_log_prints_what_to_note() -> None:
    lines = written(Path("a.jsonl"), 3)
    digest = json.loads(lines[-1])["hash"]
    said = _run("verify", "a.jsonl", status=0).stdout
    assert said == f"a.jsonl is sound: 4 lines\ncount  4\nhead   {digest}\n"
    _run("verify", "a.jsonl", "--count", 4, "--head", digest, status=0)
    body = json.loads(_run("verify", "a.jsonl", "--json", status=0).stdout)
    assert body == {
        "log": "a.jsonl",
        "problems": [],
        "break_count": 0,
        "resume_line": None,
        "line_count": 4,
        "sequence": 4,
        "hash": digest,
        "unfinished_bytes": 0,
    }


def test_the_first_break_is_named_and_the_status_is_one() -> None:
    lines = written(Path("a.jsonl"), 20)
    lines[16] = lines[16].replace(b"no_match", b"match").replace(b'"match"', b'"\\u001b[2J"')
    del lines[18]
    Path("a.jsonl").write_bytes(b"".join(lines) + b"half")
    assert _run("verify", "a.jsonl", status=1).stdout.splitlines() == [
        "problem: line 17: its hash does not match its content (entry 17)",
        "2 breaks: the chain resumes at line 19",
        "unfinished  4 bytes after the last line: not yet written, or its writing was interrupted",
    ]
    body = json.loads(_run("verify", "a.jsonl", "--json", status=1).stdout)
    assert body["problems"] == [
        {"line": 17, "message": "its hash does not match its content (entry 17)"}
    ]
    assert (body["break_count"], body["resume_line"]) == (2, 19)


@pytest.mark.parametrize(
    "arguments", [("none.jsonl",), ("a.jsonl", "--head", "x"), ("a.jsonl", "--count", 0)]
)
def test_invalid_requests_are_status_two(arguments: tuple[object, ...]) -> None:
    written(Path("a.jsonl"), 1)
    assert "Error" in _run("verify", *arguments, status=2).stderr


def test_the_tail_is_a_table() -> None:
    log = AuditLog("a.jsonl")
    assert _run("tail", "a.jsonl", status=0).stdout == "no entries yet\n"
    log.append("enroll", key_id="k1", subject_id="zoë", model_digest=DIGEST)
    log.append("verify", subject_id="zoë", decision="match", score=0.61234, threshold=0.4239)
    log.append("verify", subject_id="\x1b[2Jbob", reason="no_face")
    with Path("a.jsonl").open("ab") as file:
        file.write(b"torn")
    last = log.append("remove", subject_id="zoë")
    lines = _run("tail", "a.jsonl", status=0).stdout.splitlines()
    titles = "entry time key verb subject decision score threshold reason"
    assert " ".join(lines[0].split()) == titles
    cells = [[cell for cell in line.split() if "T" not in cell] for line in lines[1:]]
    assert cells == [
        ["2", "k1", "enroll", "zoë"],
        ["3", "verify", "zoë", "match", "0.6123", "0.4239"],
        ["4", "verify", "\\x1b[2Jbob", "no_face"],
        ["5", "recovered", "torn_line", "(4", "bytes", "removed)"],
        ["6", "remove", "zoë"],
    ]
    body = json.loads(_run("tail", "a.jsonl", "-n", 1, "--json", status=0).stdout)
    assert body == {"entries": [last.to_dict()]}


def test_export_takes_a_subject_a_time_and_a_form() -> None:
    lines = written(Path("a.jsonl"), 3)
    said = _run("export", "a.jsonl", "one.jsonl", "--subject", "zoë 1", status=0).stdout
    assert said == "exported 1 entry: one.jsonl\n"
    assert lines_of(Path("one.jsonl")) == [lines[2]]
    _run("export", "a.jsonl", "one.jsonl", status=2)
    arguments = [
        "--since",
        "2020-01-01",
        "--until",
        "2999-01-01T00:00Z",
        "--format",
        "csv",
        "--overwrite",
    ]
    body = json.loads(_run("export", "a.jsonl", "one.jsonl", *arguments, "--json", status=0).stdout)
    assert body == {"out": "one.jsonl", "entry_count": 3}
    assert Path("one.jsonl").read_text("utf-8").startswith("sequence,time,verb,key_id,subject_id,")
    _run("export", "a.jsonl", "none.jsonl", "--until", "2020-01-01", status=0)
    assert Path("none.jsonl").read_bytes() == b""
    assert "ISO 8601" in _run("export", "a.jsonl", "x", "--since", "now", status=2).stderr


def test_the_tail_reports_a_line_with_other_types() -> None:
    lines = written(Path("a.jsonl"), 3)
    Path("a.jsonl").write_bytes(b"".join([*lines[:-1], rehashed(lines[-1], score="high")]))
    assert "fields are not those of an entry: score" in _run("tail", "a.jsonl", status=2).stderr
