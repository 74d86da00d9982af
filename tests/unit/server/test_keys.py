"""API keys: who made one may use it, until it expires or is revoked, and nobody else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifykit.errors import InputError
from verifykit.server.auth import SCOPES, ApiKey, KeyStore, Scope
from verifykit.server.state import ServerState

NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "staff.db.server"


@pytest.fixture
def keys(path: Path, clock: Clock) -> Iterator[KeyStore]:
    with closing(ServerState(path)) as state:
        yield KeyStore(state, clock=clock)


def test_a_key_is_known_by_its_token_and_by_nothing_else(keys: KeyStore) -> None:
    key, token = keys.create("door", ["verify", "enrol"])
    other, other_token = keys.create("door", ["read"])
    assert keys.authenticate(token) == key
    assert keys.authenticate(other_token) == other
    assert key.key_id != other.key_id
    assert (key.name, key.scopes) == ("door", {"verify", "enrol"})
    assert (key.created, key.expires) == (NOON, None)
    prefix, key_id, secret = token.split("_", 2)
    assert (prefix, key_id) == ("vk", key.key_id)
    assert len(secret) * 6 >= 256  # base64: six bits a character
    other_secret = other_token.split("_", 2)[2]
    for wrong in (
        "",
        token[:-1],
        token + "A",
        token.upper(),
        f" {token}",
        f"vk_{key_id}_",
        f"vk_{key_id}_{other_secret}",
        f"vk__{secret}",
        f"xx_{key_id}_{secret}",
        f"vk_{key_id}",
        secret,
    ):
        assert keys.authenticate(wrong) is None, wrong


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(), st.text(st.characters(categories=["Cs", "Cc", "L", "P"])))
def test_no_text_is_a_token_and_none_breaks(keys: KeyStore, one: str, two: str, three: str) -> None:
    for text in (one, f"vk_{one}", f"vk_{one}_{two}", f"vk_{three}_{three}", three):
        assert keys.authenticate(text) is None


def test_a_token_is_in_no_file(keys: KeyStore, path: Path) -> None:
    _, token = keys.create("door", ["verify"])
    secret = token.split("_", 2)[2]
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret.encode() not in stored
    assert hashlib.sha256(secret.encode()).digest() in stored


def test_a_key_ends_at_its_moment(keys: KeyStore, clock: Clock) -> None:
    end = NOON + timedelta(days=90)
    key, token = keys.create("door", ["verify"], end)
    assert key.expires == end
    clock.now = end - timedelta(microseconds=1)
    assert keys.authenticate(token) == key
    clock.now = end
    assert keys.authenticate(token) is None
    assert [each.key_id for each in keys.list()] == [key.key_id]


def test_revoking_one_leaves_the_others(keys: KeyStore, clock: Clock) -> None:
    key, token = keys.create("door", ["verify"])
    clock.now += timedelta(hours=1)
    _, other_token = keys.create("gate", ["verify"])
    assert keys.revoke(key.key_id).revoked == clock.now
    assert keys.authenticate(token) is None
    assert keys.authenticate(other_token) is not None
    clock.now += timedelta(hours=1)
    assert keys.revoke(key.key_id).revoked == NOON + timedelta(hours=1)
    assert [(each.name, each.revoked is None) for each in keys.list()] == [
        ("door", False),
        ("gate", True),
    ]
    with pytest.raises(InputError, match="no key 'nobody'"):
        keys.revoke("nobody")


def test_a_service_whose_last_key_is_revoked_does_not_look_like_one_without_keys(
    keys: KeyStore,
) -> None:
    assert not keys.any()
    key, _ = keys.create("door", ["verify"])
    assert keys.any()
    keys.revoke(key.key_id)
    assert keys.any()


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from verifykit.server.auth import KeyStore
from verifykit.server.state import ServerState

state = ServerState(Path(sys.argv[1]), create=False)
keys = KeyStore(state)
for line in sys.stdin:
    command, argument = line.split()
    if command == "ask":
        print(keys.authenticate(argument) is not None, flush=True)
    elif command == "revoke":
        print(keys.revoke(argument).key_id, flush=True)
    else:
        print(keys.create(argument, ["verify"])[1], flush=True)
state.close()
"""


def test_another_process_sees_a_key_and_its_revocation_at_once(path: Path) -> None:
    with (
        closing(ServerState(path)) as state,
        subprocess.Popen(
            [sys.executable, "-c", IN_ANOTHER_PROCESS, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None

        def tell(line: str) -> str:
            print(line, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        keys = KeyStore(state)
        key, token = keys.create("door", ["verify"])
        assert tell(f"ask {token}") == "True"
        keys.revoke(key.key_id)
        assert tell(f"ask {token}") == "False"
        theirs = tell("create gate")
        found = keys.authenticate(theirs)
        assert found is not None
        assert tell(f"revoke {found.key_id}") == found.key_id
        assert keys.authenticate(theirs) is None


@given(st.frozensets(st.sampled_from(SCOPES), min_size=1), st.sampled_from(SCOPES))
def test_admin_is_every_scope_and_the_others_are_only_themselves(
    scopes: frozenset[str], asked: Scope
) -> None:
    key = ApiKey("0123", "door", scopes, NOON, None)
    assert key.allows(asked) == (asked in scopes or "admin" in scopes)


def test_all_scopes_of_a_key_are_stored(keys: KeyStore) -> None:
    for scopes in ({"verify"}, {"verify", "enrol", "read"}, {"admin", "read"}):
        key, token = keys.create("door", scopes)
        found = keys.authenticate(token)
        assert found == key
        assert found.scopes == scopes
        assert found.to_dict()["scopes"] == sorted(scopes)


@pytest.mark.parametrize(
    ("name", "scopes", "expires"),
    [
        ("", ["verify"], None),
        ("x" * 101, ["verify"], None),
        ("a\nb", ["verify"], None),
        ("door", [], None),
        ("door", ["verify", "enroll"], None),
        ("door", ["verify"], NOON),
        ("door", ["verify"], NOON - timedelta(days=1)),
        ("door", ["verify"], datetime(2031, 1, 1)),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_a_key_is_refused(
    keys: KeyStore, name: str, scopes: list[str], expires: datetime | None
) -> None:
    with pytest.raises(InputError):
        keys.create(name, scopes, expires)
    assert keys.list() == ()


def test_scopes_are_those_of_the_type() -> None:
    assert get_args(Scope) == SCOPES == ("verify", "enrol", "read", "admin")
