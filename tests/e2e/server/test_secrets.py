"""Keys that do not fit, faces that are tried one after the other, and what logs and metrics tell."""

from __future__ import annotations

import base64
import json
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.server.attacked import ODD_IDS, Attacked
from tests.e2e.server.served import command
from tests.unit.server.running import files, problem
from verifykit.audit import read_log
from verifykit.server.auth import KeyStore
from verifykit.server.state import ServerState

SECRET = "maria-garcía-4711"


def test_each_key_opens_its_own_doors_and_no_other(
    attacked: Attacked, pictures: dict[str, bytes]
) -> None:
    body = files(image=pictures["person_a_1"])
    doors = {
        "verify": ("POST", "/v1/identify", body),
        "enrol": ("PUT", "/v1/subjects/keys-are-checked", body),
        "read": ("GET", "/v1/subjects", None),
        "admin": ("DELETE", "/v1/subjects/keys-are-checked", None),
    }
    for scope, (method, path, sent) in doors.items():
        asked = attacked.client.request(method, path, files=sent)
        problem(asked, 401, "unauthorized")
        assert asked.headers["www-authenticate"] == "Bearer"
        for other in attacked.tokens:
            answer = attacked.client.request(
                method, path, files=sent, headers=attacked.headers(other)
            )
            if other in (scope, "admin"):
                assert answer.status_code in (200, 201, 409), answer.text
            else:
                problem(answer, 403, "forbidden")


def test_a_key_ends_while_the_service_runs(attacked: Attacked, pictures: dict[str, bytes]) -> None:
    with closing(ServerState(attacked.folder / "staff.db.server")) as state:
        soon = datetime.now(timezone.utc) + timedelta(seconds=1.5)
        _, short_token = KeyStore(state).create("short", ["read"], soon)
        long, long_token = KeyStore(state).create("long", ["read"])

    def ask(token: str) -> httpx.Response:
        return attacked.client.get("/v1/models", headers={"Authorization": f"Bearer {token}"})

    assert [ask(token).status_code for token in (short_token, long_token)] == [200, 200]
    gallery = ("--gallery", attacked.folder / "staff.db")
    assert command("serve", "keys", "revoke", *gallery, long.key_id).returncode == 0
    problem(ask(long_token), 401, "unauthorized")
    time.sleep(max(0.0, (soon - datetime.now(timezone.utc)).total_seconds()))
    problem(ask(short_token), 401, "unauthorized")
    for nearly in (short_token[:-1], f"{short_token}x", short_token.replace("vk_", "vk-"), "é"):
        header = {"Authorization": f"Bearer {nearly}".encode("latin-1")}
        assert attacked.client.get("/v1/models", headers=header).status_code == 401


def test_secrets_are_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("verifykit.server.auth.hmac.compare_digest", compare)
    with closing(ServerState(tmp_path / "state")) as state:
        keys = KeyStore(state)
        key, token = keys.create("door", ["verify"])
        assert keys.authenticate(token) == key
        assert keys.authenticate(f"{token[:-1]}?") is None
        assert (
            keys.authenticate("vk_000000000000_x") is None
        )  # an id that there is not: the same work
    assert len(compared) == 3
    assert {len(part) for pair in compared for part in pair} == {32}


def test_whoever_tries_faces_on_a_subject_is_stopped_and_others_are_served(
    attacked: Attacked, pictures: dict[str, bytes]
) -> None:
    client, admin = attacked.client, attacked.headers("admin")
    for name in (SECRET, "neighbour"):
        address = f"/v1/subjects/{quote(name)}"
        body = files(image=pictures["person_a_1"])
        assert client.put(address, files=body, headers=admin).status_code == 201

    def verify(name: str, picture: str) -> httpx.Response:
        return client.post(
            f"/v1/subjects/{quote(name)}/verify",
            files=files(image=pictures[picture]),
            headers=attacked.headers("verify"),
        )

    for _ in range(3):
        assert verify(SECRET, "person_b_1").json()["match"] is False
    stopped = verify(SECRET, "person_a_2")  # also the right face waits
    problem(stopped, 429, "too_many_failed_verifications")
    assert int(stopped.headers["retry-after"]) > 60
    assert SECRET not in json.dumps(stopped.json(), ensure_ascii=False)
    assert verify("neighbour", "person_a_2").json()["match"] is True
    problem(verify("nobody", "person_a_2"), 404, "subject_not_found")


def test_logs_and_metrics_say_nothing_about_whom(
    attacked: Attacked, pictures: dict[str, bytes]
) -> None:
    """After all of the above: whatever was logged and counted is searched."""
    client, admin = attacked.client, attacked.headers("admin")
    picture, address = pictures["person_a_1"], f"/v1/subjects/{quote(SECRET)}"
    client.put(address, json={"images": [base64.b64encode(picture).decode()]}, headers=admin)
    client.put(
        address,
        files=files(image=b"no picture"),
        headers={**admin, "Idempotency-Key": quote(SECRET)},
    )
    client.get(f"/v1/subjects?after={quote(SECRET)}", headers=admin)
    client.get(f"/v1/nowhere/{quote(SECRET)}?q={quote(SECRET)}", headers=admin)
    client.post(f"{address}/verify?threshold={quote(SECRET)}", headers=admin)
    log = attacked.service.log.read_bytes()
    metrics = client.get("/metrics", headers=attacked.headers("read")).content
    assert b"verifykit_http_requests_total" in metrics
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"/v1/subjects/{subject_id}", "unknown"} <= {line.get("route") for line in lines}
    secrets = [
        SECRET,
        quote(SECRET),
        quote(SECRET).lower(),
        *attacked.tokens.values(),
        *ODD_IDS[:7],
    ]
    secrets += [token.rpartition("_")[2] for token in attacked.tokens.values()]
    for said in (log, metrics):
        for secret in secrets:
            assert secret.encode() not in said, secret
            assert json.dumps(secret)[1:-1].encode() not in said, secret
        for start in range(0, len(picture) - 30, 997):
            assert picture[start : start + 30] not in said
            assert base64.b64encode(picture[start : start + 30]) not in said
    stored = b"".join(path.read_bytes() for path in attacked.folder.glob("staff.db*"))
    for token in attacked.tokens.values():
        assert token.rpartition("_")[2].encode() not in stored
    assert all(entry.key_id is not None for entry in read_log(attacked.audit_log))
