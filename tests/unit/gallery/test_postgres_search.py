"""Search on PostgreSQL beyond the contract: large galleries, filters, HNSW."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.gallery.files import DIGEST, SIZE, templates, units
from tests.unit.gallery.postgres_galleries import reopen, sql
from verifykit.errors import GalleryError, InputError
from verifykit.gallery import MemoryGallery
from verifykit.gallery.base import Entry
from verifykit.gallery.postgres.search import Nominations
from verifykit.types import Template


def test_a_filter_is_one_of_the_metadata(url: str) -> None:
    with reopen(url) as gallery:
        teams: list[dict[str, Any]] = [
            {"team": "blue", "level": 1},
            {"team": "red", "tags": ["a", "b"]},
            {"team": "blue", "odd": "\0", "level": 2},
            {"\ud800": 1},
        ]
        for number, metadata in enumerate(teams):
            gallery.add(f"s{number}", templates(number), metadata)
        gallery.add("s4", templates(4))

        def found(where: dict[str, Any] | None) -> list[str]:
            hits = gallery.search(units(0, 1), 9, -1.0, where=where)[0]
            assert all(c.metadata == gallery.get(c.subject_id).metadata for c in hits)
            return sorted(c.subject_id for c in hits)

        assert found({"team": "blue"}) == ["s0", "s2"]
        assert found({"team": "blue", "level": 2.0}) == ["s2"]
        assert found({"tags": ["b"]}) == ["s1"]
        assert found({"team": "green"}) == []
        assert found({}) == found(None) == ["s0", "s1", "s2", "s3", "s4"]
        gallery.add("s4", templates(5), {"team": "green"})
        assert found({"team": "green"}) == ["s4"]
        assert gallery.get("s2").metadata == teams[2]
        for bad in ({"odd": "\0"}, {"x": object()}, {"x": float("nan")}, "team"):
            with pytest.raises(InputError, match="where"):
                gallery.search(units(0, 1), 1, 0.0, where=bad)  # type: ignore[arg-type]


def clustered(count: int) -> tuple[list[Entry], Any]:
    """Subjects around few centres, so that products lie close and many tie; and probes."""
    rng = np.random.default_rng(3)
    rows = np.repeat(units(3, 20), count // 20, axis=0)
    rows = rows + 0.02 * rng.normal(size=rows.shape) * rng.integers(0, 2, (len(rows), 1))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    names = rng.permutation(count)
    entries = [
        Entry(f"s{i:05}", row[None], ((),), None) for i, row in zip(names, rows, strict=True)
    ]
    return entries, units(3, 20)


@pytest.mark.parametrize("fusion", ["max", "spread"])
def test_a_large_gallery_answers_as_memory_does(url: str, fusion: Any) -> None:
    entries, probes = clustered(4000)
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE, fusion=fusion)
    with reopen(url, fusion=fusion) as gallery:
        for each in (memory, gallery):
            report = each.add_entries(iter(entries), "error")
            assert report.subject_count == 4000
            again = each.add_entries(entries[:10], "append")
            assert again.template_count == 10
        for limit, threshold in ((1, 0.3), (7, -1.0), (150, 0.9), (10**30, 0.95)):
            wanted = memory.search(probes, limit, threshold)
            assert gallery.search(probes, limit, threshold) == wanted
        assert gallery.check() == []


def test_scores_end_at_minus_one_where_all_are_equal(url: str) -> None:
    rows = np.zeros((2, SIZE), np.float32)
    rows[0, 0] = rows[1, 1] = 1.0
    with reopen(url, fusion="spread") as gallery:
        for name in ("b", "a", "c"):
            gallery.add(name, [Template(row, DIGEST) for row in rows])
        found = gallery.search(-(rows[:1] + rows[1:]) / np.float32(2**0.5), 2, -1.0)[0]
        assert [(c.subject_id, c.score) for c in found] == [("a", -1.0), ("b", -1.0)]


def test_hnsw_is_followed_when_it_was_asked_for(url: str) -> None:
    entries, probes = clustered(4000)
    with reopen(url) as exact:
        exact.add_entries(entries, "error")
        wanted = exact.search(probes, 5, 0.3)
        with pytest.raises(GalleryError, match="read-only"):
            reopen(url, approximate=True, read_only=True)
        with reopen(url, approximate=True) as gallery:
            sql(url, "ANALYZE reference")
            assert gallery.info()["hnsw"]
            for where in (None, {}):
                found = zip(gallery.search(probes, 5, 0.3, where=where), wanted, strict=True)
                reached = [(hits, best) for hits, best in found if len(hits) == 5]
                # Chance makes the graph: a cluster as tight as these may be cut off from the others.
                assert len(reached) >= 15
                # What is found is scored as ever; what is missed, is.
                assert all(hits[0].score == best[0].score for hits, best in reached)
            plans = {}
            for each in (gallery, exact):
                with each._connections.reading() as server:
                    asked = Nominations(
                        server, each._tables, SIZE, None, approximate=each.approximate
                    )
                    lines = asked.ask(probes[0], count=20, explain=True)
                    plans[each.approximate] = "reference_hnsw" in "\n".join(lines)
            assert plans == {True: True, False: False}
            assert exact.search(probes, 5, 0.3) == wanted
        reopen(url, approximate=True, read_only=True).close()


def test_hnsw_refuses_what_it_cannot_index(url: str) -> None:
    with pytest.raises(InputError, match="2000"):
        reopen(url, embedding_size=2048, approximate=True)


def test_vectors_too_long_for_an_index_are_stored_and_searched(url: str) -> None:
    rows = np.random.default_rng(1).normal(size=(3, 2048))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    with reopen(url, embedding_size=2048) as gallery:
        for number, row in enumerate(rows):
            gallery.add(str(number), [Template(row, DIGEST)])
        assert [hits[0].subject_id for hits in gallery.search(rows, 1, 0.9)] == ["0", "1", "2"]
