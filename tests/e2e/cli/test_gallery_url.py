"""The verbs on a gallery that is a URL: what they do, and that none prints its password."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers.command_results import Invoke, body
from tests.helpers.postgres_server import PostgresServer
from tests.unit.gallery.postgres_galleries import sql
from verifykit.cli.app import app

PASSWORD = "hidden-word"


@pytest.fixture
def url(postgres: PostgresServer, tmp_path: Path) -> str:
    name = f"cli_{tmp_path.name.lower()[-30:]}"
    return postgres.url(gallery=name).replace("postgres@", f"postgres:{PASSWORD}@")


def test_the_verbs_take_a_url_and_keep_its_password(invoke: Invoke, url: str) -> None:
    said = []

    def ask(*words: str, status: int = 0) -> str:
        result = invoke(*words, status=status)
        said.append(result.output)
        return result.stdout

    assert "no such gallery" in invoke("verify", "a", "person_a_1.jpg", "-g", url, status=2).stderr
    ask("enroll", "ada", "person_a_1.jpg", "-g", url, "--metadata", "team=blue")
    assert ask("verify", "ada", "person_a_2.jpg", "-g", url).startswith("match")
    assert ask("identify", "person_a_2.jpg", "-g", url).startswith("1. ada")
    assert "subject_count   1" in ask("gallery", "info", url)
    assert ask("gallery", "list", url) == "ada\n"
    assert "team=blue" in ask("gallery", "show", url, "ada")
    assert "is sound" in ask("gallery", "check", url)
    ask("gallery", "export", url, "e.jsonl")
    ask("gallery", "import", url, "e.jsonl", status=2)
    ask("gallery", "import", url, "e.jsonl", "--on-existing", "skip", "--json")
    ask("gallery", "copy", url, "copy.db")
    told = body(invoke("gallery", "copy", url, "copy.db", "--json", status=0))
    assert (told["subject_count"], told["skipped_count"], told["target_subject_count"]) == (0, 1, 1)
    assert ask("verify", "ada", "person_a_2.jpg", "-g", "copy.db").startswith("match")
    ask("gallery", "copy", "copy.db", url, "--json")
    ask("gallery", "copy", "copy.db", url, "--fusion", "max", status=2)
    assert "1 template erased" in ask("gallery", "remove", url, "ada")
    ask("gallery", "remove", url, "ada", status=2)
    nobody = url.replace("127.0.0.1:", "127.0.0.2:")
    nonsense = url.replace("?", "?nonsense=1&")
    for words in (["verify", "ada", "person_a_2.jpg", "-g", nobody], ["gallery", "info", nonsense]):
        ended = CliRunner().invoke(app, [*words, "--debug"])
        assert ended.exit_code == 2
        assert "Traceback" in ended.output
        said.append(ended.output)
    assert not [text for text in [*said, str(told)] if PASSWORD in text]


def test_a_file_does_not_say_how_scores_fuse(invoke: Invoke, url: str) -> None:
    from tests.unit.gallery.files import reopen, templates

    with reopen(Path("strange.db"), model="strange") as file:
        file.add("ada", templates(1))
    assert "--fusion" in invoke("gallery", "copy", "strange.db", url, status=2).stderr
    invoke("gallery", "copy", "strange.db", url, "--fusion", "spread", status=0)
    assert body(invoke("gallery", "info", url, "--json", status=0))["fusion"] == "spread"


def test_a_server_that_asks_for_the_password(
    invoke: Invoke, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.create_guarded_role("clerk", PASSWORD)
    postgres.create_databases("desk")
    sql(postgres.url(), "ALTER DATABASE desk OWNER TO clerk")
    sql(postgres.url("desk"), "CREATE EXTENSION vector SCHEMA public")
    desk = f"postgresql://clerk@127.0.0.1:{postgres.port}/desk"
    wrong = desk.replace("@", ":mistaken-word@")
    said = []
    for location, told in ((desk, "no password supplied"), (wrong, "check the role and its")):
        for words in ([], ["--json"], ["--debug"]):
            command = ["enroll", "ada", "person_a_1.jpg", "-g", location, *words]
            ended = CliRunner().invoke(app, command)
            assert ended.exit_code == 2
            assert told in " ".join(ended.output.split())
            said.append(ended.output)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    invoke("enroll", "ada", "person_a_1.jpg", "-g", desk, status=0)
    assert invoke("gallery", "list", desk, status=0).stdout == "ada\n"
    assert not [text for text in said if PASSWORD in text or "mistaken-word" in text]
