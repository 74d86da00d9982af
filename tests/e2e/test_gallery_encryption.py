"""``gallery encrypt`` and ``rotate-key`` under ``kill -9``, and while another process enrols."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.gallery.files import file_bytes, reopen, run_python, templates, units
from verifykit.errors import GalleryKeyError
from verifykit.gallery import encrypt_gallery

PEOPLE = 400
KEYS = [bytes([number]) * 32 for number in range(3)]

# One process that has paid for its imports forks those that are killed, until one of them gets through.
# Between two of them somebody is enrolled, somebody gets another template, and somebody is removed.
SEAL_UNTIL_DONE = """
    import random, signal, sys, time
    from verifykit.gallery import encrypt_gallery
    from verifykit.gallery.sqlite import rekey
    from tests.e2e.test_gallery_encryption import KEYS

    rekey._BATCH = 20
    seed, old, new = int(sys.argv[2]), *(KEYS[int(n)] if n != "-" else None for n in sys.argv[3:5])
    chance, kills, longest = random.Random(seed), 0, 0.03
    while True:
        child = os.fork()
        if child == 0:
            encrypt_gallery(PATH, new, old_key=old, timeout_s=60)
            os._exit(0)
        time.sleep(chance.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        try:
            with reopen(PATH, key=old, read_only=True) as gallery:
                assert gallery.check() == []
        except GalleryError:
            break  # it is encrypted; or the kill came between that and the end
        assert status == signal.SIGKILL, status
        kills += 1
        longest *= 1.15
        with reopen(PATH, key=old) as gallery:
            gallery.add(f"between-{kills}", templates(5000 + kills))
            gallery.add(f"s{10 + kills}", templates(6000 + kills))
            gallery.remove(f"s{100 + kills}")
    print(kills)
"""


def encrypt_until_done(path: Path, seed: int, old: int | None, new: int) -> int:
    code = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from tests.unit.gallery.files import reopen, templates
        from verifykit.errors import GalleryError
        PATH = Path(sys.argv[1])
        """
    )
    said = [str(path), str(seed), "-" if old is None else str(old), str(new)]
    run = subprocess.run(
        [sys.executable, "-c", code + textwrap.dedent(SEAL_UNTIL_DONE), *said],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def require_people(path: Path, key: bytes, kills: int) -> None:
    with reopen(path, key=key) as gallery:
        assert gallery.check() == []
        removed = {f"s{101 + i}" for i in range(kills)}
        new = {f"between-{1 + i}" for i in range(kills)}
        assert set(gallery.subject_ids()) == {f"s{i}" for i in range(PEOPLE)} - removed | new
        for i in range(0, PEOPLE, 7):
            if f"s{i}" not in removed:
                theirs = [t.embedding.tobytes() for t in gallery.get(f"s{i}").templates]
                wanted = [row.tobytes() for row in units(i, 2)]
                if 10 < i <= 10 + kills:
                    wanted += [row.tobytes() for row in units(6000 + i - 10, 1)]
                assert theirs == wanted
                assert gallery.get(f"s{i}").metadata == {"n": i}
        for i in range(kills):
            found = gallery.search(units(5001 + i, 1), 1, 0.99)[0]
            assert [each.subject_id for each in found] == [f"between-{1 + i}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork and SIGKILL")
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 12))]
)
def test_killed_at_any_moment_it_is_what_it_was_and_the_next_run_goes_on(
    tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "staff.db"
    with reopen(path) as gallery:
        for i in range(PEOPLE):
            gallery.add(f"s{i}", templates(i, 2), {"n": i})
    kills = first = encrypt_until_done(path, seed, None, 0)
    report = encrypt_gallery(path, KEYS[0])  # empties the log, if the last kill came before that
    assert report.already
    require_people(path, KEYS[0], kills)
    assert not [i for i in range(PEOPLE) if units(i, 2).tobytes()[16:32] in file_bytes(path)]
    with pytest.raises(GalleryKeyError):
        reopen(path)
    with reopen(path, key=KEYS[0]) as gallery:  # as it was, for the next
        for name in [name for name in gallery.subject_ids() if name.startswith("between")]:
            gallery.remove(name)
        for i in range(kills):
            gallery.remove(f"s{11 + i}")
            gallery.add(f"s{11 + i}", templates(11 + i, 2), {"n": 11 + i})
            gallery.add(f"s{101 + i}", templates(101 + i, 2), {"n": 101 + i})
    kills = encrypt_until_done(path, 100 + seed, 0, 1)
    encrypt_gallery(path, KEYS[1], old_key=KEYS[0])
    require_people(path, KEYS[1], kills)
    assert first + kills > 4, "hardly any kill came before the end"


WRITE_AND_SEAL = """
    import time
    from multiprocessing import get_context
    from tests.e2e.test_gallery_encryption import KEYS
    from verifykit.errors import GalleryKeyError
    from verifykit.gallery import encrypt_gallery
    from verifykit.gallery.sqlite import rekey

    rekey._BATCH = 50
    context = get_context("fork")
    encrypted, counts = context.Value("q", 0), [context.Value("q", 0) for _ in range(2)]

    def key():
        return KEYS[encrypted.value - 1] if encrypted.value else None

    def opened():
        while True:
            try:
                return reopen(PATH, timeout_s=60, key=key() and key)
            except GalleryKeyError:  # encrypted, and the key is not told yet
                pass

    def write(number):
        gallery, i = opened(), 0
        while encrypted.value <= len(KEYS):
            try:
                gallery.add(f"w{number}-{i}", templates(10**5 * number + i), {"n": i})
            except GalleryKeyError:  # not stored: again, with the key that is right by now
                gallery.close()
                gallery = opened()
                continue
            i += 1
            counts[number].value = i
            time.sleep(0.003)
        gallery.close()

    with reopen(PATH) as gallery:
        for i in range(300):
            gallery.add(f"s{i}", templates(i))
    writers = [context.Process(target=write, args=(n,), daemon=True) for n in range(2)]
    [writer.start() for writer in writers]
    for number in range(len(KEYS) + 1):
        until = [count.value + 5 for count in counts]  # both write before, between, and afterwards
        while any(count.value < least for count, least in zip(counts, until)):
            time.sleep(0.01)
        if number < len(KEYS):
            old = KEYS[number - 1] if number else None
            encrypt_gallery(PATH, KEYS[number], old_key=old, timeout_s=60)
        encrypted.value = number + 1
    [writer.join() for writer in writers]
    assert [writer.exitcode for writer in writers] == [0, 0]
    print(*(count.value for count in counts))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork")
def test_what_other_processes_enrol_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "staff.db"
    counts = list(map(int, run_python(WRITE_AND_SEAL, path).split()))
    assert len(counts) == 2
    with reopen(path, key=KEYS[2]) as gallery:
        assert gallery.check() == []
        wanted = {f"s{i}" for i in range(300)}
        for number, count in enumerate(counts):
            assert count >= 20
            wanted |= {f"w{number}-{i}" for i in range(count)}
            for i in range(count):
                (template,) = gallery.get(f"w{number}-{i}").templates
                assert template.embedding.tobytes() == units(10**5 * number + i, 1).tobytes()
        assert set(gallery.subject_ids()) == wanted
