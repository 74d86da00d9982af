"""A gallery on PostgreSQL counts its writes: all of them, whoever writes, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.postgres_server import PostgresServer
from tests.unit.gallery.files import DIGEST, SIZE, templates, units
from tests.unit.gallery.postgres_galleries import next_name, reopen, sql
from verifykit.errors import GalleryError, GalleryFormatError
from verifykit.gallery import PostgresGallery, create_shards
from verifykit.gallery.base import Entry
from verifykit.gallery.postgres import rows
from verifykit.gallery.postgres import schema as postgres_migrations


def entry(subject_id: str, seed: int) -> Entry:
    return Entry(subject_id, units(seed, 1), ((),), "{}")


def revision(gallery: PostgresGallery) -> int:
    found = gallery.info()["revision"]
    assert isinstance(found, int)
    return found


WRITES: dict[str, Callable[[PostgresGallery], object]] = {
    "enrol": lambda gallery: gallery.add("bob", templates(2)),
    "more of one": lambda gallery: gallery.add("alice", templates(3), {"n": 1}),
    "remove": lambda gallery: gallery.remove("alice"),
    "import": lambda gallery: gallery.add_entries([entry("cyd", 4)], "append"),
    "by hand": lambda gallery: sql(
        gallery.address.shown, "UPDATE reference SET reference_row = reference_row + reference_row"
    ),
    "emptied": lambda gallery: sql(gallery.address.shown, "TRUNCATE reference"),
}


@pytest.mark.parametrize("write", ["enrol", "more of one", "remove", "import"])
@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_every_write_is_another_revision(url: str, write: str, fusion: str) -> None:
    with reopen(url, fusion=fusion) as gallery:
        assert revision(gallery) == 0
        gallery.add("alice", templates(1))
        before = revision(gallery)
        assert before > 0
        gallery.search(units(1, 1), 1, 0.0)
        assert revision(gallery) == before
        WRITES[write](gallery)
        assert revision(gallery) > before


@pytest.mark.parametrize("write", ["by hand", "emptied"])
def test_what_is_done_behind_its_back_is_counted(url: str, write: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        before = gallery.info()
        WRITES[write](gallery)
        assert gallery.info() == {**before, "revision": before["revision"] + 1}


def test_one_template_in_the_place_of_another_is_another_revision(url: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        before = gallery.info()
        gallery.remove("alice")
        gallery.add("alice", templates(2))
        after = gallery.info()
    assert after.pop("revision") > before.pop("revision")
    assert after == before


def test_it_counts_at_the_commit_and_no_writer_waits_for_another(url: str) -> None:
    with reopen(url) as first, reopen(url, timeout_s=0.05) as second:
        with first._connections.writing("alice") as server:
            rows.store(server, [entry("alice", 1)], set(), "max")
            assert revision(second) == 0
            second.add("bob", templates(2))
            bobs = revision(second)
            assert bobs > 0
        assert revision(second) == revision(first) == 2 * bobs


def test_what_is_undone_is_not_counted(url: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        before = gallery.info()
        many = [entry(f"s{i}", i) for i in range(1500)]  # more than a batch: the first is stored
        with pytest.raises(GalleryError, match="already enrolled"):
            gallery.add_entries([*many, entry("alice", 2)], "error")
        assert gallery.info() == before


@pytest.fixture
def old(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a gallery of schema 1, with alice."""
    with monkeypatch.context() as patch:
        patch.setattr(postgres_migrations, "MIGRATIONS", postgres_migrations.MIGRATIONS[:1])
        with reopen(url, model="") as gallery:
            gallery.add("alice", templates(1), {"a": 1})
    assert sql(url, "SELECT to_regclass('revision')") == [(None,)]
    return url


def test_a_gallery_of_schema_1_is_brought_up_to_date_with_what_it_holds(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GalleryFormatError, match=r"schema 1.*open it once for writing"):
        PostgresGallery.open_existing(old)
    assert sql(old, "SELECT max(version) FROM schema_version") == [(1,)]
    with monkeypatch.context() as patch:
        patch.setattr(postgres_migrations, "MIGRATIONS", postgres_migrations.MIGRATIONS[:1])
        earlier = reopen(old)  # an older verifykit, at work on another machine
    with earlier, reopen(old) as gallery:
        assert (gallery.info()["schema_version"], revision(gallery)) == (2, 0)
        assert gallery.get("alice").metadata == {"a": 1}
        assert gallery.search(units(1, 1), 1, 0.9)[0][0].subject_id == "alice"
        assert gallery.check() == []
        earlier.add("bob", templates(2))
        assert revision(gallery) > 0


def test_who_could_write_before_still_can_and_only_the_owner_migrates(
    postgres: PostgresServer, old: str
) -> None:
    from psycopg.errors import InsufficientPrivilege

    name = next_name()
    schema = f"verifykit_{old.rpartition('=')[2]}"
    sql(old, f"CREATE ROLE {name} LOGIN")
    sql(old, f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    sql(old, f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {name}")
    theirs = old.replace("postgres@", f"{name}@")
    try:
        with pytest.raises(GalleryError, match="as the role that owns it"):
            reopen(theirs)
        reopen(old).close()
        with reopen(theirs) as gallery:
            gallery.add("bob", templates(2))
            assert revision(gallery) > 0
        own = "CREATE TEMPORARY TABLE revision (slot int PRIMARY KEY, writes bigint)"
        trigger = (
            f"CREATE TRIGGER mine AFTER INSERT ON revision EXECUTE FUNCTION {schema}.count_write()"
        )
        with pytest.raises(InsufficientPrivilege, match="count_write"):
            sql(theirs, f"{own}; {trigger}")
        with pytest.raises(InsufficientPrivilege, match="table revision"):
            sql(theirs, "DELETE FROM revision")
    finally:
        sql(old, f"DROP OWNED BY {name}")
        sql(old, f"DROP ROLE {name}")


def test_a_shard_counts_what_comes_from_anywhere(postgres: PostgresServer) -> None:
    name = next_name()
    url, *shards = (postgres.url(database, name) for database in ("postgres", "one", "two"))
    create_shards(url, shards, spec_digest=DIGEST, embedding_size=SIZE, model="face")
    with reopen(url) as gallery:
        assert revision(gallery) == 0
        seen = [0]
        for number in range(8):
            gallery.add(f"s{number}", templates(number))
            seen.append(revision(gallery))
        gallery.remove("s0")
        seen.append(revision(gallery))
        gallery.add_entries([entry(f"t{i}", i) for i in range(40)], "error")
        seen.append(revision(gallery))
        parts = []
        for shard in shards:
            with reopen(shard) as part:
                parts.append(revision(part))
                part.add(min(part.subject_ids()), templates(99))
                seen.append(revision(gallery))
        assert all(parts)
        assert sum(parts) == seen[-3]
        assert sorted(set(seen)) == seen


def make_old_shards(url: str, shards: list[str]) -> None:
    """As the verifykit of schema 1 made them."""
    create_shards(url, shards, spec_digest=DIGEST, embedding_size=SIZE, model="face")
    sql(url, "DROP VIEW revision")
    sql(url, "DROP FOREIGN TABLE revision_0, revision_1")
    for shard in shards:
        sql(shard, "DROP FUNCTION count_write CASCADE")
        sql(shard, "DROP TABLE revision")
    for each in (url, *shards):
        sql(each, "DELETE FROM schema_version WHERE version = 2")


def test_old_shards_are_brought_up_to_date_and_then_their_coordinator(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next_name()
    url, *shards = (postgres.url(database, name) for database in ("postgres", "one", "two"))
    make_old_shards(url, shards)
    with monkeypatch.context() as patch:
        patch.setattr(postgres_migrations, "MIGRATIONS", postgres_migrations.MIGRATIONS[:1])
        with reopen(url) as gallery:
            gallery.add_entries([entry(f"s{i}", i) for i in range(20)], "error")
    for number, shard in enumerate(shards):
        with pytest.raises(GalleryFormatError, match=f"_{number} has an older schema: open each"):
            reopen(url)
        PostgresGallery.open_existing(shard, read_only=False).close()
    with PostgresGallery.open_existing(url, read_only=False) as gallery:
        assert gallery.info().items() >= {"schema_version": 2, "revision": 0, "shards": 2}.items()
        assert gallery.search(units(7, 1), 1, 0.9)[0][0].subject_id == "s7"
        seen = [0]
        for subject_id in [min(part.subject_ids()) for part in map(reopen, shards)]:
            gallery.remove(subject_id)
            seen.append(revision(gallery))
        assert sorted(set(seen)) == seen
        assert gallery.check() == []
    with monkeypatch.context() as patch:
        later = (*postgres_migrations.MIGRATIONS, ("SELECT",))
        patch.setattr(postgres_migrations, "MIGRATIONS", later)
        with pytest.raises(GalleryFormatError, match=r"brought to schema 3: copy it"):
            reopen(url)
