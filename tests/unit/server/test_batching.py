"""The batcher gives every caller what `encode` gives it alone, with fewer runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.fake_encoder import encode
from tests.helpers.fake_encoder import solid_image as picture
from verifykit.encoder import Encoder
from verifykit.errors import ModelContractError
from verifykit.extraction import SampleOptions
from verifykit.server.batching import Batcher
from verifykit.types import Embeddings, Image


class Gated:
    """`encode`, whose first run lasts until the gate is opened; remembers the size of each run."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.running, self.gate = threading.Event(), threading.Event()

    def __call__(self, crops: Sequence[Image]) -> Embeddings:
        self.sizes.append(len(crops))
        if len(self.sizes) == 1:
            self.running.set()
            assert self.gate.wait(30)
        if any(crop[0, 0, 0] == 13 for crop in crops):
            raise ModelContractError("a row that is not finite")
        return encode(crops)


def _waiting(batcher: Batcher, count: int) -> None:
    """Until so many calls wait."""
    with batcher._changed:
        assert batcher._changed.wait_for(lambda: len(batcher._waiting) == count, timeout=30)


def test_calls_that_come_during_a_run_share_the_next() -> None:
    gated = Gated()
    batcher = Batcher(gated, size=4)
    crops = [[picture(i, 0, 0)] for i in range(1, 5)]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.encode, crops[0])
        assert gated.running.wait(30)
        others = [pool.submit(batcher.encode, own) for own in crops[1:]]
        _waiting(batcher, 3)
        gated.gate.set()
        answers = [first.result(30), *(other.result(30) for other in others)]
    assert gated.sizes == [1, 3]
    for own, rows in zip(crops, answers, strict=True):
        np.testing.assert_array_equal(rows, encode(own))


def test_a_run_takes_whole_calls_and_no_more_than_its_size() -> None:
    gated = Gated()
    batcher = Batcher(gated, size=4)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(batcher.encode, [picture(1, 0, 0)])]
        assert gated.running.wait(30)
        for waiting, count in enumerate((3, 2, 6, 1), start=1):
            crops = [picture(2, i, count) for i in range(count)]
            futures.append(pool.submit(batcher.encode, crops))
            _waiting(batcher, waiting)
        gated.gate.set()
        answers = [future.result(30) for future in futures]
    assert gated.sizes == [1, 3, 2, 6, 1]
    assert [len(rows) for rows in answers] == [1, 3, 2, 6, 1]


def test_one_callers_error_is_not_anothers() -> None:
    gated = Gated()
    batcher = Batcher(gated, size=4)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher.encode, [picture(1, 0, 0)])
        assert gated.running.wait(30)
        good = [pool.submit(batcher.encode, [picture(i, 0, 0)]) for i in (2, 3)]
        bad = pool.submit(batcher.encode, [picture(13, 0, 0)])
        _waiting(batcher, 3)
        gated.gate.set()
        with pytest.raises(ModelContractError, match="not finite"):
            bad.result(30)
        for future, red in ((first, 1), *zip(good, (2, 3), strict=True)):
            np.testing.assert_array_equal(future.result(30), encode([picture(red, 0, 0)]))
    assert gated.sizes[:2] == [1, 3]
    np.testing.assert_array_equal(batcher.encode([picture(9, 0, 0)]), encode([picture(9, 0, 0)]))


def test_the_first_caller_waits_for_those_who_are_coming_but_not_for_ever() -> None:
    sizes: list[int] = []
    batcher = Batcher(encode, size=2, wait_s=30.0, on_batch=sizes.append)
    with ThreadPoolExecutor(2) as pool, batcher.coming():
        first = pool.submit(batcher.encode, [picture(1, 0, 0)])
        _waiting(batcher, 1)
        second = pool.submit(batcher.encode, [picture(2, 0, 0)])
        assert len(first.result(20)) == len(second.result(20)) == 1
    assert sizes == [2]

    impatient = Batcher(encode, size=2, wait_s=0.01, on_batch=sizes.append)
    with impatient.coming():
        assert len(impatient.encode([picture(1, 0, 0)])) == 1
    assert sizes == [2, 1]


@pytest.mark.parametrize("runs", [1, 3])
def test_many_threads_get_their_own_rows(runs: int) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counted(crops: Sequence[Image]) -> Embeddings:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        rows = encode(crops)
        with lock:
            running -= 1
        return rows

    batcher = Batcher(counted, size=4, runs=runs)
    calls = [[picture(i % 200, i // 200, j) for j in range(1 + i % 3)] for i in range(600)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(batcher.encode, calls))
    for crops, rows in zip(calls, answers, strict=True):
        np.testing.assert_array_equal(rows, encode(crops))
    assert most <= runs
    assert batcher.encode([picture(1, 1, 1)]).shape == (1, 4)


def test_rows_of_a_real_model_do_not_depend_on_the_company(
    face_model: Path, pictures: dict[str, bytes]
) -> None:
    encoder = Encoder.open(face_model, threads=1)
    crops = [
        encoder.extractor.samples(pictures[name], SampleOptions(quality="warn"))[0].crop
        for name in ("person_a_1", "person_a_2", "person_b_1", "obama")
    ]
    batcher = Batcher(encoder.encode, size=4)
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(lambda crop: batcher.encode([crop])[0], crops * 4))
    alone = [encoder.encode([crop])[0] for crop in crops]
    np.testing.assert_allclose(np.stack(shared), np.stack(alone * 4), rtol=0, atol=2e-6)
