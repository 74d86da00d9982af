"""Processes that search while another enrols: no error, nothing stale, nothing torn, nothing read twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.gallery.files import reopen, run_python, templates, units
from verifykit.gallery import SqliteGallery

READERS = 4

# `said` is the number of the last subject whose enrolment has returned. A reader takes it down before it
# searches: all of these must be found, whole. A subject's second template differs from the first.
SEARCH_WHILE_ENROLLING = """
    import random
    import time
    from multiprocessing import get_context

    count, readers = {count}, {readers}
    context = get_context("fork")
    said, progress = context.Value("q", -1), context.Array("q", readers)

    def read(number, pipe):
        chance, searches = random.Random(number), 0
        with reopen(PATH, key={key}, read_only=True, timeout_s=60) as gallery:
            while True:
                known = said.value
                if known < 0:
                    continue
                who = [known, *(chance.randrange(known + 1) for _ in range(3))]
                found = gallery.search(np.concatenate([units(i, 2) for i in who]), 2, 0.9)
                assert [[(c.subject_id, c.metadata) for c in each] for each in found] == [
                    [(f"s{{i}}", {{"n": i}})] for i in who for _ in range(2)
                ], (known, who, found)
                assert gallery.search(units(10**7 + number, 1), 1, 0.9) == [[]]
                i = chance.choice(who)
                stored = np.stack([t.embedding for t in gallery.get(f"s{{i}}").templates])
                assert stored.tobytes() == units(i, 2).tobytes()
                assert len(gallery) >= known + 1
                searches += 1
                progress[number] = searches
                if known == count - 1:
                    pipe.send(searches)
                    return

    with reopen(PATH, key={key}) as gallery:
        pass
    pipes = [context.Pipe(duplex=False) for _ in range(readers)]
    processes = [
        context.Process(target=read, args=(number, pipe[1])) for number, pipe in enumerate(pipes)
    ]
    [process.start() for process in processes]
    with reopen(PATH, key={key}, timeout_s=60) as gallery:
        for i in range(count):
            gallery.add(f"s{{i}}", templates(i, 2), {{"n": i}})
            said.value = i
            if i % (count // 10) == 0:  # on a busy machine the readers would hardly come to read
                seen = list(progress)
                while any(now <= then for now, then in zip(progress, seen)):
                    assert all(process.is_alive() for process in processes)
                    time.sleep(0.001)
    [process.join() for process in processes]
    assert [process.exitcode for process in processes] == [0] * readers
    print(*(pipe[0].recv() for pipe in pipes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("key", [None, bytes(32)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_four_processes_search_while_one_enrols(
    tmp_path: Path, count: int, key: bytes | None
) -> None:
    path = tmp_path / "staff.gallery"
    code = SEARCH_WHILE_ENROLLING.format(count=count, readers=READERS, key=key)
    searches = list(map(int, run_python(code, path, timeout_s=1400).split()))
    assert len(searches) == READERS
    assert min(searches) > 5, "the readers hardly came to read"
    with reopen(path, key=key) as gallery:
        assert gallery.check() == []
        assert len(gallery) == count


def test_a_search_reads_what_another_process_has_enrolled_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "staff.gallery"
    with reopen(path) as gallery:
        for i in range(200):
            gallery.add(f"s{i}", templates(i))
    with reopen(path, read_only=True) as reader:
        read = _count_what_is_read(reader)
        assert reader.search(units(7, 1), 1, 0.9)[0][0].subject_id == "s7"
        assert len(read) == 200
        read.clear()
        code = """
            with reopen(PATH) as gallery:
                gallery.add("new", templates(1000, 2))
                gallery.add("s3", templates(1001))
                gallery.remove("s4")
        """
        run_python(code, path)
        found = reader.search(units(1000, 2), 1, 0.9)
        assert [[c.subject_id for c in each] for each in found] == [["new"], ["new"]]
        assert sorted(read) == ["new", "new", "s3"]
        read.clear()
        assert reader.search(units(4, 1), 1, 0.9) == [[]]
        assert reader.search(units(1001, 1), 1, 0.9)[0][0].subject_id == "s3"
        assert read == []


def _count_what_is_read(gallery: SqliteGallery) -> list[str]:
    """Whose templates the gallery's index takes from the file, one entry a template."""
    read: list[str] = []
    original = gallery._index._embeddings

    def counting(blobs: list[object], subject_ids: list[str]) -> object:
        read.extend(subject_ids)
        return original(blobs, subject_ids)

    gallery._index._embeddings = counting  # type: ignore[method-assign, assignment]
    return read
