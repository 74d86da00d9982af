"""Who is let in: keys, scopes, rates, and a service that is open only where nobody else can come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path

import pytest

from verifykit.errors import GalleryError
from verifykit.server.auth import SCOPES, Authenticator, KeyStore, Scope, network_of
from verifykit.server.errors import ProblemError
from verifykit.server.limits import FailureLimiter, RateLimiter
from verifykit.server.state import ServerState

HERE = "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def state(tmp_path: Path) -> Iterator[ServerState]:
    with closing(ServerState(tmp_path / "state")) as opened:
        yield opened


@pytest.fixture
def keys(state: ServerState) -> KeyStore:
    return KeyStore(state)


def _refusal(
    gate: Authenticator, token: str | None, scope: Scope | None = "verify", address: str = HERE
) -> str:
    """The problem's code; empty when the request is let through."""
    refused: ProblemError | None = None
    try:
        gate.require(scope, gate.identify(token, address), address)
    except ProblemError as error:
        refused = error
    if refused is None:
        return ""
    assert (refused.status == 429) == ("Retry-After" in refused.headers)
    assert (refused.status == 401) == ("WWW-Authenticate" in refused.headers)
    assert not token or token not in str(refused)
    return refused.code


def test_each_scope_opens_what_it_names_and_admin_opens_all(keys: KeyStore) -> None:
    gate = Authenticator(keys)
    for have, needed in product(SCOPES, SCOPES):
        _, token = keys.create("door", [have])
        expected = "" if have in (needed, "admin") else "forbidden"
        assert _refusal(gate, token, needed) == expected, (have, needed)


def test_what_needs_no_scope_still_needs_a_key(keys: KeyStore) -> None:
    gate = Authenticator(keys)
    for have in SCOPES:
        _, token = keys.create("door", [have])
        assert _refusal(gate, token, None) == ""
    assert _refusal(gate, None, None) == "unauthorized"


def test_whose_request_it_is_is_known_also_when_it_is_refused(keys: KeyStore) -> None:
    key, token = keys.create("door", ["read"])
    gate = Authenticator(keys)
    assert gate.identify(token, HERE) == key
    with pytest.raises(ProblemError, match="scope enrol; this one has read"):
        gate.require("enrol", key, HERE)


def test_without_a_key_or_with_a_wrong_one_nobody_enters(keys: KeyStore) -> None:
    key, token = keys.create("door", ["admin"])
    gate = Authenticator(keys, open_without_keys=True)
    assert _refusal(gate, None) == "unauthorized"
    assert _refusal(gate, "") == "unauthorized"
    assert _refusal(gate, token + "x") == "unauthorized"
    assert _refusal(gate, token) == ""
    keys.revoke(key.key_id)
    assert _refusal(gate, token) == _refusal(gate, None) == "unauthorized"


def test_an_expired_key_is_refused(state: ServerState) -> None:
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    _, token = KeyStore(state, clock=lambda: now).create(
        "door", ["verify"], now + timedelta(hours=1)
    )
    for later, code in ((timedelta(minutes=59), ""), (timedelta(minutes=60), "unauthorized")):
        gate = Authenticator(KeyStore(state, clock=lambda moment=now + later: moment))
        assert _refusal(gate, token) == code


def test_a_service_is_open_only_if_it_may_be_and_no_key_was_ever_made(keys: KeyStore) -> None:
    closed, is_open = Authenticator(keys), Authenticator(keys, open_without_keys=True)
    assert _refusal(closed, None, "admin") == "unauthorized"
    assert [_refusal(is_open, None, scope) for scope in SCOPES] == [""] * 4
    assert is_open.identify("stale", HERE) is None
    keys.create("door", ["verify"])  # seen by the gate that is open at once
    assert _refusal(is_open, None, "admin") == "unauthorized"


def test_a_state_file_that_is_gone_opens_no_door(state: ServerState, keys: KeyStore) -> None:
    gate = Authenticator(keys, open_without_keys=True)
    _, token = keys.create("door", ["verify"])
    for file in state.path.parent.iterdir():
        file.unlink()
    for sent in (None, token):
        with pytest.raises(GalleryError, match="no such file"):
            gate.identify(sent, HERE)


def test_each_key_has_its_rate_wherever_it_is_used_and_refusals_count(keys: KeyStore) -> None:
    clock = Clock()
    gate = Authenticator(keys, rate=RateLimiter(3, clock=clock))
    (_, one), (_, other) = keys.create("door", ["verify"]), keys.create("gate", ["verify"])
    asked = [_refusal(gate, one, scope, HERE) for scope in ("verify", "admin", "verify", "verify")]
    assert asked == ["", "forbidden", "", "rate_limited"]
    assert _refusal(gate, one, address="192.0.2.9") == "rate_limited"
    assert _refusal(gate, other) == ""
    clock.now += 20
    assert _refusal(gate, one) == ""


def test_where_it_is_open_each_address_has_its_rate(keys: KeyStore) -> None:
    gate = Authenticator(keys, rate=RateLimiter(2, clock=Clock()), open_without_keys=True)
    assert [_refusal(gate, None) for _ in range(3)] == ["", "", "rate_limited"]
    assert _refusal(gate, None, address="192.0.2.9") == ""
    assert [_refusal(gate, None, address=f"2001:db8::{n}") for n in range(3)] == [
        "",
        "",
        "rate_limited",
    ]


def test_bad_tokens_slow_their_address_down_and_lock_out_nobody(keys: KeyStore) -> None:
    _, token = keys.create("door", ["verify"])
    clock = Clock()
    gate = Authenticator(keys, bad_tokens=FailureLimiter(3, 60.0, clock=clock))
    assert [_refusal(gate, "vk_0_0") for _ in range(4)] == ["unauthorized"] * 3 + ["rate_limited"]
    assert _refusal(gate, token) == ""
    assert _refusal(gate, "vk_0_0") == "rate_limited"  # and a good one clears nothing
    assert _refusal(gate, None) == "unauthorized"
    assert _refusal(gate, "vk_0_0", address="192.0.2.9") == "unauthorized"
    clock.now += 60
    assert _refusal(gate, "vk_0_0") == "unauthorized"


def test_bad_tokens_are_limited_unless_said_otherwise(keys: KeyStore) -> None:
    keys.create("door", ["verify"])
    gate = Authenticator(keys)
    assert [_refusal(gate, "vk_0_0") for _ in range(21)][-2:] == ["unauthorized", "rate_limited"]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/verifykit.sock", "/run/verifykit.sock"),
        ("", ""),
    ],
)
def test_what_an_address_is_counted_by(address: str, network: str) -> None:
    assert network_of(address) == network
