"""``kill -9`` in the middle of enrolments under load: what was answered is in the gallery and in the log."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.server.served import command, served
from verifykit.audit import read_log
from verifykit.gallery import open_existing

CLIENTS = 6


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_kills_lose_nothing_that_was_answered(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path, kills: int
) -> None:
    randomly = random.Random(3)
    picture = portraits["person_a_1"].read_bytes()
    gallery, log = tmp_path / "staff.db", tmp_path / "staff.db.audit.jsonl"
    acknowledged: set[str] = set()
    lost: set[str] = set()
    for run in range(kills):
        with served(tmp_path, "--no-signatures") as service:
            done = threading.Semaphore(0)

            def enrol_on(
                client: int,
                run: int = run,
                url: str = service.url,
                done: threading.Semaphore = done,
            ) -> None:
                with httpx.Client(base_url=url, timeout=60, trust_env=False) as connection:
                    for i in range(10**6):
                        name = f"{run}-{client}-{i}"
                        path, files = f"/v1/subjects/{name}", {"image": picture}
                        # Every second one is kept by its key as well.
                        headers = {"Idempotency-Key": name} if i % 2 else {}
                        try:
                            answer = connection.put(path, files=files, headers=headers)
                        except httpx.TransportError:
                            lost.add(name)
                            return
                        assert answer.status_code == 201, answer.text
                        acknowledged.add(name)
                        done.release()

            with ThreadPoolExecutor(CLIENTS) as pool:
                clients = [pool.submit(enrol_on, client) for client in range(CLIENTS)]
                for _ in range(randomly.randrange(2 * CLIENTS, 4 * CLIENTS)):
                    assert done.acquire(timeout=60)
                time.sleep(randomly.uniform(0.0, 0.05))
                assert service.stop(signal.SIGKILL) == -signal.SIGKILL
                for client in clients:
                    client.result()
        with open_existing(str(gallery)) as opened:
            enrolled = set(opened.subject_ids())
            assert opened.check() == []
        assert acknowledged <= enrolled <= acknowledged | lost
        audited = {e.subject_id for e in read_log(log) if e.decision == "enrolled"}
        assert acknowledged <= audited <= enrolled
    assert len(acknowledged) >= 2 * CLIENTS * kills
    verified = command("audit", "verify", log)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    with served(tmp_path, "--no-signatures") as service:
        some = randomly.choice(sorted(acknowledged))
        assert service.verify(some, portraits["person_a_1"]).json()["match"] is True
        # A request whose answer was lost is sent again, and answered whichever way it went.
        for name in sorted(lost):
            answer = service.put(name, portraits["person_a_1"])
            assert answer.status_code == (409 if name in enrolled else 201)
        assert service.stop() == 0
    with open_existing(str(gallery)) as opened:
        assert set(opened.subject_ids()) == acknowledged | lost
