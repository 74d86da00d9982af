"""The 8-bit copy: its bound, that it changes no answer, and that it follows every change."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from verifykit import _cpus
from verifykit.errors import ProviderError
from verifykit.gallery import coarse as coarse_module
from verifykit.gallery import index as index_module
from verifykit.gallery.coarse import CoarseChunk, CoarseProbes, integer_product, quantised
from verifykit.gallery.index import ExactIndex, IndexView, RowStore
from verifykit.scoring import LONGEST_ROW, unit_rows

Rows = NDArray[np.float32]
Found = list[list[tuple[str, float]]]


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    """Chunks of 70 rows, which no block divides, and a copy from the first row on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "CHUNK_ROWS", 70)
        patch.setattr(index_module, "CHUNKS_A_WORKER", 1)
        patch.setattr(index_module, "COARSE_FROM_VALUES", 1)
        yield


def margin(size: int) -> float:
    return (size + 8) * LONGEST_ROW * 2.0**-23


def float32_search(view: IndexView, probes: Rows, limit: int, threshold: float) -> Found:
    """Search the same rows without their 8-bit copy."""
    bare = IndexView(view.embedding_size, view.chunk_rows, view.chunks, view.slots, view.ids)
    assert view.coarse
    return bare.search(probes, limit, threshold)


@st.composite
def adversarial_rows(draw: st.DrawFn, size: int) -> Rows:
    """Rows of length up to 4: noise, one large value, zeros, denormal numbers, ties of rounding, copies."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds: dict[str, Callable[[], NDArray[Any]]] = {
        "noise": lambda: generator.normal(size=size),
        "one value": lambda: np.eye(size)[generator.integers(size)],
        "a spike in noise": lambda: generator.normal(size=size) / 127 + np.eye(size)[0],
        "zeros": lambda: np.zeros(size),
        "denormal": lambda: generator.normal(size=size) * 1e-41,
        "tiny": lambda: generator.normal(size=size) * 1e-29,
        # Halves between two integers leave the most.
        "halves": lambda: np.where(
            np.arange(size) == 0, 127.0, generator.integers(-127, 127, size) + 0.5
        ),
        "signs": lambda: generator.choice([-1.0, 1.0], size),
    }
    length = st.sampled_from([1.0, 1.0, 0.3, LONGEST_ROW])
    rows = []
    for kind in draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=90)):
        row = kinds[kind]()
        if kind not in ("zeros", "denormal", "tiny"):
            row *= draw(length) / np.linalg.norm(row)
        rows += [row] * draw(st.sampled_from([1, 1, 1, 3]))
    return np.array(rows, np.float32)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_product_is_further_than_its_bound(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 2, 3, 16, 63, 128, 300]))
    rows = data.draw(adversarial_rows(size))
    own = data.draw(adversarial_rows(size))
    own = own[np.linalg.norm(own.astype(np.float64), axis=1) > 1e-20]
    probes = np.concatenate([unit_rows(own), unit_rows(np.ones((1, size)))])[:5]
    chunk = CoarseChunk(len(rows), size)
    chunk.write(0, rows)
    product = integer_product(size)
    assert product is not None
    coarse = CoarseProbes(probes, product, margin(size))
    here = slice(0, len(rows))
    near = coarse.products(chunk, here)
    exact = probes.astype(np.float64) @ rows.astype(np.float64).T
    # By how much the index' own float32 product may be off.
    own_error = size * 2.0**-24 * np.linalg.norm(rows.astype(np.float64), axis=1)
    for n in range(len(probes)):
        upper = coarse.upper(n, near[n], chunk, here)
        assert (exact[n] + own_error <= upper).all()
        assert (probes[n] @ rows.T <= upper).all()
        assert (upper <= near[n].max() + coarse.largest_errors(chunk)[n] + 1e-6).all()
        lower = 2.0 * near[n].astype(np.float64) - upper
        assert (exact[n] - own_error >= lower - 1e-6).all()


def test_the_bound_is_narrow_enough_to_rule_rows_out() -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(1000, 128)))
    own = quantised(rows)
    assert 0.003 < np.median(own.residues) < 0.009
    # A bound that ignores what was left would be wrong here.
    left = rows.astype(np.float64) - own.values * own.scales[:, None].astype(np.float64)
    assert (np.linalg.norm(left, axis=1) <= own.residues).all()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_it_finds_what_the_float32_search_finds_to_the_last_bit(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 2, 16, 128]))
    rows = data.draw(adversarial_rows(size))
    index = ExactIndex(size)
    a_subject = data.draw(st.integers(1, 4))
    index.append([f"s{(i * 7919) % 101 // a_subject}" for i in range(len(rows))], rows)
    for i in data.draw(st.lists(st.integers(0, 100), max_size=4)):
        index.remove(f"s{i}")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    usable = unit_rows(np.concatenate([rows[lengths > 1e-20], np.ones((1, size), np.float32)]))
    probes = usable[: data.draw(st.sampled_from([1, 2, 5]))]
    limit = data.draw(st.sampled_from([1, 3, len(rows) + 5]))
    threshold = data.draw(st.sampled_from([-1.0, -0.2, 0.0, 0.42, 0.999, 1.0]))
    view = index.view()
    if len(index):
        expected = float32_search(view, probes, limit, threshold)
        assert view.search(probes, limit, threshold) == expected


@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.02, 0.3])
@pytest.mark.parametrize("threshold", [-1.0, 0.42])
def test_near_neighbours_are_told_apart(spread: float, threshold: float) -> None:
    generator = np.random.default_rng(1)
    centres = np.repeat(generator.normal(size=(4, 64)), 300, axis=0)
    rows = unit_rows(centres + spread * generator.normal(size=centres.shape))
    index = ExactIndex(64)
    index.append([f"s{i:04}" for i in generator.permutation(len(rows))], rows)
    view = index.view()
    for probes in (rows[:1], rows[::240], rows[::50]):
        for limit in (1, 10, 400):
            expected = float32_search(view, probes, limit, threshold)
            assert view.search(probes, limit, threshold) == expected
            assert expected[0]


def test_the_copy_rules_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "CHUNK_ROWS", 1000)
    rows = unit_rows(np.random.default_rng(2).normal(size=(2000, 128)))
    index = ExactIndex(128)
    index.append([f"s{i}" for i in range(2000)], rows)
    monkeypatch.setattr(index_module, "available_cpus", lambda: 1)
    read = []
    products = index_module.few_products

    def noted(probes: Rows, rows: Rows) -> Rows:
        read.append(len(rows))
        return products(probes, rows)

    monkeypatch.setattr(index_module, "few_products", noted)
    assert [name for name, _ in index.view().search(rows[:1], 5, 0.5)[0]] == ["s0"]
    assert sum(read) < 20
    read.clear()
    index.view().search(rows[:1], 5, -1.0)
    assert sum(read) < 400


def test_where_it_rules_out_little_the_rest_is_read_as_float32() -> None:
    row = unit_rows(np.random.default_rng(3).normal(size=(1, 32)))
    index = ExactIndex(32)
    index.append([f"s{i:04}" for i in range(1000)], np.repeat(row, 1000, axis=0))
    view = index.view()
    view.coarse[-1].values[:] = 0  # never looked at: the scan gave up before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "available_cpus", lambda: 1)
        found = view.search(row, 1000, 0.9)[0]
    assert [name for name, _ in found] == [f"s{i:04}" for i in range(1000)]


def test_it_follows_growth_and_removal() -> None:
    store = RowStore(8)
    generator = np.random.default_rng(4)
    for step in range(40):
        rows = unit_rows(generator.normal(size=(int(generator.integers(1, 40)), 8)))
        store.append(np.full(len(rows), step), rows)
        before = store.coarse()
        kept = [chunk.values.tobytes() for chunk in before[:-1]]
        if step % 3 == 2:
            store.remove(int(generator.integers(step)))
            assert [
                chunk.values.tobytes() for chunk in before[:-1]
            ] == kept  # views read them still
        for (held, _), chunk in zip(store.used(), store.coarse(), strict=True):
            rebuilt = CoarseChunk(store.chunk_rows, 8)
            rebuilt.write(0, held)
            assert np.array_equal(chunk.values, rebuilt.values)  # and nothing of a removed row
            for mine, theirs in zip(chunk.columns(), rebuilt.columns(), strict=True):
                assert np.array_equal(mine, theirs)
            assert chunk.longest >= rebuilt.longest
            assert chunk.largest_residue >= rebuilt.largest_residue


def test_a_small_gallery_has_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "COARSE_FROM_VALUES", 1000)
    store = RowStore(8)
    store.append(np.zeros(124, np.int64), unit_rows(np.ones((124, 8))))
    assert store.coarse() == ()
    store.append(np.zeros(1, np.int64), unit_rows(np.ones((1, 8))))
    assert len(store.coarse()) == 2


def test_without_an_exact_product_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saturating:
        def run(self, left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int64]:
            pairs = left.astype(np.int64)[None, :, :, None] * right.astype(np.int64)[:, None]
            summed = pairs[:, :, ::2] + pairs[:, :, 1::2]
            products: NDArray[np.int64] = np.clip(summed, -32768, 32767).sum(axis=2)
            return products

    def missing() -> None:
        raise ProviderError("onnxruntime is not installed")

    rows = unit_rows(np.random.default_rng(5).normal(size=(300, 10)))
    for product in (Saturating, missing):
        monkeypatch.setattr(coarse_module, "IntegerProduct", product)
        integer_product.cache_clear()
        try:
            assert integer_product(10) is None
            index = ExactIndex(10)
            index.append([f"{i:03}" for i in range(300)], rows)
            view = index.view()
            assert view.coarse == ()
            assert view.search(rows[7:8], 1, 0.5)[0][0][0] == "007"
        finally:
            integer_product.cache_clear()


def test_a_view_is_copied_for_another_process_with_its_8_bit_rows() -> None:
    rows = unit_rows(np.random.default_rng(6).normal(size=(300, 16)))
    index = ExactIndex(16)
    index.append([f"{i:03}" for i in range(300)], rows)
    view = index.view()
    again = copy.deepcopy(view)  # by the protocol of pickle
    assert again.coarse
    assert again.search(rows[:3], 4, -1.0) == view.search(rows[:3], 4, -1.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_searches_with_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "available_cpus", lambda: 3)
    rows = unit_rows(np.random.default_rng(7).normal(size=(900, 16)))
    index = ExactIndex(16)
    index.append([f"{i:03}" for i in range(900)], rows)
    expected = index.view().search(rows[:2], 4, -1.0)
    assert _cpus.pools
    child = os.fork()
    if not child:
        fresh = not _cpus.pools
        os._exit(0 if fresh and index.view().search(rows[:2], 4, -1.0) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert index.view().search(rows[:2], 4, -1.0) == expected


def test_threads_are_kept_from_one_search_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "available_cpus", lambda: 3)
    rows = unit_rows(np.random.default_rng(8).normal(size=(900, 16)))
    index = ExactIndex(16)
    index.append([f"{i:03}" for i in range(900)], rows)
    index.view().search(rows[:1], 4, -1.0)
    pools = dict(_cpus.pools)
    index.view().search(rows[:1], 4, -1.0)
    assert _cpus.pools == pools
    assert pools
