"""What a page on another site and a guesser of names and paths can do: nothing."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.server.attacked import ODD_IDS, Attacked
from tests.e2e.server.served import command
from tests.unit.server.running import files, problem
from verifykit.audit import read_log


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    ],
)
def test_another_sites_form_is_refused_before_anything_is_done(
    attacked: Attacked, pictures: dict[str, bytes], headers: dict[str, str]
) -> None:
    """A multipart POST is sent by browsers without asking first, with no matter what the page may read."""
    body = files(probe=pictures["person_a_1"], reference=pictures["person_a_2"])
    before = _audited(attacked)
    own = {"Authorization": f"Bearer {attacked.tokens['admin']}"}
    answer = attacked.client.post("/v1/compare", files=body, headers={**own, **headers})
    problem(answer, 403, "forbidden")
    assert "access-control-allow-origin" not in answer.headers
    preflight = attacked.client.options("/v1/compare", headers=headers)
    assert preflight.status_code == 403
    assert _audited(attacked) == before


def test_a_name_that_was_pointed_here_is_refused(attacked: Attacked) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000"):
        for path in ("/", "/v1/models", "/healthz", "/static/app.js", "/openapi.json"):
            answer = attacked.client.get(path, headers={"Host": host, **attacked.headers("admin")})
            problem(answer, 400, "bad_request")


@pytest.mark.parametrize("subject_id", ODD_IDS)
def test_an_odd_name_is_a_name_and_no_path(
    attacked: Attacked, pictures: dict[str, bytes], subject_id: str
) -> None:
    client, admin = attacked.client, attacked.headers("admin")
    before = _files(attacked.folder)
    address = f"/v1/subjects/{quote(subject_id, safe='').replace('.', '%2E')}"
    body = files(image=pictures["person_a_1"])
    enrolled = client.put(address, files=body, headers=admin)
    assert enrolled.status_code == 201, enrolled.text
    assert enrolled.json()["subject_id"] == subject_id
    verified = client.post(f"{address}/verify", files=body, headers=admin)
    assert verified.json()["subject_id"] == subject_id
    assert client.get(address, headers=admin).json()["subject_id"] == subject_id
    listed = client.get("/v1/subjects?limit=1000", headers=admin).json()["subjects"]
    assert subject_id in [row["subject_id"] for row in listed]
    assert _files(attacked.folder) == before
    removed = client.delete(address, headers=admin).json()
    assert (removed["subject_id"], removed["removed_templates"]) == (subject_id, 1)


@pytest.mark.parametrize(
    "segment",
    ["a%00b", "%00", "x" * 256, quote("é" * 128), "%ff%fe", "%ED%A0%80", "%0A", "x" * 9000],
)
def test_what_can_be_no_name_is_said(
    attacked: Attacked, pictures: dict[str, bytes], segment: str
) -> None:
    answer = attacked.client.put(
        f"/v1/subjects/{segment}",
        files=files(image=pictures["person_a_1"]),
        headers=attacked.headers("admin"),
    )
    problem(answer, 422, "invalid_value")


@pytest.mark.parametrize(
    "target",
    [
        b"/static/../../../../etc/passwd",
        b"/static/%2e%2e/%2e%2e/settings.py",
        b"/static/..%2f..%2fsettings.py",
        b"/static//etc/passwd",
        b"/static/%2fetc%2fpasswd",
        b"/../etc/passwd",
        b"/v1/subjects/../../static/app.js",
        b"//evil.example/",
    ],
)
def test_a_path_leads_nowhere_else(attacked: Attacked, target: bytes) -> None:
    """As bytes over a socket: clients tidy up paths before they send them."""
    host = attacked.service.url.removeprefix("http://")
    name, _, port = host.partition(":")
    with closing(socket.create_connection((name, int(port)), timeout=10)) as connection:
        request = b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
        connection.sendall(request % (target, host.encode()))
        said = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert said.split(b" ", 2)[1] in (b"401", b"404", b"405"), said
    for inside in (b"root:", b"ServerSettings", b"import"):
        assert inside not in said.partition(b"\r\n\r\n")[2]


def test_beyond_loopback_nobody_listens_without_a_key(tmp_path: Path) -> None:
    ended = command("serve", "--gallery", tmp_path / "staff.db", "--host", "0.0.0.0", "--port", 0)
    assert ended.returncode == 2
    assert "there is no API key" in ended.stderr


def _audited(attacked: Attacked) -> int:
    return len(list(read_log(attacked.audit_log))) if attacked.audit_log.exists() else 0


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
