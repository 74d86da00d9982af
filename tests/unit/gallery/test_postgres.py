"""What a gallery on PostgreSQL has beyond the contract: URLs, migrations, refusals, connections."""

from __future__ import annotations

import os
import sys

import pytest

from tests.helpers.model_specs import face_spec
from tests.helpers.postgres_server import PostgresServer
from tests.unit.gallery.files import DIGEST, SIZE, templates, units
from tests.unit.gallery.postgres_galleries import next_name, reopen, sql
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    InputError,
    SubjectNotFoundError,
    TemplateFormatError,
    TemplateMismatchError,
)
from verifykit.gallery import PostgresGallery, open_gallery
from verifykit.gallery.postgres import schema as postgres_migrations
from verifykit.gallery.postgres.connection import parse_url


def test_a_url_is_taken_apart_and_shown_without_its_password() -> None:
    address = parse_url(
        "postgres://ann:p%40ss@db.example:5433/people?verifykit_gallery=staff&sslmode=require"
    )
    assert (address.name, address.schema) == ("staff", "verifykit_staff")
    assert address.parameters["password"] == "p@ss"
    assert address.parameters["sslmode"] == "require"
    assert "verifykit_gallery" not in address.parameters
    assert address.shown == "postgresql://ann@db.example:5433/people?verifykit_gallery=staff"
    assert "p@ss" not in repr(address)
    assert parse_url("postgresql:///people").name == "default"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:secret@host:port/db",
        "postgresql://ann:sec/secret@host/db",
        "postgresql://ann:sec@secret@host/db",
        "postgresql://ann:secret@host/db?verifykit_gallery=",
        "postgresql://ann:secret@host/db?verifykit_gallery=Staff",
        "postgresql://ann:secret@host/db?verifykit_gallery=a&verifykit_gallery=b",
        "postgresql://ann:secret@host/db?nonsense=1",
        "mysql://ann:secret@host/db",
    ],
)
def test_a_bad_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_without_psycopg_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(GalleryError, match=r'pip install "verifykit-sdk\[postgres\]"'):
        reopen("postgresql://host/db")


def test_nobody_there_is_told_with_the_host_and_without_the_password() -> None:
    with pytest.raises(GalleryError, match=r"ann@127\.0\.0\.1:1/db") as refused:
        reopen("postgresql://ann:secret@127.0.0.1:1/db")
    assert "secret" not in str(refused.value)


def test_a_verifiers_url_is_a_gallery_of_this_model(url: str) -> None:
    spec = face_spec(fusion="mean")
    gallery = open_gallery(url, spec)
    assert isinstance(gallery, PostgresGallery)
    assert (gallery.spec_digest, gallery.fusion, gallery.model) == (spec.digest, "mean", spec.name)
    gallery.close()


def test_another_model_fusion_or_length_is_refused(url: str) -> None:
    reopen(url).close()
    for options, error in (
        ({"spec_digest": "e" * 64}, TemplateMismatchError),
        ({"fusion": "mean"}, InputError),
        ({"embedding_size": 64}, GalleryFormatError),
        ({"fusion": "median"}, InputError),
        ({"timeout_s": -1.0}, InputError),
        ({"embedding_size": 16_001}, TemplateFormatError),
    ):
        with pytest.raises(error):
            reopen(url, **options)
    with PostgresGallery.open_existing(url) as gallery:
        assert (gallery.spec_digest, gallery.fusion) == (DIGEST, "max")


def test_a_gallery_that_is_not_there_is_not_made_by_looking(url: str) -> None:
    for look in (
        lambda: PostgresGallery.open_existing(url),
        lambda: reopen(url, create=False),
        lambda: reopen(url, read_only=True),
    ):
        with pytest.raises(GalleryError, match="no such gallery"):
            look()
    schemas = [name for (name,) in sql(url, "SELECT nspname FROM pg_namespace")]
    assert parse_url(url).schema not in schemas


def test_read_only_refuses_to_write(url: str) -> None:
    reopen(url).add("alice", templates(1))
    with PostgresGallery.open_existing(url) as gallery:
        for write in (
            lambda: gallery.add("bob", templates(2)),
            lambda: gallery.remove("alice"),
        ):
            with pytest.raises(GalleryError, match="read-only"):
                write()
        assert list(gallery.subject_ids()) == ["alice"]


def test_galleries_of_one_database_do_not_see_each_other(postgres: PostgresServer) -> None:
    names = [next_name() for _ in range(2)]
    one, other = (reopen(postgres.url(gallery=name)) for name in names)
    with one, other:
        one.add("alice", templates(1))
        assert (len(one), len(other)) == (1, 0)
        with pytest.raises(SubjectNotFoundError, match=names[1]):
            other.get("alice")


def test_migrations_run_once_in_order_and_newer_ones_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopen(url).add("alice", templates(1))
    later = (
        ("ALTER TABLE subject ADD COLUMN note text",),
        ("UPDATE subject SET note = 'v' || {size}", "CREATE INDEX subject_note ON subject (note)"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(postgres_migrations, "MIGRATIONS", (*postgres_migrations.MIGRATIONS, *later))
        with pytest.raises(GalleryFormatError, match="open it once for writing"):
            PostgresGallery.open_existing(url)
        for _ in range(2):
            with reopen(url) as gallery:
                assert gallery.info()["schema_version"] == 4
                assert gallery.search(units(1, 1), 1, 0.9)[0][0].subject_id == "alice"
        versions = sql(url, "SELECT version FROM schema_version ORDER BY 1")
        assert versions == [(1,), (2,), (3,), (4,)]
        assert sql(url, "SELECT note FROM subject") == [(f"v{SIZE}",)]
    for look in (lambda: reopen(url), lambda: PostgresGallery.open_existing(url)):
        with pytest.raises(GalleryFormatError, match="schema 4"):
            look()


def test_a_schema_with_other_tables_is_left_alone(url: str) -> None:
    schema = parse_url(url).schema
    sql(url, f"CREATE SCHEMA {schema}")
    sql(url, "CREATE TABLE mine (a int)")
    with pytest.raises(GalleryFormatError, match="not a gallery"):
        reopen(url)


def test_commits_wait_for_the_disk_whatever_the_role_has(url: str) -> None:
    gallery = reopen(url + "&options=-csynchronous_commit%3Doff")
    with gallery, gallery._connections.writing() as server:
        assert server.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_role_that_may_not_is_told_so(postgres: PostgresServer, url: str) -> None:
    sql(url, "DROP ROLE IF EXISTS guest")
    sql(url, "CREATE ROLE guest LOGIN PASSWORD 'secret'")
    guest = url.replace("postgres@", "guest:secret@")
    with pytest.raises(GalleryError, match="right to make a schema") as refused:
        reopen(guest)
    assert "secret" not in str(refused.value)
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        for wanted in ("USAGE ON SCHEMA", "SELECT ON ALL TABLES IN SCHEMA"):
            with pytest.raises(GalleryError, match="grant it"):
                reopen(guest).get("alice")
            sql(url, f"GRANT {wanted} {gallery.address.schema} TO guest")
        with reopen(guest) as reader:
            assert reader.get("alice").subject_id == "alice"
            with pytest.raises(GalleryError, match="grant it"):
                reader.add("bob", templates(2))
        assert list(gallery.subject_ids()) == ["alice"]
    sql(url, "DROP OWNED BY guest")
    sql(url, "DROP ROLE guest")


def test_a_lost_connection_is_told_and_the_next_call_connects_again(url: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        ended = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        sql(url, ended + " AND application_name = 'verifykit'")
        with pytest.raises(GalleryError, match=r"connection to 127\.0\.0\.1 was lost"):
            len(gallery)
        assert len(gallery) == 1
        gallery.close()
        gallery.close()
        with pytest.raises(GalleryError, match="closed"):
            len(gallery)


def test_a_writer_waits_for_another_only_so_long(url: str) -> None:
    with reopen(url) as first, reopen(url, timeout_s=0.05) as second:
        with first._connections.writing("alice"):
            second.add("bob", templates(2))
            with pytest.raises(GalleryLockedError, match="try again"):
                second.add("alice", templates(1))
            with pytest.raises(GalleryLockedError):
                second.add_entries([], "append")
        second.add("alice", templates(1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(url: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        child = os.fork()
        if child == 0:
            try:
                gallery.add("bob", templates(2))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert list(gallery.subject_ids()) == ["alice", "bob"]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE template SET embedding = 'x'", "4 bytes|1 bytes"),
        ("UPDATE template SET reasons = '{}'", "not a list"),
        ("UPDATE subject SET metadata = '[]'", "JSON object"),
        ("UPDATE reference SET reference_row = reference_row * reference_row", "is searched"),
        ("DELETE FROM template", "no template"),
        ("DELETE FROM subject", "not enrolled"),
    ],
)
def test_check_finds_damage(url: str, damage: str, found: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1), {"a": 1})
        assert gallery.check() == []
        sql(url, damage)
        problems = gallery.check()
        assert problems
        assert all("'alice'" in problem for problem in problems)
        assert any(word in problems[0] for word in found.split("|"))


def test_what_is_damaged_is_told_by_get(url: str) -> None:
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        sql(url, "UPDATE template SET embedding = 'x'")
        with pytest.raises(GalleryFormatError, match="damaged"):
            gallery.get("alice")
        sql(url, "DROP TABLE reference")
        with pytest.raises(GalleryFormatError, match="table of the gallery is missing"):
            gallery.search(units(1, 1), 1, 0.0)
