"""A full disk: 507 for what would be stored or written down, and everything again when there is room."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from tests.e2e.server.served import command, served
from tests.unit.server.running import problem
from verifykit.audit import read_log

STEP_BYTES = 65_536


def test_a_full_disk_is_said_and_is_over_when_there_is_room(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path, small_disk: Path
) -> None:
    gallery, ballast = small_disk / "staff.db", small_disk / "ballast"
    log = small_disk / "staff.db.audit.jsonl"
    picture = portraits["person_a_1"]
    options = ("--gallery", gallery, "--no-signatures")
    with (
        served(tmp_path, *options) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        assert service.put("alice", picture).status_code == 201
        _fill(ballast)
        stored, answer = 0, service.put("s0", picture)
        while answer.status_code == 201:
            stored += 1
            answer = service.put(f"s{stored}", picture)
        body = problem(answer, 507, "storage_full")
        assert str(small_disk) not in answer.text
        assert "operator" in body["hint"]
        # A decision that cannot be written down is not made known; some fit into the log's last block.
        decided, answer = 0, service.verify("alice", picture)
        while answer.status_code == 200:
            decided += 1
            _fill(ballast)
            answer = service.verify("alice", picture)
        problem(answer, 507, "storage_full")
        assert [e.decision for e in read_log(log)].count("match") == decided
        for number in range(3):
            problem(service.put(f"never-{number}", picture), 507, "storage_full")
        listed = client.get("/v1/subjects?limit=1000").json()["subjects"]
        assert {row["subject_id"] for row in listed} >= {"alice", *(f"s{i}" for i in range(stored))}
        assert not any(row["subject_id"].startswith("never") for row in listed)
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        ballast.unlink()
        assert service.put("last", picture).status_code == 201
        assert service.verify("alice", picture).json()["match"] is True
        assert service.verify("last", picture).json()["match"] is True
        assert client.get("/readyz").status_code == 200
        assert service.stop() == 0
    verified = command("audit", "verify", log)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _fill(ballast: Path) -> None:
    """Leave no byte free."""
    step = STEP_BYTES
    with ballast.open("ab", buffering=0) as file:
        while step:
            written = 0
            with suppress(OSError):
                written = file.write(bytes(step))
            if written < step:
                step //= 2
