"""The file that keeps embeddings."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.privileges import allow_all_users, without_privileges
from tests.unit.evaluation.made import ShadeEmbedder
from verifykit.errors import InputError
from verifykit.evaluation.embedding import EmbeddingCache

CHECKOUT = Path(__file__).resolve().parents[3]
ROW = ShadeEmbedder.vector(77)


def test_what_was_put_is_got(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.sqlite"
    rows = {f"{n:064x}": ShadeEmbedder.vector(n) for n in range(1000)}
    with EmbeddingCache(path) as cache:
        cache.put("key", {**rows, "none": "no_face"})
        cache.put("other key", {"none": ROW})
        cache.put("key", {})
    with EmbeddingCache(path) as cache:
        found = cache.get("key", [*rows, "none", "unknown"])
        assert list(found) == [*rows, "none"]
        assert found.pop("none") == "no_face"
        for digest, row in found.items():
            assert isinstance(row, np.ndarray)
            assert row.dtype == np.float32
            assert row.tobytes() == rows[digest].tobytes()
        assert np.array_equal(cache.get("other key", ["none"])["none"], ROW)
        assert cache.get("third key", ["none"]) == {}
        cache.put("key", {"none": ROW})
        assert np.array_equal(cache.get("key", ["none"])["none"], ROW)
        cache.close()


def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    with EmbeddingCache() as cache:
        assert cache.path == tmp_path / "home" / "embeddings.sqlite"
        assert cache.path.is_file()


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with EmbeddingCache(path) as cache:
        cache.put("key", {"a": ROW})
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["c.sqlite", "c.sqlite-shm", "c.sqlite-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_put_is_all_or_nothing(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        with pytest.raises(AttributeError):
            cache.put("key", {"a": "no_face", "b": None})  # type: ignore[dict-item]
        with pytest.raises(InputError, match="NOT NULL"):
            cache.put("key", {"a": "no_face", None: "no_face"})  # type: ignore[dict-item]
        assert cache.get("key", ["a"]) == {}
        cache.put("key", {"a": "no_face"})


def _database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_file_that_is_no_cache_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, gallery = tmp_path / "notes.txt", tmp_path / "gallery.db"
    text.write_text("Not a database, but something that somebody wrote down and needs." * 99)
    _database(gallery, "CREATE TABLE subject (id)", "PRAGMA application_id=7")
    foreign = tmp_path / "foreign.db"
    _database(foreign, "CREATE TABLE x (y)")
    for path, message in (
        (text, r"notes\.txt' is not an embedding cache, or a damaged one .*delete it"),
        (gallery, r"gallery\.db' is not an embedding cache, but another .*id 7.* delete it"),
        (foreign, r"foreign\.db' is not an embedding cache, but another .*id 0.* delete it"),
    ):
        before = path.read_bytes()
        with pytest.raises(InputError, match=message):
            EmbeddingCache(path)
        assert path.read_bytes() == before
    with pytest.raises(InputError, match="unable to open"):
        EmbeddingCache(tmp_path)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    EmbeddingCache(path).close()
    _database(path, "PRAGMA user_version=2")
    with pytest.raises(InputError, match=r"c\.sqlite' has schema 2, .* reads 1: delete it"):
        EmbeddingCache(path)


@pytest.mark.parametrize("damage", ["x'0000803f00'", "x'0000803f0000803f'", "x'0000c07f'", "x''"])
def test_a_row_that_is_no_embedding_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.sqlite"
    with EmbeddingCache(path) as cache:
        cache.put("key", {"a": ROW})
    _database(path, f"UPDATE outcome SET embedding = {damage}")
    with EmbeddingCache(path) as cache, pytest.raises(InputError, match=r"damaged, .* delete it"):
        cache.get("key", ["a"])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with EmbeddingCache(path) as cache:
        cache.put("key", {f"{n}": ROW for n in range(2000)})
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * len(data[4096:])
    path.write_bytes(data)
    with (
        EmbeddingCache(path) as cache,
        pytest.raises(InputError, match=r"damaged one .* delete it"),
    ):
        cache.get("key", ["7"])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    allow_all_users(tmp_path)
    with without_privileges(), pytest.raises(InputError, match=r"cannot be made: .*VERIFYKIT_HOME"):
        EmbeddingCache(tmp_path / "deep" / "c.sqlite")


def test_a_closed_cache_says_so(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    cache.close()
    for call in (lambda: cache.get("key", ["a"]), lambda: cache.put("key", {"a": ROW})):
        with pytest.raises(InputError, match="closed"):
            call()


def test_several_processes_at_once(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tests.unit.evaluation.made import ShadeEmbedder
from verifykit.evaluation.embedding import EmbeddingCache
with EmbeddingCache(Path(sys.argv[1])) as cache:
    for n in range(60):
        cache.put("key", {f"{sys.argv[2]} {n}": ShadeEmbedder.vector(n), "shared": "no_face"})
        assert cache.get("key", ["shared"]) == {"shared": "no_face"}
"""
    path = tmp_path / "c.sqlite"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)], cwd=CHECKOUT)
        for number in range(4)
    ]
    assert [process.wait() for process in running] == [0] * 4
    with EmbeddingCache(path) as cache:
        digests = [f"{number} {n}" for number in range(4) for n in range(60)]
        assert len(cache.get("key", digests)) == 240
