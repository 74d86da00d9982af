"""``verifykit gallery duplicates`` on a real PostgreSQL server finds what a gallery in memory does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.command_results import Invoke, body
from tests.helpers.postgres_server import PostgresServer
from tests.unit.gallery.postgres_galleries import next_name
from verifykit.gallery import MemoryGallery, PostgresGallery, create_shards, searcher
from verifykit.gallery.base import Entry
from verifykit.gallery.duplicates import find_duplicates
from verifykit.models import load

PASSWORD = "hidden-word"


def people(count: int, size: int) -> list[Entry]:
    """One to three templates each; every tenth resembles the one before, some a whole group."""
    rng = np.random.default_rng(11)
    entries: list[Entry] = []
    centre = rng.normal(size=size)
    for number in range(count):
        if number % 10:
            centre = rng.normal(size=size)
        many = 1 + number % 3
        rows = centre + 0.4 * rng.normal(size=(many, size))
        if number >= count - 15:  # more than the first search asks for
            rows = np.ones((many, size)) + 0.2 * rng.normal(size=(many, size))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        reasons: tuple[tuple[str, ...], ...] = ((),) * many
        entries.append(Entry(f"p{number:03}", rows.astype(np.float32), reasons, "{}"))
    return entries


@pytest.mark.parametrize("shards", [False, True])
def test_who_is_enrolled_twice_on_a_server(
    invoke: Invoke, postgres: PostgresServer, shards: bool
) -> None:
    name = next_name()
    url = postgres.url(gallery=name).replace("postgres@", f"postgres:{PASSWORD}@")
    if not shards:
        invoke("enroll", "ada", "person_a_1.jpg", "-g", url, status=0)
        invoke("enroll", "zoë", "person_a_2.jpg", "-g", url, status=0)
        told = body(invoke("gallery", "duplicates", url, "--json", status=1))
        assert [pair["other_id"] for pair in told["pairs"]] == ["zoë"]
    scratch = postgres.url(gallery=next_name())
    invoke("enroll", "bea", "person_b_1.jpg", "-g", scratch, status=0)
    of_model = body(invoke("gallery", "info", scratch, "--json", status=0))
    assert of_model["revision"] > 0
    identity = {key: of_model[key] for key in ("spec_digest", "embedding_size", "fusion")}
    if shards:
        create_shards(
            url, [postgres.url(database, name) for database in ("one", "two")], **identity
        )
    with PostgresGallery.open_existing(url, read_only=False) as gallery:
        memory = MemoryGallery(**identity)
        entries = people(50, gallery.embedding_size)
        gallery.add_entries(entries, "error")
        memory.add_entries(entries, "error")
        for subject_id in set(gallery.subject_ids()) - set(memory.subject_ids()):
            memory.add(subject_id, gallery.get(subject_id).templates)

    search = searcher(memory, load("face").spec)
    wanted = [pair.to_dict() for pair in find_duplicates(memory, 0.5, search=search)]
    run = invoke("gallery", "duplicates", url, "--threshold", "0.5", "--json", status=1)
    told = body(run)
    assert told["pairs"] == wanted
    assert len(wanted) > 15 * 14 // 2
    assert PASSWORD not in run.output
    assert told["gallery"] in url.replace(f":{PASSWORD}", "")
    everybody = invoke("gallery", "duplicates", url, "--threshold", "0.9999", status=0)
    assert everybody.stdout.startswith(f"no duplicates among {len(memory)} subjects")
    assert PASSWORD not in everybody.output
