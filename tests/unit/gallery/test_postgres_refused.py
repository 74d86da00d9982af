"""Who is not let in, and what a server must have: each found with what to do, and without the password."""

from __future__ import annotations

import stat
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.helpers.postgres_server import PostgresServer
from tests.unit.gallery.files import DIGEST, SIZE, templates
from tests.unit.gallery.postgres_galleries import next_name, reopen, sql
from verifykit.errors import GalleryError
from verifykit.gallery import create_shards

ROLE, PASSWORD, WRONG = "guarded", "Hidden:w\\örd @/1", "Mistaken-word"


@pytest.fixture(scope="module")
def guarded(postgres: PostgresServer) -> Iterator[str]:
    """A database of a role who is asked for a password, by scram-sha-256."""
    postgres.create_guarded_role(ROLE, PASSWORD)
    for database in ("kept", "kept_too"):
        sql(postgres.url(), f"CREATE DATABASE {database} OWNER {ROLE} STRATEGY wal_log")
        sql(postgres.url(database), "CREATE EXTENSION vector SCHEMA public")
    yield f"postgresql://{ROLE}@127.0.0.1:{postgres.port}/kept"
    for database in ("kept", "kept_too"):
        sql(postgres.url(), f"DROP DATABASE {database} WITH (FORCE)")
    sql(postgres.url(), f"DROP ROLE {ROLE}")


def with_password(url: str, password: str) -> str:
    return url.replace(f"{ROLE}@", f"{ROLE}:{quote(password, safe='')}@")


def write_passfile(path: Path, password: str) -> Path:
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    path.write_text(f"127.0.0.1:*:*:{ROLE}:{escaped}\n")
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)  # libpq takes no other
    return path


@pytest.mark.parametrize("given", ["url", "variable", "home", "passfile", "passfile in the url"])
def test_the_right_password_is_taken_from_wherever_libpq_does(
    guarded: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = guarded + f"?verifykit_gallery={next_name()}"
    if given == "url":
        monkeypatch.setenv("PGPASSWORD", WRONG)  # the URL goes before it
        url = with_password(url, PASSWORD)
    elif given == "variable":
        monkeypatch.setenv("PGPASSFILE", str(write_passfile(tmp_path / "other", WRONG)))
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
    elif given == "home":
        write_passfile(tmp_path / ".pgpass", PASSWORD)
        monkeypatch.setenv("HOME", str(tmp_path))
    elif given == "passfile":
        monkeypatch.setenv("PGPASSFILE", str(write_passfile(tmp_path / "passwords", PASSWORD)))
    else:
        url += "&passfile=" + quote(str(write_passfile(tmp_path / "passwords", PASSWORD)), safe="")
    with reopen(url) as gallery:
        gallery.add("alice", templates(1))
        assert len(gallery) == 1
        assert PASSWORD not in str(gallery.info())


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("nothing", r"no password supplied; give one in .*PGPASSWORD.*\.pgpass"),
        ("wrong in the url", 'failed for user "guarded"; check the role and its password'),
        ("wrong in the variable", 'failed for user "guarded"; check the role and its password'),
        ("wrong in the file", r'from file "/.*/passwords"; check the role and its password'),
    ],
)
def test_a_missing_or_wrong_password_is_told_and_not_printed(
    guarded: str, given: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    url = guarded
    if given == "wrong in the url":
        url = with_password(guarded, WRONG)
    elif given == "wrong in the variable":
        monkeypatch.setenv("PGPASSWORD", WRONG)
    elif given == "wrong in the file":
        monkeypatch.setenv("PGPASSFILE", str(write_passfile(tmp_path / "passwords", WRONG)))
    with pytest.raises(GalleryError, match=found) as refused:
        reopen(url)
    assert guarded in str(refused.value)
    assert WRONG not in "".join(traceback.format_exception(refused.value))


def test_shards_keep_the_password_that_the_environment_had(
    postgres: PostgresServer, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next_name()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    sql(postgres.url("kept"), "CREATE EXTENSION postgres_fdw SCHEMA public")
    sql(postgres.url("kept"), f"GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {ROLE}")
    databases = ("kept", "kept", "kept_too")
    names = (name, f"{name}_one", name)
    url, *shards = (
        guarded.replace("/kept", f"/{database}") + f"?verifykit_gallery={gallery}"
        for database, gallery in zip(databases, names, strict=True)
    )
    create_shards(url, shards, spec_digest=DIGEST, embedding_size=SIZE)
    with reopen(url) as gallery:
        for number in range(8):
            gallery.add(f"s{number}", templates(number))
        assert all(sql(shard, "SELECT subject_id FROM subject") for shard in shards)
        sql(postgres.url(), f"ALTER ROLE {ROLE} PASSWORD '{WRONG}'")
    try:
        monkeypatch.setenv("PGPASSWORD", WRONG)
        with (
            reopen(url) as gallery,
            pytest.raises(GalleryError, match="password authentication failed") as refused,
        ):
            gallery.subject_ids()
        assert PASSWORD not in "".join(traceback.format_exception(refused.value))
    finally:
        sql(postgres.url(), f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")


def test_a_database_that_is_not_there_is_to_be_made(postgres: PostgresServer) -> None:
    with pytest.raises(GalleryError, match=r'"nowhere" does not exist; make the database first'):
        reopen(postgres.url("nowhere"))


@pytest.fixture
def bare(postgres: PostgresServer) -> Iterator[str]:
    """A database without pgvector."""
    postgres.create_databases("bare")
    yield postgres.url("bare")
    sql(postgres.url(), "DROP DATABASE bare WITH (FORCE)")


def test_a_server_without_pgvector_is_told_what_to_install(bare: str) -> None:
    hidden = bare + "?options=-cextension_control_path%3D/nowhere"  # as if it were not installed
    with pytest.raises(GalleryError, match=r"the server has no pgvector: install version 0\.8"):
        reopen(hidden)
    # Not even the schema: the next try begins rebuilt.
    assert sql(bare, "SELECT to_regnamespace('verifykit_default')") == [(None,)]
    reopen(bare).close()
    reopen(hidden).close()


def test_a_role_that_may_not_make_the_extension_is_told_who_may(
    postgres: PostgresServer, bare: str
) -> None:
    role = next_name()
    sql(bare, f"CREATE ROLE {role} LOGIN")
    sql(bare, f"GRANT CREATE ON DATABASE bare TO {role}")
    theirs = bare.replace("postgres@", f"{role}@")
    try:
        found = r"administrator run `CREATE EXTENSION vector SCHEMA public` in the database 'bare'"
        with pytest.raises(GalleryError, match=found):
            reopen(theirs)
        sql(bare, "CREATE EXTENSION vector SCHEMA public")
        with reopen(theirs) as gallery:
            gallery.add("alice", templates(1))
    finally:
        sql(bare, f"DROP OWNED BY {role}")
        sql(bare, f"DROP ROLE {role}")
