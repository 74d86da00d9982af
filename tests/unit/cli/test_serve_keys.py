"""``verifykit serve keys``, and the keys it makes."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from verifykit.cli.serve import keys_app as app
from verifykit.server.auth import ApiKey, KeyStore
from verifykit.server.state import ServerState

DOOR = ("--name", "door", "--scope", "verify", "--scope", "enrol")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _json(*arguments: object) -> dict[str, Any]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    body: dict[str, Any] = json.loads(result.stdout)
    return body


def _owner(path: Path, token: str) -> ApiKey | None:
    with closing(ServerState(path, create=False)) as state:
        return KeyStore(state).authenticate(token)


def test_a_key_is_printed_alone_and_lies_beside_the_gallery(tmp_path: Path) -> None:
    gallery = tmp_path / "staff.db"
    result = _run("create", "--gallery", gallery, *DOOR)
    assert result.exit_code == 0, result.output
    token = result.stdout.removesuffix("\n")
    key = _owner(tmp_path / "staff.db.server", token)
    assert key is not None
    assert (key.name, key.scopes, key.expires) == ("door", {"verify", "enrol"}, None)
    assert key.key_id in result.stderr
    assert "cannot be shown again" in result.stderr
    assert token not in result.stderr
    assert not gallery.exists()


@pytest.mark.parametrize(
    ("period", "length"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
    ],
)
def test_a_key_expires_after_a_period(tmp_path: Path, period: str, length: timedelta) -> None:
    begin = datetime.now(timezone.utc)
    made = _json("create", "--state", tmp_path / "state", *DOOR, "--expires", period)
    end = datetime.fromisoformat(made["expires"])
    assert begin + length <= end <= datetime.now(timezone.utc) + length
    key = _owner(tmp_path / "state", made["token"])
    assert key is not None
    assert key.expires == end


def test_keys_are_listed_without_tokens_and_revoked_by_their_id(tmp_path: Path) -> None:
    place = ("--gallery", tmp_path / "staff.db")
    door = _json("create", *place, *DOOR, "--expires", "90d")
    gate = _json("create", *place, "--name", "main gate", "--scope", "admin")
    assert _run("revoke", gate["key_id"], *place).stdout == (
        f"revoked {gate['key_id']} (main gate)\n"
    )
    listed = _json("list", *place)["keys"]
    assert [key["key_id"] for key in listed] == [door["key_id"], gate["key_id"]]
    assert [key["revoked"] is None for key in listed] == [True, False]
    text = _run("list", *place).stdout
    assert "enrol,verify" in text
    assert f"expires {door['expires'][:10]}" in text
    assert "revoked 2" in text
    assert not {door["token"], gate["token"]} & set(text.split())
    assert _owner(tmp_path / "staff.db.server", gate["token"]) is None
    assert _owner(tmp_path / "staff.db.server", door["token"]) is not None


def test_a_key_that_ended_is_listed_as_expired(tmp_path: Path) -> None:
    past = datetime.now(timezone.utc) - timedelta(days=2)
    with closing(ServerState(tmp_path / "state")) as state:
        keys = KeyStore(state, clock=lambda: past)
        keys.create("door", ["read"], past + timedelta(days=1))
        keys.create("gate", ["read"])
    text = _run("list", "--state", tmp_path / "state").stdout
    assert f"expired {(past + timedelta(days=1)).date()}" in text
    assert "never" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", *DOOR], "--gallery or --state"),
        (["create", *DOOR, "--gallery", "g", "--state", "s"], "--gallery or --state"),
        (["create", *DOOR, "--gallery", "postgresql://host/staff"], "give --state"),
        (["create", "--name", "a", "--scope", "enroll", "--state", "s"], "verify, enrol"),
        (["create", *DOOR, "--state", "s", "--expires", "0d"], "'0d'"),
        (["create", *DOOR, "--state", "s", "--expires", "90"], "'90'"),
        (["create", *DOOR, "--state", "s", "--expires", "-1d"], "'-1d'"),
        (["list", "--state", "missing"], "no such file"),
        (["revoke", "0123", "--state", "missing"], "no such file"),
    ],
)
def test_what_cannot_be_is_one_message_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout
    assert not (tmp_path / "missing").exists()


def test_an_id_that_is_none_is_named(tmp_path: Path) -> None:
    _json("create", "--state", tmp_path / "state", *DOOR)
    result = _run("revoke", "nobody", "--state", tmp_path / "state")
    assert result.exit_code == 2
    assert "no key 'nobody'" in result.stderr
