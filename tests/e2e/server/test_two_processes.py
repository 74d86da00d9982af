"""Two services on one gallery: what one stores, the other knows at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server.served import Served, command, served
from tests.helpers.postgres_server import PostgresServer
from tests.unit.server.running import problem

ROUNDS = 3
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False, "timeout": 60}  # without TLS


def test_on_a_file(face_model: Path, portraits: Mapping[str, Path], tmp_path: Path) -> None:
    gallery = tmp_path / "staff.db"
    options = ("--gallery", gallery, "--no-signatures")
    one, other = _folders(tmp_path)
    with served(one, *options) as first, served(other, *options) as second:
        _check_both(first, second, portraits)
        _check_keys(first, second, portraits["person_a_1"], gallery)
    verified = command("audit", "verify", f"{gallery}.audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_on_postgresql(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path, postgres: PostgresServer
) -> None:
    files = ("--state", tmp_path / "state", "--audit", tmp_path / "audit.jsonl")
    options = ("--gallery", postgres.url(gallery="two_services"), *files)
    one, other = _folders(tmp_path)
    with served(one, *options) as first, served(other, *options) as second:
        _check_both(first, second, portraits)
    verified = command("audit", "verify", tmp_path / "audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _folders(folder: Path) -> tuple[Path, Path]:
    """Where each has its log."""
    for name in ("one", "other"):
        (folder / name).mkdir()
    return folder / "one", folder / "other"


def _check_both(first: Served, second: Served, portraits: Mapping[str, Path]) -> None:
    enrolled, same, another = (portraits[n] for n in ("person_a_1", "person_a_2", "person_b_1"))
    for number in range(ROUNDS):
        one, other = (first, second) if number % 2 else (second, first)
        name = f"subject-{number}"
        address = f"/v1/subjects/{name}"
        assert one.put(name, enrolled).status_code == 201
        assert other.verify(name, same).json()["match"] is True
        assert other.verify(name, another).json()["match"] is False
        found = httpx.post(f"{other.url}/v1/identify", files={"image": same.read_bytes()}, **PLAIN)
        candidates = found.json()["faces"][0]["candidates"]
        assert name in [candidate["subject_id"] for candidate in candidates]
        problem(other.put(name, enrolled), 409, "subject_exists")
        removed = httpx.delete(other.url + address, **PLAIN)
        assert removed.json()["removed_templates"] == 1
        problem(one.verify(name, same), 404, "subject_not_found")
        found = httpx.post(f"{one.url}/v1/identify", files={"image": same.read_bytes()}, **PLAIN)
        assert found.json()["faces"][0]["candidates"] == []


def _check_keys(first: Served, second: Served, picture: Path, gallery: Path) -> None:
    """A key that is made closes both, and one that is revoked is refused by both."""
    made = command(
        "serve", "keys", "create", "--gallery", gallery, "--name", "n", "--scope", "enrol"
    )
    token = made.stdout.strip()
    for number, service in enumerate((first, second)):
        problem(service.put(f"key-{number}", picture), 401, "unauthorized")
        answer = service.put(f"key-{number}", picture, Authorization=f"Bearer {token}")
        assert answer.status_code == 201
    key_id = token.split("_")[1]
    assert command("serve", "keys", "revoke", key_id, "--gallery", gallery).returncode == 0
    for service in (first, second):
        answer = service.put("late", picture, Authorization=f"Bearer {token}")
        problem(answer, 401, "unauthorized")


@pytest.mark.slow
def test_both_enrol_at_once_and_nothing_is_lost(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    options = ("--gallery", tmp_path / "staff.db", "--no-signatures")
    one, other = _folders(tmp_path)
    with (
        served(one, *options) as first,
        served(other, *options) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        services = (first, second)

        def enrol(number: int) -> int:
            return services[number % 2].put(f"s{number}", portraits["person_a_1"]).status_code

        assert set(pool.map(enrol, range(200))) == {201}
        listed = httpx.get(f"{first.url}/v1/subjects?limit=1000", **PLAIN).json()
        assert len(listed["subjects"]) == 200
    verified = command("audit", "verify", tmp_path / "staff.db.audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr
