"""The index against a loop that compares everything, through growth and removal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from verifykit.gallery import index as index_module
from verifykit.gallery.index import ExactIndex
from verifykit.scoring import unit_rows


@pytest.fixture(autouse=True, scope="module", params=["8-bit copy", "float32"])
def _small_chunks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Chunks of five rows and tiles of three probes: every border is crossed."""
    with pytest.MonkeyPatch.context() as patch:
        copied_from = 1 if request.param == "8-bit copy" else 1 << 60
        patch.setattr(index_module, "COARSE_FROM_VALUES", copied_from)
        patch.setattr(index_module, "CHUNK_ROWS", 5)
        patch.setattr(index_module, "_PROBE_TILE", 3)
        patch.setattr(index_module, "CHUNKS_A_WORKER", 1)
        yield


def units(seed: int, count: int, size: int) -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, size)))


def by_loop(
    rows: dict[str, list[NDArray[np.float32]]], probe: NDArray[np.float32]
) -> dict[str, float]:
    """Best correctly rounded product of each subject."""
    probe = unit_rows(probe[None])[0]
    return {
        subject: max(
            float(
                np.float32(math.fsum(float(a) * float(b) for a, b in zip(row, probe, strict=True)))
            )
            for row in theirs
        )
        for subject, theirs in rows.items()
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_growing_and_shrinking_it_finds_what_the_loop_finds(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 9))
    pool = units(data.draw(st.integers(0, 99)), 6, size)  # few vectors: equal scores are common
    index, rows = ExactIndex(size), dict[str, list[NDArray[np.float32]]]()
    names = st.sampled_from(["a", "b", "c", "ä", "🙂", "z/1", *map(str, range(6))])
    for _ in range(data.draw(st.integers(0, 25))):
        name = data.draw(names)
        if data.draw(st.integers(0, 3)) == 0:
            assert index.remove(name) == len(rows.pop(name, []))
        else:
            chosen = pool[data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))]
            index.append([name] * len(chosen), chosen)
            rows.setdefault(name, []).extend(chosen)
    assert len(index) == sum(map(len, rows.values()))
    probes = np.concatenate([pool, units(7, 2, size)])
    limit = data.draw(st.integers(1, 14))
    threshold = data.draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
    for probe, found in zip(probes, index.view().search(probes, limit, threshold), strict=True):
        expected = by_loop(rows, probe)
        # The loop rounds once, the index sums in float64: a score may differ in its last bit.
        assert all(score == pytest.approx(expected[name], abs=1.2e-7) for name, score in found)
        assert found == sorted(found, key=lambda hit: (-hit[1], hit[0]))
        assert all(score >= threshold for _, score in found)
        surely = [name for name, score in expected.items() if score >= threshold + 1e-6]
        assert min(len(surely), limit) <= len(found) <= limit
        if found and len(found) == limit:
            worst = found[-1][1]
            named = {name for name, _ in found}
            assert all(
                score <= worst + 1e-6 for name, score in expected.items() if name not in named
            )


def test_the_rows_of_a_subject_are_found_wherever_they_are() -> None:
    """Of each subject there are rows in several chunks, which removals move."""
    index, rows = ExactIndex(3), units(4, 60, 3)
    for start in range(0, 60, 6):
        index.append([f"s{n % 4}" for n in range(start, start + 6)], rows[start : start + 6])
    index.append(["gone", "one"], units(5, 2, 3))
    for name in ("s2", "gone"):
        index.remove(name)
    view = index.view()
    for n in (0, 1, 3):
        found = view.rows_of(f"s{n}")
        assert found is not None
        assert sorted(map(tuple, found)) == sorted(map(tuple, rows[n::4]))
    one = view.rows_of("one")
    assert one is not None
    assert one.shape == (1, 3)
    assert view.rows_of("gone") is view.rows_of("s2") is None
    assert ExactIndex(3).view().rows_of("one") is None


def test_equal_scores_are_ordered_by_subject_id_beyond_the_limit() -> None:
    index = ExactIndex(8)
    row = units(1, 1, 8)
    for name in map(str, np.random.default_rng(0).permutation(40)):
        index.append([name], row)
    found = index.view().search(row, 7, 0.9)[0]
    assert [name for name, _ in found] == sorted(map(str, range(40)))[:7]


def test_a_view_is_not_disturbed_by_what_comes_later() -> None:
    index = ExactIndex(8)
    rows = units(2, 23, 8)
    index.append([f"s{i:02}" for i in range(23)], rows)
    view = index.view()
    before = view.search(rows, 23, -1.0)
    for i in range(0, 23, 2):
        index.remove(f"s{i:02}")
    index.append([f"new{i:02}" for i in range(12)], units(3, 12, 8))
    assert view.search(rows, 23, -1.0) == before


def test_a_removed_row_is_nowhere_in_the_index() -> None:
    index = ExactIndex(16)
    rows = units(4, 33, 16)
    index.append([f"s{i:02}" for i in range(33)], rows)
    for i in range(33):
        index.remove(f"s{i:02}")
        kept = b"".join(chunk.tobytes() for chunk in index._rows._chunks)
        assert rows[i].tobytes() not in kept
        assert all(rows[k].tobytes() in kept for k in range(i + 1, 33))
    assert index.view().search(rows[:1], 3, -1.0) == [[]]


def test_real_sizes_agree_with_float64_and_do_not_depend_on_the_batch() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "CHUNK_ROWS", 4096)
        patch.setattr(index_module, "_PROBE_TILE", 256)
        index = ExactIndex(128)
        rows = units(5, 9000, 128)
        index.append([f"s{i // 2:04}" for i in range(9000)], rows)
        probes = units(6, 300, 128)
        together = index.view().search(probes, 10, -1.0)
        alone = [index.view().search(probes[i : i + 1], 10, -1.0)[0] for i in range(0, 300, 20)]
    assert together[::20] == alone
    exact = (
        (probes.astype(np.float64) @ rows.astype(np.float64).T).reshape(300, 4500, 2).max(axis=2)
    )
    for found, scores in zip(together, exact, strict=True):
        best = np.argsort(-scores, kind="stable")[:10]
        assert [name for name, _ in found] == [f"s{i:04}" for i in best]
        assert np.allclose([score for _, score in found], scores[best], atol=1e-7)


@pytest.mark.parametrize("cores", [1, 2, 3, 64])
@pytest.mark.parametrize("probes", [1, 2, 3, 7])
def test_the_answer_does_not_depend_on_how_many_threads_scan(
    monkeypatch: pytest.MonkeyPatch, cores: int, probes: int
) -> None:
    monkeypatch.setattr(index_module, "available_cpus", lambda: cores)
    rows = units(3, 67, 16)
    index = ExactIndex(16)
    index.append([f"{n % 40}" for n in range(67)], rows)
    asked = units(4, probes, 16)
    for limit, threshold in ((1, -1.0), (5, -1.0), (40, 0.1), (100, -1.0)):
        found = index.view().search(asked, limit, threshold)
        for probe, hits in zip(asked, found, strict=True):
            theirs: dict[str, list[NDArray[np.float32]]] = {}
            for n, row in enumerate(rows):
                theirs.setdefault(f"{n % 40}", []).append(row)
            wanted = sorted(by_loop(theirs, probe).items(), key=lambda hit: (-hit[1], hit[0]))
            wanted = [hit for hit in wanted if hit[1] >= threshold][:limit]
            assert [name for name, _ in hits] == [name for name, _ in wanted]
            assert [s for _, s in hits] == pytest.approx([s for _, s in wanted], abs=1e-6)


def test_an_error_in_a_scanning_thread_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "available_cpus", lambda: 2)
    index = ExactIndex(16)
    index.append([f"{n}" for n in range(67)], units(3, 67, 16))
    monkeypatch.setattr(index_module, "few_products", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index.view().search(units(4, 1, 16), 1, -1.0)
